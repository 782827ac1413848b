package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/httpapi"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/socketapi"
	"github.com/buildcast/buildcast/internal/socketio"
	"github.com/buildcast/buildcast/internal/store/sqlite"
)

// referenceBuild is Build 27: its events by second. Events of one second are
// appended together, as an Emitter does.
var referenceBuild = []struct {
	at    int
	types []string
}{
	{0, []string{"plan_started"}},
	{12, []string{"plan_generated", "task_started", "task_started", "task_started"}},
	{35, []string{"task_completed"}},
	{52, []string{"task_completed"}},
	{74, []string{"task_completed", "deploy_started"}},
	{75, []string{"build_started"}},
	{80, []string{"deploy_progress"}},
	{90, []string{"deploy_completed"}},
}

const referenceEvents = 12

// How many requests a client needs to follow a build of 90 s, for each transport.
func TestRequestsToFollowABuild(t *testing.T) {
	count := func(name string, follow func(*network)) int64 {
		var n int64
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { n = requestsOf(t, follow) })
			t.Logf("%s: %d requests", name, n)
		})
		return n
	}
	each := count("a poll each second", func(n *network) { n.poll("", time.Second) })
	if each < 90 {
		t.Fatalf("polling each second took %d requests for 90 s", each)
	}
	for name, follow := range map[string]func(*network){
		"server-sent events":       (*network).stream,
		"long polls":               func(n *network) { n.poll("&wait=25s", 0) },
		"Socket.IO over WebSocket": (*network).webSocket,
	} {
		if got := count(name, follow); got*10 > each {
			t.Errorf("%s took %d requests: at most a tenth of %d is promised", name, got, each)
		}
	}
	// Polling needs extra requests, because each ping is answered by a POST.
	if got := count("Socket.IO over polling", (*network).socketPolling); got*4 > each {
		t.Errorf("Socket.IO over polling took %d requests of %d", got, each)
	}
}

// requestsOf runs the build with a follower from its start.
func requestsOf(t *testing.T, follow func(*network)) int64 {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "b.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	hub := live.NewHub(db)
	log := eventlog.New(db, db, quiet)
	log.Subscribe(hub.Changed)
	sio := socketapi.New(hub, socketio.Config{})
	api := httpapi.New(httpapi.Config{
		Log: log, Builds: db, Events: db, Hub: hub, Ping: db.Ping, Logger: quiet,
	})
	n := &network{t: t, conns: make(chan net.Conn), closed: make(chan struct{})}
	web := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.requests.Add(1)
		if strings.HasPrefix(r.URL.Path, "/socket.io/") {
			sio.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})}
	ctx, cancel := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	for _, run := range []func(context.Context) error{log.Run, hub.Run, sio.Run} {
		parts.Go(func() { _ = run(ctx) })
	}
	parts.Go(func() { _ = web.Serve(n) })
	var building sync.WaitGroup
	building.Go(func() {
		begun := time.Now()
		for _, moment := range referenceBuild {
			<-time.After(time.Duration(moment.at)*time.Second - time.Since(begun))
			events := make([]buildcast.NewEvent, len(moment.types))
			for i, typ := range moment.types {
				events[i].Type = typ
			}
			if _, err := log.Append(ctx, "b27", 0, events...); err != nil {
				t.Error(err)
			}
		}
	})
	transport := &http.Transport{DialContext: n.dial}
	n.http = &http.Client{Transport: transport}
	follow(n)
	building.Wait()
	transport.CloseIdleConnections()
	_ = web.Close()
	cancel()
	parts.Wait()
	return n.requests.Load()
}

// network connects clients within the bubble, and counts their requests.
type network struct {
	t        *testing.T
	http     *http.Client
	requests atomic.Int64
	conns    chan net.Conn
	closed   chan struct{}
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}
func (n *network) Close() error   { close(n.closed); return nil }
func (n *network) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (n *network) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	n.conns <- far
	return near, nil
}

// ask returns the whole answer. If body is not empty, the request is a POST.
func (n *network) ask(path, body string) string {
	n.t.Helper()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(n.t.Context(), method, "http://pipes"+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	resp, err := n.http.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		n.t.Fatalf("%s: %d %s, %v", path, resp.StatusCode, all, err)
	}
	return string(all)
}

// poll polls for events until the last one, and pauses after each answer.
func (n *network) poll(more string, pause time.Duration) {
	for seen := int64(0); seen < referenceEvents; {
		var page struct{ LastEventID int64 }
		answer := n.ask(fmt.Sprintf("/api/builds/b27/events?lastEventId=%d%s", seen, more), "")
		if err := json.Unmarshal([]byte(answer), &page); err != nil {
			n.t.Fatal(err)
		}
		seen = page.LastEventID
		<-time.After(pause)
	}
}

func (n *network) stream() {
	if got := strings.Count(n.ask("/events/b27", ""), "data: {\"id\":"); got != referenceEvents {
		n.t.Errorf("%d events", got)
	}
}

const subscribe = `42["subscribe",{"buildId":"b27","lastEventId":0}]`

// seesEnd reports whether the packet is an update with the build's last event.
func seesEnd(packet string) bool {
	return strings.HasPrefix(packet, `42["update"`) && strings.Contains(packet, `"deploy_completed"`)
}

func (n *network) webSocket() {
	dialer := ws.Dialer{NetDial: n.dial}
	conn, buffered, _, err := dialer.Dial(n.t.Context(), "ws://pipes/socket.io/?EIO=4&transport=websocket")
	if err != nil {
		n.t.Fatal(err)
	}
	defer conn.Close()
	if buffered == nil {
		buffered = bufio.NewReader(conn)
	}
	answers := map[byte]string{'0': "40", '2': "3"} // to open, and to pings
	for {
		packet, err := wsutil.ReadServerText(struct {
			io.Reader
			io.Writer
		}{buffered, conn})
		if err != nil {
			n.t.Fatal(err)
		}
		if seesEnd(string(packet)) {
			return
		}
		answer := answers[packet[0]]
		if strings.HasPrefix(string(packet), "40") {
			answer = subscribe
		}
		if answer == "" {
			continue
		}
		if err := wsutil.WriteClientText(conn, []byte(answer)); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *network) socketPolling() {
	var open struct{ SID string }
	path := "/socket.io/?EIO=4&transport=polling"
	if err := json.Unmarshal([]byte(n.ask(path, "")[1:]), &open); err != nil {
		n.t.Fatal(err)
	}
	path += "&sid=" + open.SID
	n.ask(path, "40")
	for {
		for packet := range strings.SplitSeq(n.ask(path, ""), "\x1e") {
			switch {
			case seesEnd(packet):
				return
			case packet == "2":
				n.ask(path, "3")
			case strings.HasPrefix(packet, "40"):
				n.ask(path, subscribe)
			}
		}
	}
}
