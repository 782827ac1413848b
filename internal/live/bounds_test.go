package live

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
)

// remove deletes the build without telling the hub, as another process would, and
// returns the first id of the next one.
func (m *memoryLog) remove(id string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.deleted == nil {
		m.deleted = map[string]int64{}
	}
	last := m.status[id].LastEventID
	m.deleted[id] = last
	delete(m.events, id)
	delete(m.status, id)
	return last + 1
}

// shorten cuts off the events before first without telling the hub.
func (m *memoryLog) shorten(id string, first int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status[id]
	s.FirstEventID = first
	m.status[id] = s
}

func (m *memoryLog) delete(h *Hub, id string) {
	h.Changed(eventlog.Change{Kind: eventlog.Truncated, BuildID: id, FirstEventID: m.remove(id), Deleted: true})
}

func (m *memoryLog) cut(h *Hub, id string, first int64) {
	m.shorten(id, first)
	h.Changed(eventlog.Change{Kind: eventlog.Truncated, BuildID: id, FirstEventID: first})
}

// gone checks that the cursor's next read returns CursorGone.
func gone(t *testing.T, c *Cursor, first, last int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := c.Next(ctx)
	e, ok := errors.AsType[*buildcast.CursorError](err)
	if b != nil || !ok || buildcast.CodeOf(err) != buildcast.CursorGone || e.FirstEventID != first || e.LastEventID != last {
		t.Errorf("got %v, %v; want CursorGone in a log of %d to %d", b, err, first, last)
	}
}

// A build is watched, finished, deleted, and made again under its id. No reader gets
// the old log instead of the new one, and none hangs.
func TestADeletedLogIsNotShownAgain(t *testing.T) {
	for name, remove := range map[string]func(m *memoryLog, h *Hub){
		"by this process":    func(m *memoryLog, h *Hub) { m.delete(h, "a") },
		"by another process": func(m *memoryLog, h *Hub) { m.remove("a"); time.Sleep(2 * backstop) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &memoryLog{}
				h := running(t, log, backstop)
				end, behind := h.Watch("a", 0, nil), h.Watch("a", 0, nil)
				defer end.Close()
				defer behind.Close()
				for range 4 {
					log.commit(h, "a", "x")
					next(t, behind)
					next(t, end)
				}
				log.commit(h, "a", buildcast.BuildCompleted)
				if b := next(t, end); !b.Ended() {
					t.Errorf("not ended: %+v", b.Status)
				}
				remove(log, h)

				early := h.Watch("a", 0, nil)
				defer early.Close()
				if b, err := early.Begin(t.Context()); err != nil || b.After != 5 || b.FirstEventID != 6 || b.LastEventID != 5 || b.Status != nil {
					t.Errorf("of the deleted build: %+v, %v", b, err)
				}
				gone(t, behind, 6, 5)
				log.commit(h, "a", "y")
				for name, c := range map[string]*Cursor{"at the end": end, "early": early, "new": h.Watch("a", 0, nil), "after the end": h.Watch("a", 5, nil)} {
					if b := next(t, c); b.First() != 6 || b.Last() != 6 || b.Ended() || b.Status.Phase != buildcast.Queued || b.Status.FirstEventID != 6 {
						t.Errorf("%s: got %d to %d, %+v", name, b.First(), b.Last(), b.Status)
					}
					c.Close()
				}
				late := h.Watch("a", 3, nil)
				defer late.Close()
				gone(t, late, 6, 6)
			})
		})
	}
}

// A log is cut from the front while it is watched.
func TestACutIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		keepsUp, behind := h.Watch("a", 0, nil), h.Watch("a", 0, nil)
		defer keepsUp.Close()
		defer behind.Close()
		log.commit(h, "a", "x")
		next(t, behind)
		next(t, keepsUp)
		for range 9 {
			log.commit(h, "a", "x")
			time.Sleep(frameInterval)
			next(t, keepsUp)
		}
		log.cut(h, "a", 6)
		gone(t, behind, 6, 10)
		log.commit(h, "a", "x")
		if b := next(t, keepsUp); b.First() != 11 {
			t.Errorf("the cursor that keeps up gets event %d", b.First())
		}
		for after, first := range map[int64]int64{0: 6, 5: 6, 7: 8} {
			c := h.Watch("a", after, nil)
			if b := next(t, c); b.First() != first || b.Last() != 11 {
				t.Errorf("after %d: %d to %d", after, b.First(), b.Last())
			}
			c.Close()
		}
	})
}

// Another process cuts the log while a cursor reads.
func TestACutDuringARead(t *testing.T) {
	for after, first := range map[int64]int64{0: 3, 1: 0} {
		t.Run(fmt.Sprint("after ", after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &memoryLog{}
				for range 4 {
					log.add("a", "x")
				}
				h := running(t, log, time.Hour)
				c := h.Watch("a", after, nil)
				defer c.Close()
				if _, err := c.Begin(t.Context()); err != nil {
					t.Fatal(err)
				}
				log.shorten("a", 3)
				if first == 0 {
					gone(t, c, 3, 4)
				} else if b := next(t, c); b.First() != first {
					t.Errorf("got %d, want %d", b.First(), first)
				}
			})
		})
	}
}

func TestACursorBeginsWithTheLatestOrATail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		other := h.Watch("a", 0, nil) // the hub knows the build, but not what another process stores
		defer other.Close()
		if _, err := other.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			log.add("a", "x")
		}
		latest, tail := h.WatchFrom("a", buildcast.Start{Latest: true}, nil), h.WatchFrom("a", buildcast.Start{Tail: 2}, nil)
		defer latest.Close()
		defer tail.Close()
		if b, err := latest.Begin(t.Context()); err != nil || b.After != 5 || b.FirstEventID != 1 || b.LastEventID != 5 || b.Status == nil {
			t.Errorf("latest begins at %+v, %v", b, err)
		}
		if b := next(t, tail); b.First() != 4 || b.Last() != 5 {
			t.Errorf("the tail is %d to %d", b.First(), b.Last())
		}
		log.commit(h, "a", "x")
		if b := next(t, latest); b.First() != 6 || b.Last() != 6 {
			t.Errorf("the latest are %d to %d", b.First(), b.Last())
		}
	})
}

// The watch is registered before the cursor's place is found: an event that is
// committed between the two is delivered, even to a cursor that begins at the end.
func TestAnEventWhileACursorBeginsIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		log.add("a", "x")
		h := running(t, log, time.Hour)
		once := false
		log.after = func() {
			if !once {
				once = true
				log.commit(h, "a", "x")
			}
		}
		c := h.WatchFrom("a", buildcast.Start{Latest: true}, nil)
		defer c.Close()
		b, err := c.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if b.After == 2 { // the event counts as stored before
			return
		}
		if got := next(t, c); b.After != 1 || got.First() != 2 {
			t.Errorf("it begins after %d with %d", b.After, got.First())
		}
	})
}
