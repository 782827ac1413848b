package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/backoff"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryLog stores events once per key. before and after, if set, return the error
// with which an append fails: before it stores the events, or after.
type memoryLog struct {
	before, after func(events []buildcast.NewEvent) error

	mu       sync.Mutex
	attempts []time.Time
	batches  [][]buildcast.NewEvent // of successful appends
	stored   []buildcast.NewEvent
	keys     map[string]bool
}

func (l *memoryLog) append(ctx context.Context, events []buildcast.NewEvent) error {
	l.mu.Lock()
	l.attempts = append(l.attempts, time.Now())
	l.mu.Unlock()
	if l.before != nil {
		if err := l.before(events); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys == nil {
		l.keys = map[string]bool{}
	}
	for _, ev := range events {
		if !l.keys[ev.Key] {
			l.keys[ev.Key] = true
			l.stored = append(l.stored, ev)
		}
	}
	if l.after != nil {
		if err := l.after(events); err != nil {
			return err
		}
	}
	l.batches = append(l.batches, events)
	return nil
}

func (l *memoryLog) types() (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ev := range l.stored {
		out = append(out, ev.Type)
	}
	return out
}

// start runs an outbox; stop ends its Run and returns its error.
func start(append Append, o Options) (e *Outbox, stop func() error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	e = New(append, o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	return e, func() error { cancel(); return <-done }
}

func ev(typ string) buildcast.NewEvent { return buildcast.NewEvent{Type: typ} }

func emitAll(t *testing.T, e *Outbox, types ...string) {
	t.Helper()
	for _, typ := range types {
		if err := e.Emit(ev(typ)); err != nil {
			t.Fatal(err)
		}
	}
}

func numbered(n int) (types []string) {
	for i := range n {
		types = append(types, fmt.Sprintf("e%03d", i))
	}
	return types
}

var errReset = buildcast.Errorf(buildcast.Unreachable, "connection reset")

func TestTheNextBatchGathersWhileOneIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		log := &memoryLog{before: func([]buildcast.NewEvent) error { <-gate; return nil }}
		e, stop := start(log.append, Options{BatchEvents: 3})
		emitAll(t, e, "first")
		synctest.Wait() // it is under way, alone
		emitAll(t, e, "a", "b", "c", "d")
		close(gate)
		if err := e.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		var sizes []int
		for _, b := range log.batches {
			sizes = append(sizes, len(b))
		}
		if !slices.Equal(sizes, []int{1, 3, 1}) || !slices.Equal(log.types(), []string{"first", "a", "b", "c", "d"}) {
			t.Errorf("batches %v of %v", sizes, log.types())
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestBatchesAreBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		e := New(log.append, Options{BatchBytes: 2 * (100 + buildcast.EventOverhead)})
		large := json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)
		small := json.RawMessage(`"` + strings.Repeat("x", 98) + `"`)
		for _, data := range []json.RawMessage{small, small, small, large, small} {
			if err := e.Emit(buildcast.NewEvent{Type: "x", Data: data}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = e.Run(ctx) }()
		if err := e.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		cancel()
		var sizes []int
		for _, b := range log.batches {
			sizes = append(sizes, len(b))
		}
		if !slices.Equal(sizes, []int{2, 1, 1, 1}) {
			t.Errorf("batches of %v", sizes)
		}
	})
}

func TestAFullQueueRefusesButKeeps(t *testing.T) {
	log := &memoryLog{}
	for name, o := range map[string]Options{"events": {MaxEvents: 2}, "bytes": {MaxBytes: 2*buildcast.EventOverhead + 10}} {
		e := New(log.append, o)
		emitAll(t, e, "a", "b")
		if err := e.Emit(ev("c")); buildcast.CodeOf(err) != buildcast.Overloaded {
			t.Errorf("%s: error %v", name, err)
		}
		if err := e.Keep(ev("d")); err != nil {
			t.Errorf("%s: kept: %v", name, err)
		}
		if n := e.Dropped(); n != 1 {
			t.Errorf("%s: dropped %d", name, n)
		}
	}
}

// Events that were sent make room again, to the byte.
func TestRoomComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		e, stop := start(log.append, Options{MaxEvents: 3})
		for range 10 {
			emitAll(t, e, "a", "b", "c")
			if err := e.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if e.bytes != 0 || len(e.queue) != 0 || e.Dropped() != 0 {
			t.Errorf("%d bytes, %d events, %d dropped", e.bytes, len(e.queue), e.Dropped())
		}
		_ = stop()
	})
}

func TestEmitFillsInKeyAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		at := buildcast.TimeOf(time.Now().Add(-time.Hour))
		var stops []func() error
		for range 2 {
			e, stop := start(log.append, Options{})
			stops = append(stops, stop)
			emitAll(t, e, "a", "b")
			if err := e.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		e, stop := start(log.append, Options{})
		_ = e.Emit(buildcast.NewEvent{Type: "own", Key: "k", Timestamp: at})
		if err := e.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(log.stored) != 5 { // equal keys would have been stored once
			t.Errorf("stored %v", log.stored)
		}
		if own := log.stored[4]; own.Key != "k" || !own.Timestamp.Equal(at) {
			t.Errorf("changed: %+v", own)
		}
		if !log.stored[0].Timestamp.Equal(buildcast.Now()) || string(log.stored[0].Data) != "{}" {
			t.Errorf("got %+v", log.stored[0])
		}
		for _, stop := range append(stops, stop) {
			_ = stop()
		}
	})
}

func TestAnInvalidEventIsRefusedAtOnce(t *testing.T) {
	e := New((&memoryLog{}).append, Options{})
	if err := e.Emit(ev("Not Valid")); buildcast.CodeOf(err) != buildcast.InvalidArgument {
		t.Errorf("error %v", err)
	}
	if err := e.Keep(buildcast.NewEvent{Type: "x", Data: make([]byte, buildcast.MaxEventData+1)}); buildcast.CodeOf(err) != buildcast.TooLarge {
		t.Errorf("error %v", err)
	}
	if len(e.queue) != 0 || e.Dropped() != 0 {
		t.Error("something was queued or counted")
	}
}

func TestAttemptsAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := []error{
			errReset, errReset, errReset, errReset, errReset,
			buildcast.Errorf(buildcast.StoreUnavailable, "away").After(7 * time.Second),
			buildcast.Errorf(buildcast.Overloaded, "full").After(time.Hour),
			buildcast.Errorf(buildcast.Internal, "a defect"),
		}
		log := &memoryLog{before: func([]buildcast.NewEvent) error {
			if len(failures) == 0 {
				return nil
			}
			err := failures[0]
			failures = failures[1:]
			return err
		}}
		e, stop := start(log.append, Options{MinBackoff: time.Second, MaxBackoff: 4 * time.Second})
		emitAll(t, e, "a")
		if err := e.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		most := []time.Duration{1, 2, 4, 4, 4, 0, 0, 4}
		for i, m := range most {
			low, high := m*time.Second/2, m*time.Second
			switch i {
			case 5:
				low, high = 7*time.Second, 9*time.Second // what the error asks for
			case 6:
				low, high = time.Minute, 75*time.Second // not the hour
			}
			if d := log.attempts[i+1].Sub(log.attempts[i]); d < low || d > high {
				t.Errorf("%v between attempts %d and %d, not %v to %v", d, i, i+1, low, high)
			}
		}
		_ = stop()
	})
}

func TestAnAppendThatHangsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		hang := true
		e, stop := start(func(ctx context.Context, events []buildcast.NewEvent) error {
			if hang {
				<-ctx.Done()
				hang = false
				return context.Cause(ctx)
			}
			return log.append(ctx, events)
		}, Options{Timeout: 5 * time.Second, MinBackoff: time.Minute, MaxBackoff: time.Minute})
		emitAll(t, e, "a", "b")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := e.Flush(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "did not answer within 5s") || !strings.Contains(err.Error(), "events are not stored yet") {
			t.Errorf("error %v", err)
		}
		if err := e.Flush(t.Context()); err != nil || !slices.Equal(log.types(), []string{"a", "b"}) {
			t.Errorf("%v, %v", log.types(), err)
		}
		_ = stop()
	})
}

// An attempt that timed out may still read and change its events.
func TestEachAttemptHasItsOwnEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		release := make(chan struct{})
		var left sync.WaitGroup
		first := true
		e, stop := start(func(ctx context.Context, events []buildcast.NewEvent) error {
			if !first {
				return log.append(ctx, events)
			}
			first = false
			left.Go(func() {
				<-release
				clear(events)
			})
			return errReset
		}, Options{})
		emitAll(t, e, "a", "b")
		synctest.Wait()
		close(release)
		left.Wait()
		if err := e.Flush(t.Context()); err != nil || !slices.Equal(log.types(), []string{"a", "b"}) {
			t.Errorf("%v, %v", log.types(), err)
		}
		_ = stop()
	})
}

func TestRefusedEventsAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuse := func(events []buildcast.NewEvent) error {
			if slices.ContainsFunc(events, func(ev buildcast.NewEvent) bool { return ev.Type == "e013" || ev.Type == "e099" }) {
				return buildcast.Errorf(buildcast.InvalidArgument, "not that one")
			}
			return nil
		}
		log := &memoryLog{before: refuse}
		var logged bytes.Buffer
		e := New(log.append, Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		types := numbered(100)
		emitAll(t, e, types...)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = e.Run(ctx) }()
		if err := e.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		cancel()
		want := slices.DeleteFunc(types, func(typ string) bool { return typ == "e013" || typ == "e099" })
		if !slices.Equal(log.types(), want) {
			t.Errorf("stored %v", log.types())
		}
		if e.Dropped() != 2 || strings.Count(logged.String(), "left out") != 2 {
			t.Errorf("%d dropped, log:\n%s", e.Dropped(), &logged)
		}
		if n := len(log.attempts); n > 40 { // halving, not one by one
			t.Errorf("%d attempts", n)
		}
	})
}

func TestAPermanentErrorStopsTheEmitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fenced := buildcast.Errorf(buildcast.Fenced, "the lease has moved on")
		e, stop := start(func(context.Context, []buildcast.NewEvent) error { return fenced }, Options{})
		emitAll(t, e, "a")
		if err := e.Flush(t.Context()); !errors.Is(err, fenced) {
			t.Errorf("flush: %v", err)
		}
		if err := e.Emit(ev("b")); !errors.Is(err, fenced) {
			t.Errorf("emit: %v", err)
		}
		e.Close()
		if err := e.Keep(ev("b")); !errors.Is(err, fenced) {
			t.Errorf("keep after close: %v", err)
		}
		if err := stop(); !errors.Is(err, fenced) {
			t.Errorf("run: %v", err)
		}
	})
}

func TestCloseSendsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		e, stop := start(log.append, Options{})
		emitAll(t, e, "a", "b")
		e.Close()
		e.Close()
		if err := e.Emit(ev("c")); !errors.Is(err, ErrClosed) {
			t.Errorf("emit: %v", err)
		}
		if err := e.Flush(t.Context()); err != nil || len(log.types()) != 2 {
			t.Errorf("%v, %v", log.types(), err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if err := e.Flush(t.Context()); err != nil {
			t.Errorf("flush when no event is left: %v", err)
		}
	})
}

func TestRunEndsAtOnceAndFlushSaysWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, stop := start(func(context.Context, []buildcast.NewEvent) error { return errReset }, Options{MinBackoff: time.Hour, MaxBackoff: time.Hour})
		emitAll(t, e, "a", "b")
		flushed := make(chan error, 1)
		go func() { flushed <- e.Flush(context.Background()) }()
		synctest.Wait()
		began := time.Now()
		if err := stop(); err != nil || time.Since(began) > 0 {
			t.Errorf("run: %v after %v", err, time.Since(began))
		}
		if err := <-flushed; !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "2 events") {
			t.Errorf("flush: %v", err)
		}
		if err := e.Emit(ev("c")); !errors.Is(err, ErrClosed) {
			t.Errorf("emit: %v", err)
		}
	})
}

func TestARowOfFailuresIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := 20
		log := &memoryLog{before: func([]buildcast.NewEvent) error {
			if fails--; fails >= 0 {
				return errReset
			}
			return nil
		}}
		var logged bytes.Buffer
		e, stop := start(log.append, Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		emitAll(t, e, "a")
		_ = e.Flush(t.Context())
		_ = stop()
		if lines := strings.Count(logged.String(), "\n"); lines != 2 {
			t.Errorf("logged:\n%s", &logged)
		}
	})
}

// Whatever fails, before or after the log has stored the events, each event is stored
// once, in the order of its goroutine.
func TestEachEventIsStoredOnceInOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		producers := rapid.IntRange(1, 3).Draw(rt, "producers")
		each := rapid.IntRange(1, 30).Draw(rt, "each")
		faults := rapid.SliceOfN(rapid.SampledFrom([]string{"", "before", "after", "hang", "busy"}), 0, 30).Draw(rt, "faults")
		o := Options{BatchEvents: rapid.IntRange(1, 8).Draw(rt, "batch"), Timeout: time.Second}
		synctest.Test(t, func(t *testing.T) {
			log := &memoryLog{}
			e, stop := start(func(ctx context.Context, events []buildcast.NewEvent) error {
				fault := ""
				if len(faults) > 0 {
					fault, faults = faults[0], faults[1:]
				}
				switch fault {
				case "before":
					return errReset
				case "busy":
					return buildcast.Errorf(buildcast.Overloaded, "full").After(time.Second)
				case "hang": // the log stores the events when nobody waits any longer
					<-ctx.Done()
					_ = log.append(context.WithoutCancel(ctx), events)
					return context.Cause(ctx)
				case "after":
					_ = log.append(ctx, events)
					return errReset
				}
				return log.append(ctx, events)
			}, o)
			var all sync.WaitGroup
			for p := range producers {
				all.Go(func() {
					for i := range each {
						if err := e.Emit(buildcast.NewEvent{Type: "x", Data: fmt.Appendf(nil, "[%d,%d]", p, i)}); err != nil {
							t.Error(err)
						}
						backoff.Pause(t.Context(), time.Duration(i%3)*40*time.Millisecond)
					}
				})
			}
			all.Wait()
			if err := e.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			_ = stop()
			next := make([]int, producers)
			for _, ev := range log.stored {
				var d [2]int
				_ = json.Unmarshal(ev.Data, &d)
				if next[d[0]] != d[1] {
					t.Errorf("producer %d: event %d, want %d", d[0], d[1], next[d[0]])
				}
				next[d[0]]++
			}
			if len(log.stored) != producers*each {
				t.Errorf("%d events stored", len(log.stored))
			}
		})
	})
}

// An event to which the log answers Internal is sent a few times, found in its batch,
// left out, counted and logged. The others are stored, and the outbox continues.
func TestAnEventThatCausesADefectIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		log := &memoryLog{before: func(events []buildcast.NewEvent) error {
			if slices.ContainsFunc(events, func(ev buildcast.NewEvent) bool { return ev.Type == "e013" }) {
				tries++
				return buildcast.Errorf(buildcast.Internal, "a defect")
			}
			return nil
		}}
		var logged bytes.Buffer
		e := New(log.append, Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		types := numbered(100)
		emitAll(t, e, types...)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = e.Run(ctx) }()
		begun := time.Now()
		within, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		if err := e.Flush(within); err != nil {
			t.Fatal(err)
		}
		want := slices.DeleteFunc(types, func(typ string) bool { return typ == "e013" })
		if !slices.Equal(log.types(), want) {
			t.Errorf("stored %v", log.types())
		}
		if e.Dropped() != 1 || strings.Count(logged.String(), "left out") != 1 {
			t.Errorf("%d dropped, log:\n%s", e.Dropped(), &logged)
		}
		if tries < 2*maxDefects || tries > 2*maxDefects+8 || time.Since(begun) > time.Minute {
			t.Errorf("%d tries in %v", tries, time.Since(begun))
		}
	})
}

// A defect that does not last loses no event.
func TestADefectThatPassesLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := maxDefects - 1
		log := &memoryLog{before: func([]buildcast.NewEvent) error {
			if fails--; fails >= 0 {
				return buildcast.Errorf(buildcast.Internal, "a defect")
			}
			return nil
		}}
		e, stop := start(log.append, Options{})
		emitAll(t, e, numbered(10)...)
		if err := e.Flush(t.Context()); err != nil || e.Dropped() != 0 || len(log.types()) != 10 {
			t.Errorf("%v: stored %v, %d dropped", err, log.types(), e.Dropped())
		}
		_ = stop()
	})
}
