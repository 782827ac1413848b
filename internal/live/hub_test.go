package live

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/buildcast/buildcast"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryLog is a log that a test appends to.
type memoryLog struct {
	mu     sync.Mutex
	events map[string][]buildcast.Event
	down   bool
}

func (m *memoryLog) add(id string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.events == nil {
		m.events = map[string][]buildcast.Event{}
	}
	n := int64(len(m.events[id]) + 1)
	m.events[id] = append(m.events[id], buildcast.Event{ID: n, BuildID: id, Type: "x"})
	return n
}

func (m *memoryLog) ReadEvents(_ context.Context, id string, after int64, limit, _ int) ([]buildcast.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return nil, errors.New("away")
	}
	events := m.events[id][min(after, int64(len(m.events[id]))):]
	return events[:min(limit, len(events))], nil
}

func (m *memoryLog) LastEventIDs(_ context.Context, ids []string) (map[string]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := map[string]int64{}
	for _, id := range ids {
		last[id] = int64(len(m.events[id]))
	}
	return last, nil
}

func ids(events []buildcast.Event) (out []int64) {
	for _, e := range events {
		out = append(out, e.ID)
	}
	return out
}

func TestNextWaitsAndIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := NewHub(log)
		c := h.Watch("a", 0)
		defer c.Close()
		got := make(chan []buildcast.Event, 1)
		go func() {
			events, _ := c.Next(t.Context())
			got <- events
		}()
		synctest.Wait()
		h.Wake("other", 7)
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("given events before there were any")
		}
		h.Wake("a", log.add("a"))
		if events := <-got; len(events) != 1 || events[0].ID != 1 {
			t.Errorf("got %v", ids(events))
		}
	})
}

// The classic hand-over bug: an event that is committed between the read and
// the wait must not be lost. The only wake-up comes while the cursor reads.
func TestAnEventDuringTheReadIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := NewHub(log) // no Run: the backstop must not be what saves it
		var once sync.Once
		h.source = afterRead{log, func() { once.Do(func() { h.Wake("a", log.add("a")) }) }}
		c := h.Watch("a", 0)
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		events, err := c.Next(ctx)
		if err != nil || len(events) != 1 {
			t.Errorf("got %v, %v", ids(events), err)
		}
	})
}

// afterRead does something between a cursor's read and its wait.
type afterRead struct {
	*memoryLog
	do func()
}

func (a afterRead) ReadEvents(ctx context.Context, id string, after int64, limit, bytes int) ([]buildcast.Event, error) {
	events, err := a.memoryLog.ReadEvents(ctx, id, after, limit, bytes)
	a.do()
	return events, err
}

func TestALostHintCostsOnlyLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := NewHub(log)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = h.Run(ctx) }()
		c := h.Watch("a", 0)
		defer c.Close()
		log.add("a") // by another process: no Wake
		began := time.Now()
		events, err := c.Next(ctx)
		if err != nil || len(events) != 1 {
			t.Errorf("got %v, %v", ids(events), err)
		}
		log.add("a")
		if events, err = c.Next(ctx); err != nil || len(events) != 1 || events[0].ID != 2 {
			t.Errorf("got %v, %v", ids(events), err)
		}
		if waited := time.Since(began); waited > 2*backstop {
			t.Errorf("waited %v", waited)
		}
	})
}

func TestAFailedReadKeepsTheCursor(t *testing.T) {
	log := &memoryLog{}
	h := NewHub(log)
	c := h.Watch("a", 0)
	defer c.Close()
	log.add("a")
	log.down = true
	if _, err := c.Next(t.Context()); err == nil {
		t.Fatal("no error")
	}
	log.down = false
	if events, err := c.Next(t.Context()); err != nil || len(events) != 1 {
		t.Errorf("got %v, %v", ids(events), err)
	}
}

func TestNextEndsWithItsContext(t *testing.T) {
	h := NewHub(&memoryLog{})
	c := h.Watch("a", 0)
	defer c.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := c.Next(ctx); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}

func TestTheHubForgetsBuildsThatNobodyWatches(t *testing.T) {
	h := NewHub(&memoryLog{})
	a, b := h.Watch("a", 0), h.Watch("a", 3)
	a.Close()
	if len(h.watchedIDs()) != 1 {
		t.Error("forgotten while watched")
	}
	b.Close()
	b.Close()
	if len(h.watchedIDs()) != 0 {
		t.Error("still known")
	}
	h.Wake("a", 9) // nobody there: no panic, no memory
	if len(h.builds) != 0 {
		t.Error("a wake-up made an entry")
	}
}

// Any mix of appends, wake-ups (lost, doubled, late) and readers: each reader
// sees 1, 2, 3, … without a gap and without a double.
func TestEachReaderSeesEachEventOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		appends := rapid.IntRange(1, 40).Draw(rt, "appends")
		readers := rapid.IntRange(1, 5).Draw(rt, "readers")
		wakes := rapid.SliceOfN(rapid.IntRange(0, 2), appends, appends).Draw(rt, "wakes")
		synctest.Test(t, func(t *testing.T) {
			log := &memoryLog{}
			h := NewHub(log)
			ctx, cancel := context.WithCancel(context.Background())
			var all, running sync.WaitGroup
			running.Go(func() { _ = h.Run(ctx) })
			for range readers {
				all.Go(func() {
					c := h.Watch("a", 0)
					defer c.Close()
					for want := int64(1); want <= int64(appends); {
						events, err := c.Next(ctx)
						if err != nil {
							t.Error(err)
							return
						}
						for _, e := range events {
							if e.ID != want {
								t.Errorf("got %d, want %d", e.ID, want)
							}
							want++
						}
					}
				})
			}
			for i := range appends {
				n := log.add("a")
				for range wakes[i] {
					h.Wake("a", n)
				}
			}
			all.Wait()
			cancel()
			running.Wait()
		})
	})
}
