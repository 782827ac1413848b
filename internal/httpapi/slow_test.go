package httpapi

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/store"
)

// longLogs is a store of long logs of events of 1 KB. Each read makes its events
// anew, as a database does.
type longLogs struct{ noise string }

const longLog = 20_000 // events

func newLongLogs() longLogs {
	random := rand.New(rand.NewPCG(1, 2))
	var noise strings.Builder
	for noise.Len() < 1<<20 {
		fmt.Fprintf(&noise, "%016x", random.Uint64())
	}
	return longLogs{noise.String()}
}

func (l longLogs) ReadEvents(_ context.Context, id string, after int64, limit, maxBytes int) (events []buildcast.Event, _ error) {
	for size := 0; len(events) < limit && size < maxBytes && after < longLog; after++ {
		at := int(after*977) % (len(l.noise) - 1000)
		data := []byte(`"` + l.noise[at:at+1000] + `"`)
		size += len(data)
		events = append(events, buildcast.Event{ID: after + 1, BuildID: id, Type: buildcast.BuildLog, Data: data})
	}
	return events, nil
}

func (l longLogs) Statuses(_ context.Context, ids []string) (map[string]buildcast.Status, error) {
	all := make(map[string]buildcast.Status)
	for _, id := range ids {
		all[id] = buildcast.Status{BuildID: id, Phase: buildcast.Executing, FirstEventID: 1, LastEventID: longLog}
	}
	return all, nil
}

func (l longLogs) Bounds(_ context.Context, ids []string) (map[string]store.Bounds, error) {
	all := make(map[string]store.Bounds)
	for _, id := range ids {
		all[id] = store.Bounds{First: 1, Last: longLog}
	}
	return all, nil
}

// inUse is the memory in use, in bytes.
func inUse() int64 {
	runtime.GC()
	runtime.GC() // empties pools too
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// Invariant 5: slow readers cost nothing. 500 readers at random places of long logs
// take a little now and then; memory stays within 64 MB of what it is without them.
// internal/socketapi has the same test for sockets.
func TestSlowReadersCostNothing(t *testing.T) {
	const readers, bound = 500, 64 << 20
	for name, request := range map[string]string{
		"poll":      "GET /api/builds/b%d/events?limit=1000&lastEventId=%d HTTP/1.1\r\nHost: x\r\n\r\n",
		"poll gzip": "GET /api/builds/b%d/events?limit=1000&lastEventId=%d HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n",
		"long poll": "GET /api/builds/b%d/events?limit=1000&wait=25s&lastEventId=%d HTTP/1.1\r\nHost: x\r\n\r\n",
		"sse":       "GET /events/b%d?lastEventId=%d HTTP/1.1\r\nHost: x\r\n\r\n",
		"sse gzip":  "GET /events/b%d?lastEventId=%d HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				logs := newLongLogs()
				hub := live.NewHub(logs)
				ctx, cancel := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { _ = hub.Run(ctx) })
				defer running.Wait()
				defer cancel()
				stopping, stop := context.WithCancel(t.Context())
				defer stop()
				handler := New(Config{Events: logs, Hub: hub, Logger: quiet(), Stopping: stopping})
				dial := pipeServer(t, handler)
				rest := inUse()
				random := rand.New(rand.NewPCG(3, 4))
				conns := make([]net.Conn, readers)
				served := 0
				for i := range conns {
					conns[i] = dial()
					_, _ = fmt.Fprintf(conns[i], request, i%20, random.IntN(longLog-1000))
				}
				small := make([]byte, 1<<10)
				for round := range 4 {
					for _, c := range conns {
						if _, err := io.ReadAtLeast(c, small, 15); err == nil && round == 0 && strings.HasPrefix(string(small), "HTTP/1.1 200") {
							served++
						}
					}
					synctest.Wait()
					if grown := inUse() - rest; grown > bound {
						t.Errorf("round %d: %d MiB more than without them, want 64 at most", round, grown>>20)
					}
				}
				if served < readers*2/3 {
					t.Errorf("%d of %d are served", served, readers)
				}
				for _, c := range conns {
					_ = c.Close()
				}
				synctest.Wait()
			})
		})
	}
}
