package live

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
)

// waiting calls Next until it fails, and sends what it returns.
func waiting(t *testing.T, c *Cursor) <-chan *Batch {
	t.Helper()
	got := make(chan *Batch, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() {
		for {
			b, err := c.Next(ctx)
			if err != nil {
				return
			}
			got <- b
		}
	})
	t.Cleanup(func() { cancel(); run.Wait(); c.Close() })
	synctest.Wait()
	return got
}

// A commit wakes whoever waits, eager or not, in the moment of the commit if the
// build was quiet.
func TestACommitWakesWhoWaitsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		readers := map[string]<-chan *Batch{
			"eager": waiting(t, h.WatchEagerly("a", 0)), "framed": waiting(t, h.Watch("a", 0, nil)), "another": waiting(t, h.Watch("a", 0, nil)),
		}
		for id := range int64(5) {
			log.commit(h, "a", "x")
			synctest.Wait() // and no time passes
			for name, got := range readers {
				select {
				case b := <-got:
					if b.First() != id+1 {
						t.Errorf("%s: got %d, want %d", name, b.First(), id+1)
					}
				default:
					t.Errorf("%s: event %d is not there", name, id+1)
				}
			}
			time.Sleep(time.Second)
		}
	})
}

// Whoever leaves, eager or not, and however often it is closed, takes no wake-up
// from those who stay.
func TestWhoStaysIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		eager, framed := h.WatchEagerly("a", 0), h.Watch("a", 0, nil)
		stay := []<-chan *Batch{waiting(t, h.WatchEagerly("a", 0)), waiting(t, h.Watch("a", 0, nil)), waiting(t, h.Watch("a", 0, nil))}
		for id, leaves := range []*Cursor{eager, eager, framed, framed} {
			leaves.Close()
			log.commit(h, "a", "x")
			synctest.Wait()
			for i, got := range stay {
				if len(got) != 1 {
					t.Fatalf("reader %d got %d batches of event %d", i, len(got), id+1)
				}
				<-got
			}
			time.Sleep(time.Second)
		}
	})
}

// A reader that asks again whenever it is done, and not when it is woken, gets at
// most 20 frames a second too, and every event.
func TestWhoAsksOftenGetsFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		c := h.Watch("a", 0, nil)
		defer c.Close()
		frames, last := 0, int64(0)
		for range 1000 {
			log.commit(h, "a", "x")
			time.Sleep(time.Millisecond)
			b, err := c.Take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if b == nil {
				continue
			}
			if b.First() != last+1 {
				t.Fatalf("got %d after %d", b.First(), last)
			}
			frames, last = frames+1, b.Last()
		}
		if frames < 20 || frames > 21 {
			t.Errorf("%d frames in a second", frames)
		}
		log.commit(h, "a", "x")
		if b := next(t, c); b.First() != last+1 || b.Last() != 1001 {
			t.Errorf("the last is %d to %d after %d", b.First(), b.Last(), last)
		}
	})
}

// Another process appends and cuts again, between two looks of the backstop:
// whoever waits before the cut learns that its place is gone.
func TestWhoWaitsLearnsOfACutByAnotherProcess(t *testing.T) {
	for name, watch := range map[string]func(h *Hub) *Cursor{
		"framed": func(h *Hub) *Cursor { return h.Watch("a", 2, nil) },
		"eager":  func(h *Hub) *Cursor { return h.WatchEagerly("a", 2) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &memoryLog{}
				log.add("a", "x")
				log.add("a", "x")
				h := running(t, log, backstop)
				c := watch(h)
				defer c.Close()
				failed := make(chan error, 1)
				go func() {
					_, err := c.Next(t.Context())
					failed <- err
				}()
				synctest.Wait()
				log.mu.Lock()
				s := log.status["a"]
				s.FirstEventID, s.LastEventID = 8, 7
				log.status["a"], log.events["a"] = s, nil
				log.mu.Unlock()
				time.Sleep(2 * backstop)
				synctest.Wait()
				select {
				case err := <-failed:
					if buildcast.CodeOf(err) != buildcast.CursorGone {
						t.Errorf("error %v", err)
					}
				default:
					t.Fatal("it still waits")
				}
			})
		})
	}
}

// What memory holds of a log that another process has cut is not given.
func TestACutByAnotherProcessEmptiesTheMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, backstop)
		c := h.Watch("a", 0, nil)
		defer c.Close()
		for range 10 {
			log.commit(h, "a", "x")
			time.Sleep(frameInterval)
		}
		if b := next(t, c); b.Last() != 10 {
			t.Fatalf("got up to %d", b.Last())
		}
		behind := h.Watch("a", 2, nil)
		defer behind.Close()
		if _, err := behind.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		log.mu.Lock()
		s := log.status["a"]
		s.FirstEventID = 6
		log.status["a"] = s
		log.mu.Unlock()
		time.Sleep(2 * backstop)
		gone(t, behind, 6, 10)
		first := h.Watch("a", 0, nil)
		defer first.Close()
		if b := next(t, first); b.First() != 6 || b.Last() != 10 {
			t.Errorf("from the first event: %d to %d", b.First(), b.Last())
		}
	})
}

// A build that was deleted before anybody here watched it has a log of no events.
func TestWhereTheLogOfADeletedBuildBegins(t *testing.T) {
	log := &memoryLog{deleted: map[string]int64{"a": 7}}
	h := running(t, log, time.Hour)
	for start, want := range map[buildcast.Start]int64{{}: 7, {After: 7}: 7, {Latest: true}: 7, {Tail: 3}: 7} {
		c := h.WatchFrom("a", start, nil)
		if b, err := c.Begin(t.Context()); err != nil || b.After != want || b.FirstEventID != 8 || b.LastEventID != 7 || b.Status != nil {
			t.Errorf("%+v: %+v, %v", start, b, err)
		}
		c.Close()
	}
	c := h.Watch("a", 3, nil)
	defer c.Close()
	gone(t, c, 8, 7)
}

// A status that was read before newer events were committed, or before a cut, is
// not taken for the build's.
func TestAnOlderStatusIsNotTaken(t *testing.T) {
	h := NewHub(&memoryLog{})
	c := h.Watch("a", 0, nil)
	defer c.Close()
	f := c.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	f.know(buildcast.Status{FirstEventID: 3, LastEventID: 9, Message: "now"})
	for _, old := range []buildcast.Status{{FirstEventID: 3, LastEventID: 8}, {FirstEventID: 2, LastEventID: 10}, {FirstEventID: 4, LastEventID: 8}} {
		if f.know(old); f.status.Message != "now" {
			t.Fatalf("%+v was taken", old)
		}
	}
	if f.know(buildcast.Status{FirstEventID: 4, LastEventID: 9}); f.status.FirstEventID != 4 || f.first != 4 {
		t.Errorf("a newer status was not taken: %+v", f.status)
	}
}

// Reads that fail, and batches that were read, leave nothing counted as held by
// readers: they would wait for room for ever.
func TestWhatReadersNoLongerHoldIsNotCounted(t *testing.T) {
	log := &memoryLog{}
	h := NewHub(log)
	c := h.Watch("a", 0, nil)
	for range 3 {
		log.add("a", "x")
	}
	if _, err := c.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	log.noRead = true
	for range 5 {
		if _, err := c.Take(t.Context()); err == nil {
			t.Fatal("no error")
		}
	}
	if n := h.memory.held.Load(); n != 0 {
		t.Errorf("%d bytes are held after reads that failed", n)
	}
	log.noRead = false
	b := next(t, c)
	b.SSE()
	before := h.memory.held.Load()
	if b.Deflated(); h.memory.held.Load() <= before {
		t.Errorf("%d bytes are held with another encoding, %d before", h.memory.held.Load(), before)
	}
	c.Close()
	if held, used := h.memory.held.Load(), h.memory.used.Load(); held != 0 || used != 0 {
		t.Errorf("%d bytes are held and %d used when nobody watches", held, used)
	}
}

// The batches that a feed keeps for others are bounded in number and in bytes, and
// the newest stay.
func TestRecentBatchesAreBounded(t *testing.T) {
	for name, c := range map[string]struct{ size, least, most int }{
		"small": {10, recentBatches, recentBatches},
		"large": {100 << 10, 5, 10},
		"huge":  {recentBytes, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			h := NewHub(&memoryLog{})
			cursor := h.Watch("a", 0, nil)
			defer cursor.Close()
			f := cursor.feed
			f.mu.Lock()
			defer f.mu.Unlock()
			data := json.RawMessage(`"` + strings.Repeat("x", c.size) + `"`)
			for id := int64(1); id <= 40; id++ {
				f.remember(f.newBatch([]buildcast.Event{{ID: id, BuildID: "a", Type: "x", Data: data}}, buildcast.Status{}))
			}
			bytes := 0
			for _, b := range f.recent {
				bytes += b.share.size()
			}
			if n := len(f.recent); n < c.least || n > c.most || n > 2 && bytes > recentBytes || f.recent[n-1].Last() != 40 {
				t.Errorf("%d batches of %d bytes are kept", n, bytes)
			}
			if used := h.memory.used.Load(); used != int64(bytes) {
				t.Errorf("the hub counts %d bytes, %d are kept", used, bytes)
			}
		})
	}
}

// Any commit, also one that comes while the build's feed is due already, is given
// to everybody within a frame.
func TestManyBuildsAtOnceAreAllWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		var all []<-chan *Batch
		ids := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
		for _, id := range ids {
			all = append(all, waiting(t, h.Watch(id, 0, nil)))
		}
		for range 20 {
			for _, id := range ids {
				e, s := log.add(id, "x")
				h.Changed(eventlog.Change{Kind: eventlog.Appended, BuildID: id, Events: []buildcast.Event{e}, Status: s})
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(frameInterval)
		synctest.Wait()
		for i, got := range all {
			last := int64(0)
			for len(got) > 0 {
				last = (<-got).Last()
			}
			if last != 20 {
				t.Errorf("build %s: got up to %d", ids[i], last)
			}
		}
	})
}

// An eager reader that waits is woken by each commit, also between two frames, and
// whoever has left beside it.
func TestAnEagerReaderIsWokenBetweenFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		left := h.Watch("a", 0, nil)
		got := waiting(t, h.WatchEagerly("a", 0))
		waiting(t, h.Watch("a", 0, nil))
		left.Close()
		for id := range 5 {
			log.commit(h, "a", "x")
			synctest.Wait() // and no time passes
			if len(got) != 1 {
				t.Fatalf("event %d: %d batches", id+1, len(got))
			}
			<-got
			time.Sleep(time.Millisecond)
		}
	})
}
