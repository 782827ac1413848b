package browsertest

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"
)

// fault is what a network does to requests on their way to the server.
type fault struct {
	refuseWebSocket bool
	cutWebSocket    time.Duration // each WebSocket after this time; 0: never
	holdStreams     bool          // server-sent events never arrive; the connection stays open
	refuseStreams   bool
	refuseWaiting   bool // long polls
}

// proxy passes requests to the server, with the fault.
func (f fault) proxy(t *testing.T, server string) http.Handler {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(target)
	pass.FlushInterval = -1
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		isSocket := strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
		isStream := strings.HasPrefix(r.URL.Path, "/events/")
		switch {
		case isSocket && f.refuseWebSocket, isStream && f.refuseStreams, f.refuseWaiting && r.URL.Query().Has("wait"):
			http.Error(w, "the proxy refuses this", http.StatusForbidden)
		case isStream && f.holdStreams:
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case isSocket:
			f.tunnel(w, r, target.Host)
		default:
			pass.ServeHTTP(w, r)
		}
	})
}

// tunnel passes a WebSocket, and cuts it where the fault says so.
func (f fault) tunnel(w http.ResponseWriter, r *http.Request, host string) {
	up, err := net.Dial("tcp", host)
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
	r.Header.Set("Origin", "http://"+host) // as a proxy that serves one site does
	r.Host = host
	if err := r.Write(&head); err != nil {
		return
	}
	if _, err := up.Write(head.Bytes()); err != nil {
		return
	}
	if f.cutWebSocket > 0 {
		deadline := time.Now().Add(f.cutWebSocket)
		_ = up.SetDeadline(deadline)
		_ = down.SetDeadline(deadline)
	}
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{up, down}, {down, up}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}
