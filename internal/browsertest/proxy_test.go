package browsertest

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// fault is what a network does to requests on their way to the server.
type fault struct {
	delay           time.Duration // of requests, and of data on a WebSocket
	refuseWebSocket bool
	cutWebSocket    time.Duration // each WebSocket after this time; 0: never
	holdStreams     bool          // server-sent events never arrive; the connection stays open
	cutStreams      time.Duration // cuts each stream in the middle of the first write after this time; 0: never
	refuseStreams   bool
	refuseWaiting   bool // long polls
}

// network passes requests to the server, with the fault, and counts what it passes.
type network struct {
	fault
	host  string // of the server
	proxy *httputil.ReverseProxy

	sockets, streams, waiting atomic.Int64  // WebSockets, streams and long polls so far
	opened                    chan struct{} // one for each WebSocket
	lossy                     atomic.Bool   // data from the server on a WebSocket is lost, and so is all later data on it
	healed                    atomic.Bool   // no request is refused any longer
}

func newNetwork(t *testing.T, server string, f fault) *network {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	n := &network{fault: f, host: target.Host, proxy: httputil.NewSingleHostReverseProxy(target), opened: make(chan struct{}, 100)}
	n.proxy.FlushInterval = -1
	n.proxy.ErrorLog = log.New(io.Discard, "", 0) // drops the errors of deliberately cut connections
	return n
}

func (n *network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isSocket := strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
	isStream := strings.HasPrefix(r.URL.Path, "/events/")
	isWaiting := r.URL.Query().Has("wait")
	n.late()
	refused := isSocket && n.refuseWebSocket || isStream && n.refuseStreams || isWaiting && n.refuseWaiting
	switch {
	case refused && !n.healed.Load():
		http.Error(w, "the proxy refuses this", http.StatusForbidden)
		return
	case isSocket:
		n.tunnel(w, r)
		return
	case isStream && n.holdStreams:
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return
	case isStream:
		n.streams.Add(1)
		if n.cutStreams > 0 {
			w = &torn{w, time.Now().Add(n.cutStreams)}
		}
	case isWaiting:
		n.waiting.Add(1)
	}
	n.proxy.ServeHTTP(w, r)
}

// late waits for the fault's delay.
func (n *network) late() {
	if n.delay > 0 {
		<-time.After(n.delay)
	}
}

// connections returns how many lasting connections were opened: browsers allow six to
// a host.
func (n *network) connections() int64 {
	return n.sockets.Load() + n.streams.Load() + n.waiting.Load()
}

// torn is an answer that breaks, with its connection, in the middle of the first
// write after its time, whether it is compressed or not.
type torn struct {
	http.ResponseWriter
	at time.Time
}

func (t *torn) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *torn) Write(p []byte) (int, error) {
	if time.Now().Before(t.at) {
		return t.ResponseWriter.Write(p)
	}
	n, _ := t.ResponseWriter.Write(p[:len(p)/2])
	_ = http.NewResponseController(t.ResponseWriter).Flush()
	return n, errors.New("cut")
}

// tunnel passes a WebSocket on, and cuts it if the fault says so.
func (n *network) tunnel(w http.ResponseWriter, r *http.Request) {
	up, err := net.Dial("tcp", n.host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer up.Close()
	down, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer down.Close()
	var head bytes.Buffer
	r.Header.Set("Origin", "http://"+n.host) // as a proxy that serves one site does
	r.Host = n.host
	if err := r.Write(&head); err != nil {
		return
	}
	if _, err := up.Write(head.Bytes()); err != nil {
		return
	}
	if n.cutWebSocket > 0 {
		deadline := time.Now().Add(n.cutWebSocket)
		_ = up.SetDeadline(deadline)
		_ = down.SetDeadline(deadline)
	}
	n.sockets.Add(1)
	n.opened <- struct{}{}
	done := make(chan struct{}, 2)
	pass := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from)
		done <- struct{}{}
	}
	go pass(up, down)
	go pass(&faulty{Writer: down, network: n}, up)
	<-done
}

// faulty delays writes. It loses data that is written while the network is lossy, and
// all later data: such a connection is dead, but neither side notices.
type faulty struct {
	io.Writer
	network *network
	dead    bool
}

func (f *faulty) Write(p []byte) (int, error) {
	f.network.late()
	if f.dead = f.dead || f.network.lossy.Load(); f.dead {
		return len(p), nil
	}
	return f.Writer.Write(p)
}
