package socketapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/socketio"
	"github.com/buildcast/buildcast/internal/store"
)

// longLogs is a store of long logs of events of 1 KB. Each read allocates new
// events, as a database does.
type longLogs struct{}

const longLog = 20_000 // events

func (longLogs) ReadEvents(_ context.Context, id string, after int64, limit, maxBytes int) (events []buildcast.Event, _ error) {
	for size := 0; len(events) < limit && size < maxBytes && after < longLog; after++ {
		data := json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)
		size += len(data)
		events = append(events, buildcast.Event{ID: after + 1, BuildID: id, Type: buildcast.BuildLog, Data: data})
	}
	return events, nil
}

func (longLogs) Statuses(_ context.Context, ids []string) (map[string]buildcast.Status, error) {
	all := make(map[string]buildcast.Status)
	for _, id := range ids {
		all[id] = buildcast.Status{BuildID: id, Phase: buildcast.Executing, FirstEventID: 1, LastEventID: longLog}
	}
	return all, nil
}

func (longLogs) Bounds(_ context.Context, ids []string) (map[string]store.Bounds, error) {
	all := make(map[string]store.Bounds)
	for _, id := range ids {
		all[id] = store.Bounds{First: 1, Last: longLog}
	}
	return all, nil
}

// inUse returns the memory in use, in bytes.
func inUse() int64 {
	runtime.GC()
	runtime.GC() // empties pools too
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// pipeListener accepts connections in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l pipeListener) Close() error   { close(l.closed); return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// slowReader subscribes over the connection, and returns the reader of its updates.
type slowReader func(t *testing.T, conn net.Conn, subscribe string) io.Reader

func slowWebSocket(t *testing.T, conn net.Conn, subscribe string) io.Reader {
	d := ws.Dialer{NetDial: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	_, br, _, err := d.Dial(t.Context(), "ws://x/socket.io/?EIO=4&transport=websocket")
	if err != nil {
		t.Fatal(err)
	}
	if br == nil {
		br = bufio.NewReader(conn)
	}
	p := &peer{t: t, c: conn, r: br}
	p.receive("0{")
	p.send("40")
	p.receive("40{")
	p.send(subscribe)
	return br
}

func slowPolling(t *testing.T, conn net.Conn, subscribe string) io.Reader {
	br := bufio.NewReader(conn)
	ask := func(method, query, body string) string {
		_, _ = fmt.Fprintf(conn, "%s /socket.io/?EIO=4&transport=polling%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, query, len(body), body)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%d %s, %v", resp.StatusCode, answer, err)
		}
		return string(answer)
	}
	var opened struct{ Sid string }
	if err := json.Unmarshal([]byte(ask("GET", "", "")[1:]), &opened); err != nil {
		t.Fatal(err)
	}
	sid := "&sid=" + opened.Sid
	ask("POST", sid, "40")
	ask("GET", sid, "")
	ask("POST", sid, subscribe)
	_, _ = fmt.Fprintf(conn, "GET /socket.io/?EIO=4&transport=polling%s HTTP/1.1\r\nHost: x\r\n\r\n", sid)
	return br
}

// Invariant 5: slow readers cost nothing. 500 sockets at random positions of long
// logs read a little from time to time. Memory stays within 64 MB of the use without
// them. internal/httpapi has the same test for polls and streams.
func TestSlowReadersCostNothing(t *testing.T) {
	const readers, bound = 500, 64 << 20
	for name, open := range map[string]slowReader{"websocket": slowWebSocket, "polling": slowPolling} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := live.NewHub(longLogs{})
				sockets := New(hub, socketio.Config{})
				ctx, cancel := context.WithCancel(context.Background())
				listener := pipeListener{make(chan net.Conn), make(chan struct{})}
				server := &http.Server{Handler: sockets}
				var parts sync.WaitGroup
				parts.Go(func() { _ = hub.Run(ctx) })
				parts.Go(func() { _ = sockets.Run(ctx) })
				parts.Go(func() { _ = server.Serve(listener) })
				rest := inUse()
				random := rand.New(rand.NewPCG(3, 4))
				conns, updates := make([]net.Conn, readers), make([]io.Reader, readers)
				for i := range conns {
					var theirs net.Conn
					conns[i], theirs = net.Pipe()
					listener.conns <- theirs
					updates[i] = open(t, conns[i], fmt.Sprintf(`42["subscribe",{"buildId":"b%d","lastEventId":%d}]`, i%20, random.IntN(longLog-1000)))
				}
				small := make([]byte, 1<<10)
				for round := range 4 {
					for i, r := range updates {
						_ = conns[i].SetReadDeadline(time.Now().Add(time.Millisecond)) // some wait for room
						_, _ = r.Read(small)
					}
					synctest.Wait()
					if grown := inUse() - rest; grown > bound {
						t.Errorf("round %d: %d MiB more than without them, want 64 at most", round, grown>>20)
					}
				}
				for _, c := range conns {
					_ = c.Close()
				}
				cancel()
				_ = server.Close()
				parts.Wait()
			})
		})
	}
}
