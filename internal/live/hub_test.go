package live

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deflate"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = errors.New("the store is away")

// memoryLog is a log that a test appends to.
type memoryLog struct {
	mu     sync.Mutex
	events map[string][]buildcast.Event
	status map[string]buildcast.Status
	// deleted is the last id of builds that were deleted.
	deleted map[string]int64
	down    bool
	noRead  bool // reads of events fail
	reads   int
	gate    chan struct{} // if set, a read waits for it
	after   func()        // if set, called between a read and its answer
}

// add stores an event without telling the hub, as another process would.
func (m *memoryLog) add(id, typ string) (buildcast.Event, buildcast.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.events == nil {
		m.events, m.status = map[string][]buildcast.Event{}, map[string]buildcast.Status{}
	}
	s, ok := m.status[id]
	if !ok {
		s = buildcast.NewStatus(id, "", buildcast.Now())
		s.FirstEventID, s.LastEventID = m.deleted[id]+1, m.deleted[id]
	}
	e := buildcast.Event{ID: s.LastEventID + 1, BuildID: id, Type: typ, Data: json.RawMessage("{}"), Timestamp: buildcast.Now()}
	s.Apply(&e)
	m.events[id], m.status[id] = append(m.events[id], e), s
	return e, s
}

func (m *memoryLog) commit(h *Hub, id, typ string) {
	e, s := m.add(id, typ)
	h.Changed(eventlog.Change{Kind: eventlog.Appended, BuildID: id, Events: []buildcast.Event{e}, Status: s})
}

func (m *memoryLog) ReadEvents(_ context.Context, id string, after int64, limit, _ int) ([]buildcast.Event, error) {
	if m.gate != nil {
		<-m.gate
	}
	m.mu.Lock()
	m.reads++
	var events []buildcast.Event
	for _, e := range m.events[id] {
		if e.ID > after && e.ID >= m.status[id].FirstEventID && len(events) < limit {
			events = append(events, e)
		}
	}
	down, then := m.down || m.noRead, m.after
	m.mu.Unlock()
	if then != nil {
		then()
	}
	if down {
		return nil, errAway
	}
	return events, nil
}

func (m *memoryLog) Statuses(_ context.Context, ids []string) (map[string]buildcast.Status, error) {
	m.mu.Lock()
	down, then := m.down, m.after
	out := map[string]buildcast.Status{}
	for _, id := range ids {
		if s, ok := m.status[id]; ok {
			out[id] = s
		}
	}
	m.mu.Unlock()
	if then != nil {
		then()
	}
	if down {
		return nil, errAway
	}
	return out, nil
}

func (m *memoryLog) Bounds(ctx context.Context, ids []string) (map[string]store.Bounds, error) {
	statuses, err := m.Statuses(ctx, ids)
	bounds := map[string]store.Bounds{}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, last := range m.deleted {
		bounds[id] = store.Bounds{First: last + 1, Last: last}
	}
	for id, s := range statuses {
		bounds[id] = store.Bounds{First: s.FirstEventID, Last: s.LastEventID}
	}
	return bounds, err
}

func (m *memoryLog) readCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads
}

// running returns a hub that runs. With a backstop of an hour, a wake-up that is
// missing fails the test.
func running(t *testing.T, log Source, backstop time.Duration) *Hub {
	t.Helper()
	h := NewHub(log)
	h.backstop = backstop
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { _ = h.Run(ctx) })
	t.Cleanup(func() { cancel(); run.Wait() })
	return h
}

func next(t *testing.T, c *Cursor) *Batch {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := c.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNextWaitsAndIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		c := h.Watch("a", 0, nil)
		defer c.Close()
		got := make(chan *Batch, 1)
		go func() { got <- next(t, c) }()
		synctest.Wait()
		log.commit(h, "other", "x")
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("got a batch before there were events")
		}
		log.commit(h, "a", "x")
		if b := <-got; b.First() != 1 || b.Last() != 1 || b.Status.LastEventID != 1 {
			t.Errorf("got %+v", b)
		}
	})
}

// The hand-over bug: an event that is committed between the read and the wait
// must not be lost. No backstop runs, and the only wake-up comes in that moment.
func TestAnEventDuringTheReadIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		var once sync.Once
		log.after = func() { once.Do(func() { log.commit(h, "a", "x") }) }
		c := h.Watch("a", 0, nil)
		defer c.Close()
		if b := next(t, c); b.Last() != 1 {
			t.Errorf("got %+v", b)
		}
	})
}

func TestALostHintCostsOnlyLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, backstop)
		c := h.Watch("a", 0, nil)
		defer c.Close()
		began := time.Now()
		for want := int64(1); want <= 3; want++ {
			log.add("a", "x") // by another process
			if b := next(t, c); b.Last() != want || b.Status.LastEventID != want {
				t.Errorf("got %+v, want %d", b, want)
			}
		}
		if waited := time.Since(began); waited > 4*backstop {
			t.Errorf("waited %v", waited)
		}
	})
}

// A hint that is too high must neither spin nor hide what comes later.
func TestAWrongHintDoesNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		c := h.Watch("a", 0, nil)
		defer c.Close()
		log.commit(h, "a", "x")
		next(t, c)
		got := make(chan *Batch, 1)
		go func() { got <- next(t, c) }()
		h.Wake("a", 1000)
		time.Sleep(10 * time.Second)
		if n := log.readCount(); n > 3 {
			t.Errorf("%d reads of the store", n)
		}
		log.commit(h, "a", "x")
		if b := <-got; b.Last() != 2 {
			t.Errorf("got %+v", b)
		}
	})
}

func TestAFailedReadKeepsTheCursor(t *testing.T) {
	log := &memoryLog{}
	h := running(t, log, time.Hour)
	c := h.Watch("a", 0, nil)
	defer c.Close()
	log.add("a", "x")
	log.down = true
	if _, err := c.Next(t.Context()); err == nil {
		t.Fatal("no error")
	}
	log.down = false
	if b := next(t, c); b.Last() != 1 {
		t.Errorf("got %+v", b)
	}
}

func TestNextEndsWithItsContext(t *testing.T) {
	h := running(t, &memoryLog{}, time.Hour)
	c := h.Watch("a", 0, nil)
	defer c.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := c.Next(ctx); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}

func TestACursorBeyondTheEndIsTold(t *testing.T) {
	log := &memoryLog{}
	h := running(t, log, time.Hour)
	log.add("a", "x")
	for _, id := range []string{"a", "unknown"} {
		c := h.Watch(id, 7, nil)
		if _, err := c.Begin(t.Context()); buildcast.CodeOf(err) != buildcast.CursorAhead {
			t.Errorf("%s: error %v", id, err)
		}
		c.Close()
	}
	c := h.Watch("a", 1, nil)
	defer c.Close()
	if s, err := c.Begin(t.Context()); err != nil || s.LastEventID != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestFramesAtMostEach50ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		c := h.Watch("a", 0, nil)
		defer c.Close()
		go func() {
			for range 1000 {
				log.commit(h, "a", "x")
				time.Sleep(time.Millisecond)
			}
		}()
		var frames []time.Time
		sizes := 0
		for sizes < 1000 {
			b := next(t, c)
			if b.First() != int64(sizes+1) {
				t.Fatalf("batch begins at %d after %d", b.First(), sizes)
			}
			sizes += len(b.Events)
			frames = append(frames, time.Now())
		}
		for i := 1; i < len(frames); i++ {
			if gap := frames[i].Sub(frames[i-1]); gap < frameInterval {
				t.Errorf("frame %d came %v after the one before", i, gap)
			}
		}
		if len(frames) > 22 || len(frames) < 20 {
			t.Errorf("%d frames in a second", len(frames))
		}
	})
}

func TestTheFirstEventOfAQuietBuildGoesOutAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		c := h.Watch("a", 0, nil)
		defer c.Close()
		for range 3 {
			time.Sleep(time.Second)
			log.commit(h, "a", "x")
			at := time.Now()
			next(t, c)
			if waited := time.Since(at); waited != 0 {
				t.Errorf("waited %v", waited)
			}
		}
	})
}

// Readers that keep up share one batch and never cause a read of the store.
func TestReadersThatKeepUpShareBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		cursors := make([]*Cursor, 100)
		for i := range cursors {
			cursors[i] = h.Watch("a", 0, nil)
			defer cursors[i].Close()
			if _, err := cursors[i].Begin(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			log.commit(h, "a", "x")
			time.Sleep(frameInterval)
			first := next(t, cursors[0])
			for _, c := range cursors[1:] {
				if next(t, c) != first {
					t.Fatal("a batch of its own")
				}
			}
		}
		if n := log.readCount(); n != 0 {
			t.Errorf("%d reads of the store", n)
		}
	})
}

// After a restart thousands of readers come back with their cursors: the hub reads
// once for each id, however many cursors stand at it.
func TestAStormReadsTheStoreOncePerCursorID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{gate: make(chan struct{})}
		for range 10 {
			log.add("a", "x")
		}
		h := running(t, log, time.Hour)
		var all sync.WaitGroup
		for i := range 300 {
			all.Go(func() {
				c := h.Watch("a", int64(i%3), nil)
				defer c.Close()
				if b := next(t, c); b.Last() != 10 {
					t.Errorf("got up to %d", b.Last())
				}
			})
		}
		synctest.Wait()
		close(log.gate)
		all.Wait()
		if n := log.readCount(); n != 3 {
			t.Errorf("%d reads of the store, want 3", n)
		}
	})
}

// A late reader gets all events in one batch, and not the small frames of the earlier
// readers.
func TestALateReaderGetsOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		early := h.Watch("a", 0, nil)
		defer early.Close()
		for range 10 {
			log.commit(h, "a", "x")
			next(t, early)
			time.Sleep(time.Second)
		}
		late := h.Watch("a", 0, nil)
		defer late.Close()
		if b := next(t, late); b.First() != 1 || b.Last() != 10 {
			t.Errorf("the first batch is %d to %d", b.First(), b.Last())
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		c := h.Watch("a", 0, nil) // never reads
		f := h.feed("a")
		data := json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)
		status := buildcast.NewStatus("a", "", buildcast.Now())
		for id := int64(1); id <= 5000; id++ {
			e := buildcast.Event{ID: id, BuildID: "a", Type: "x", Data: data}
			status.Apply(&e)
			h.Changed(eventlog.Change{Kind: eventlog.Appended, BuildID: "a", Events: []buildcast.Event{e}, Status: status})
			if f.tailBytes > feedTailBytes {
				t.Fatalf("%d bytes kept", f.tailBytes)
			}
		}
		sum := 0
		for i := range f.tail {
			sum += eventSize(&f.tail[i])
		}
		if sum != f.tailBytes || int64(sum) != h.memory.used.Load() {
			t.Errorf("counted %d, hub %d, are %d", f.tailBytes, h.memory.used.Load(), sum)
		}
		if f.tailEnd() != 5000 {
			t.Errorf("the tail ends at %d", f.tailEnd())
		}
		c.Close()
		if h.memory.used.Load() != 0 {
			t.Errorf("%d bytes after the last watch", h.memory.used.Load())
		}
	})
}

func TestTheHubForgetsBuildsThatNobodyWatches(t *testing.T) {
	log := &memoryLog{}
	h := running(t, log, time.Hour)
	a, b := h.Watch("a", 0, nil), h.Watch("a", 3, nil)
	a.Close()
	if len(h.watched()) != 1 {
		t.Error("forgotten while watched")
	}
	b.Close()
	b.Close()
	if len(h.watched()) != 0 {
		t.Error("still known")
	}
	log.commit(h, "a", "x")
	h.Wake("a", 9)
	if len(h.watched()) != 0 {
		t.Error("a wake-up made an entry")
	}
}

func TestEnded(t *testing.T) {
	log := &memoryLog{}
	h := running(t, log, time.Hour)
	for _, typ := range []string{"plan_started", "build_completed", "afterthought"} {
		log.add("a", typ)
	}
	c := h.Watch("a", 0, nil)
	defer c.Close()
	if b := next(t, c); !b.Ended() {
		t.Errorf("not ended: %+v", b.Status)
	}
	if b := newBatch("a", log.events["a"][:2], log.status["a"]); b.Ended() {
		t.Error("ended although an event comes after")
	}
}

func TestForms(t *testing.T) {
	at := buildcast.TimeOf(time.Date(2026, 11, 23, 7, 14, 31, 0, time.UTC))
	b := newBatch("a", []buildcast.Event{
		{ID: 1, BuildID: "a", Type: "x", Data: json.RawMessage(`{"n":1}`), Timestamp: at},
		{ID: 2, BuildID: "a", Type: "y", Timestamp: at},
	}, buildcast.Status{})
	one := `{"id":1,"buildId":"a","type":"x","data":{"n":1},"progress":0,"timestamp":"2026-11-23T07:14:31.000Z"}`
	two := `{"id":2,"buildId":"a","type":"y","data":{},"progress":0,"timestamp":"2026-11-23T07:14:31.000Z"}`
	if got := string(b.AppendJSON(nil)); got != "["+one+","+two+"]" {
		t.Errorf("JSON %s", got)
	}
	if got := string(b.SSE()); got != "id: 1\ndata: "+one+"\n\nid: 2\ndata: "+two+"\n\n" {
		t.Errorf("SSE %s", got)
	}
	if first := &b.SSE()[0]; first != &b.SSE()[0] {
		t.Error("encoded twice")
	}
	if got := b.Deflated(); !bytes.Equal(got, deflate.Piece(b.SSE())) {
		t.Errorf("deflated %x", got)
	} else if &got[0] != &b.Deflated()[0] {
		t.Error("deflated twice")
	}
	made := 0
	for range 2 {
		if b.Frame(func(*Batch) Sized { made++; return frameOf(7) }) != Sized(frameOf(7)) {
			t.Error("another frame")
		}
	}
	if made != 1 {
		t.Errorf("made %d times", made)
	}
}

type frameOf int

func (f frameOf) Size() int { return int(f) }

// With any mix of commits here and in another process, of lost, wrong and doubled
// hints, and of readers at any place, each reader sees each event after its cursor
// once, in order.
func TestEachReaderSeesEachEventOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		appends := rapid.SliceOfN(rapid.IntRange(0, 4), 1, 60).Draw(rt, "appends")
		cursors := rapid.SliceOfN(rapid.IntRange(0, len(appends)), 1, 6).Draw(rt, "cursors")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 70), len(appends), len(appends)).Draw(rt, "pauses")
		synctest.Test(t, func(t *testing.T) {
			log := &memoryLog{}
			h := running(t, log, backstop)
			ctx := t.Context()
			var all sync.WaitGroup
			for _, after := range cursors {
				all.Go(func() {
					c := h.Watch("a", int64(after), nil)
					defer c.Close()
					for _, err := c.Begin(ctx); err != nil; _, err = c.Begin(ctx) {
						time.Sleep(time.Millisecond) // the log does not reach the cursor yet
					}
					for want := int64(after) + 1; want <= int64(len(appends)); {
						b, err := c.Next(ctx)
						if err != nil {
							t.Error(err)
							return
						}
						for _, e := range b.Events {
							if e.ID != want {
								t.Errorf("got %d, want %d", e.ID, want)
							}
							want++
						}
					}
				})
			}
			for i, how := range appends {
				switch how {
				case 0: // another process, no hint
					log.add("a", "x")
				case 1: // another process, hinted
					e, _ := log.add("a", "x")
					h.Wake("a", e.ID)
					h.Wake("a", e.ID)
				case 2: // here, and a hint that is wrong
					log.commit(h, "a", "x")
					h.Wake("a", int64(i+50))
				default:
					log.commit(h, "a", "x")
				}
				time.Sleep(time.Duration(pauses[i]) * time.Millisecond)
			}
			all.Wait()
		})
	})
}

// An eager cursor does not wait for a frame, even if a framed cursor watches the same
// build.
func TestAnEagerCursorGetsEachEventAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		h := running(t, log, time.Hour)
		framed := h.Watch("a", 0, func() {})
		defer framed.Close()
		c := h.WatchEagerly("a", 0)
		defer c.Close()
		begun := time.Now()
		for i := range int64(5) {
			log.commit(h, "a", "x")
			synctest.Wait()
			if b := next(t, c); b.First() != i+1 || b.Last() != i+1 {
				t.Fatalf("got %d to %d, want %d", b.First(), b.Last(), i+1)
			}
		}
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("it waited %v for frames", waited)
		}
		late := h.WatchEagerly("a", 2)
		defer late.Close()
		if b := next(t, late); b.First() != 3 {
			t.Errorf("a late one begins with %d, want 3", b.First())
		}
	})
}
