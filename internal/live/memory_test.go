package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/store"
)

// longLogs is a store of finished logs with events of 1 KB. Each read allocates its
// events, as that of a database does.
type longLogs struct{ events int64 }

func (l longLogs) ReadEvents(_ context.Context, id string, after int64, limit, maxBytes int) ([]buildcast.Event, error) {
	var events []buildcast.Event
	for size := 0; len(events) < limit && size < maxBytes && after < l.events; after++ {
		data := json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)
		size += len(data)
		events = append(events, buildcast.Event{ID: after + 1, BuildID: id, Type: buildcast.BuildLog, Data: data})
	}
	return events, nil
}

func (l longLogs) Statuses(_ context.Context, ids []string) (map[string]buildcast.Status, error) {
	all := map[string]buildcast.Status{}
	for _, id := range ids {
		all[id] = buildcast.Status{BuildID: id, Phase: buildcast.Completed, FirstEventID: 1, LastEventID: l.events}
	}
	return all, nil
}

func (l longLogs) Bounds(_ context.Context, ids []string) (map[string]store.Bounds, error) {
	all := map[string]store.Bounds{}
	for _, id := range ids {
		all[id] = store.Bounds{First: 1, Last: l.events}
	}
	return all, nil
}

// heap returns the bytes of the heap that are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // empties pools too
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Fifty logs of 5 MB are replayed to readers of all transports, which stay. The
// batches that are kept for others, with their encodings, are within the hub's bound.
func TestReplayedLogsStayWithinTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := running(t, longLogs{5000}, time.Hour)
		rest := heap()
		for i := range 50 {
			c := h.Watch(fmt.Sprint("b", i), 0, nil)
			defer c.Close()
			for c.After() < 5000 {
				b := next(t, c)
				b.SSE()
				b.Deflated()
				b.Frame(func(b *Batch) Sized { return make(bytesFrame, b.Size()) })
			}
			if b, err := c.Take(t.Context()); b != nil || err != nil {
				t.Fatalf("after the end: %v, %v", b, err)
			}
		}
		time.Sleep(time.Second)
		if used := h.memory.used.Load(); used > hubBytes {
			t.Errorf("%d MiB are counted, the bound is %d", used>>20, hubBytes>>20)
		}
		if grown := heap() - rest; grown > hubBytes+4<<20 {
			t.Errorf("the heap has grown by %d MiB, the bound is %d", grown>>20, hubBytes>>20)
		}
	})
}

type bytesFrame []byte

func (f bytesFrame) Size() int { return len(f) }

// Readers that stop reading hold their last batches: small pieces, of which several
// hundred fit into the bound.
func TestReadersThatAreStuckHoldLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := running(t, longLogs{20_000}, time.Hour)
		rest := heap()
		stuck := 0
		for i := range 500 {
			c := h.Watch("a", int64(i*39), nil)
			defer c.Close()
			b, err := c.Take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if b != nil {
				stuck++
				b.SSE()
			}
		}
		if grown := heap() - rest; grown > hubBytes {
			t.Errorf("the heap has grown by %d MiB", grown>>20)
		}
		if stuck < 350 {
			t.Errorf("only %d of 500 readers got a batch", stuck)
		}
		if held := h.memory.held.Load(); held > heldBytes {
			t.Errorf("%d bytes are held, the bound is %d", held, heldBytes)
		}
	})
}

// Beyond the bound a reader that is behind waits until another releases memory.
func TestAReaderWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := running(t, longLogs{5000}, time.Hour)
		if err := h.Reserve(heldBytes); err != nil {
			t.Fatal(err)
		}
		if err := h.Reserve(1); buildcast.CodeOf(err) != buildcast.Overloaded {
			t.Errorf("beyond the bound: %v", err)
		}
		c := h.Watch("a", 0, nil)
		defer c.Close()
		got := make(chan *Batch, 1)
		go func() { got <- next(t, c) }()
		time.Sleep(10 * time.Second)
		if len(got) > 0 {
			t.Fatal("it did not wait")
		}
		h.Release(heldBytes)
		if b := <-got; b.First() != 1 {
			t.Errorf("it begins with %d", b.First())
		}
		c.Close()
		if used, held := h.memory.used.Load(), h.memory.held.Load(); used != 0 || held != 0 {
			t.Errorf("after the last watch %d bytes are counted, %d held", used, held)
		}
	})
}

// Readers that keep up share the newest batch, and never wait for room.
func TestThoseWhoKeepUpDoNotWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		c := h.Watch("a", 0, nil)
		defer c.Close()
		if _, err := c.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := h.Reserve(heldBytes); err != nil {
			t.Fatal(err)
		}
		defer h.Release(heldBytes)
		for range 3 {
			time.Sleep(time.Second)
			log.commit(h, "a", "x")
			at := time.Now()
			if next(t, c); time.Since(at) > 0 {
				t.Errorf("waited %v", time.Since(at))
			}
		}
	})
}

// A batch is bounded in bytes, from the store and from the tail.
func TestABatchIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := running(t, longLogs{5000}, time.Hour)
		c := h.Watch("a", 0, nil)
		defer c.Close()
		if b := next(t, c); b.Size() > batchBytes*5/4 || b.Size() < batchBytes*3/4 {
			t.Errorf("a batch from the store has %d bytes", b.Size())
		}

		log := &memoryLog{}
		h = running(t, log, time.Hour)
		c = h.WatchEagerly("a", 0)
		defer c.Close()
		status := buildcast.NewStatus("a", "", buildcast.Now())
		for id := int64(1); id <= 400; id++ {
			e := buildcast.Event{ID: id, BuildID: "a", Type: "x", Data: json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)}
			status.Apply(&e)
			h.Changed(eventlog.Change{Kind: eventlog.Appended, BuildID: "a", Events: []buildcast.Event{e}, Status: status})
		}
		if b := next(t, c); b.Size() > eagerBytes || b.Size() < eagerBytes*3/4 {
			t.Errorf("a batch from the tail has %d bytes", b.Size())
		}
	})
}

// An eager cursor is woken by a hint too, without a frame's wait.
func TestAHintWakesAnEagerCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		c := h.WatchEagerly("a", 0)
		defer c.Close()
		for want := int64(1); want <= 3; want++ {
			got := make(chan *Batch, 1)
			go func() { got <- next(t, c) }()
			synctest.Wait()
			e, _ := log.add("a", "x") // by another process
			h.Changed(eventlog.Change{Kind: eventlog.Hinted, BuildID: "a", LastEventID: e.ID})
			synctest.Wait() // no time passes here
			if len(got) == 0 {
				t.Fatal("the hint did not wake it")
			}
			if b := <-got; b.Last() != want {
				t.Errorf("got up to %d, want %d", b.Last(), want)
			}
		}
	})
}

// A cursor that waits for another cursor's read gets the same error.
func TestASharedReadSharesItsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{gate: make(chan struct{})}
		log.add("a", "x")
		log.noRead = true
		h := running(t, log, time.Hour)
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				c := h.Watch("a", 0, nil)
				defer c.Close()
				if b, err := c.Take(t.Context()); b != nil || !errors.Is(err, errAway) {
					t.Errorf("got %v, %v", b, err)
				}
			})
		}
		synctest.Wait()
		close(log.gate)
		all.Wait()
		if n := log.readCount(); n != 1 {
			t.Errorf("%d reads of the store, want 1", n)
		}
	})
}
