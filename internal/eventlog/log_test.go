package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gatedStore commits when the test lets it, so that a test decides what waits.
type gatedStore struct {
	store.Events
	gate  chan struct{} // nil: always open
	fail  func([]store.Append) error
	mu    sync.Mutex
	calls [][]store.Append
	last  map[string]int64
}

func (g *gatedStore) AppendEvents(ctx context.Context, appends []store.Append) ([]store.Appended, error) {
	if g.gate != nil {
		<-g.gate
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, appends)
	if g.fail != nil {
		if err := g.fail(appends); err != nil {
			return nil, err
		}
	}
	if g.last == nil {
		g.last = map[string]int64{}
	}
	out := make([]store.Appended, len(appends))
	for i, a := range appends {
		if a.Generation < 0 {
			out[i].Err = buildcast.Errorf(buildcast.Fenced, "fenced")
			continue
		}
		for _, e := range a.Events {
			g.last[a.BuildID]++
			out[i].Events = append(out[i].Events, buildcast.Event{ID: g.last[a.BuildID], BuildID: a.BuildID, Type: e.Type})
		}
		out[i].Status.LastEventID = g.last[a.BuildID]
	}
	return out, nil
}

// start runs a log for the test and stops it at its end.
func start(t *testing.T, s *gatedStore, changed func(Change)) *Log {
	t.Helper()
	l := New(s, &builds{}, slog.New(slog.DiscardHandler))
	if changed != nil {
		l.Subscribe(changed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return l
}

func ev(typ string) buildcast.NewEvent { return buildcast.NewEvent{Type: typ} }

func TestAppendsThatWaitShareATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gatedStore{gate: make(chan struct{})}
		woken := map[string]int64{}
		l := start(t, s, func(c Change) { woken[c.BuildID] = c.Events[len(c.Events)-1].ID })
		var callers sync.WaitGroup
		append1 := func(id string) {
			callers.Go(func() {
				if a, err := l.Append(t.Context(), id, 0, ev("x")); err != nil || len(a.Events) != 1 {
					t.Errorf("%v %v", a, err)
				}
			})
			synctest.Wait()
		}
		append1("a") // this one is in the store now
		for i := range 9 {
			append1(fmt.Sprintf("b%d", i%3))
		}
		s.gate <- struct{}{}
		s.gate <- struct{}{}
		callers.Wait()
		synctest.Wait()
		if len(s.calls) != 2 || len(s.calls[1]) != 9 {
			t.Errorf("%d transactions", len(s.calls))
		}
		if woken["a"] != 1 || woken["b0"] != 3 {
			t.Errorf("woken: %v", woken)
		}
	})
}

func TestNobodyIsWokenBeforeTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gatedStore{gate: make(chan struct{})}
		woken := 0
		l := start(t, s, func(Change) { woken++ })
		answered := false
		go func() {
			_, _ = l.Append(t.Context(), "a", 0, ev("x"))
			answered = true
		}()
		synctest.Wait()
		if woken != 0 || answered {
			t.Error("before the commit: woken or answered")
		}
		s.gate <- struct{}{}
		synctest.Wait()
		if woken != 1 || !answered {
			t.Error("after the commit: not woken or not answered")
		}
	})
}

func TestOverloadIsAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gatedStore{gate: make(chan struct{})}
		l := start(t, s, nil)
		var callers sync.WaitGroup
		var mu sync.Mutex
		codes := map[buildcast.Code]int{}
		const all = 1 + waitAppends + 10
		for i := range all {
			callers.Go(func() {
				_, err := l.Append(t.Context(), "a", 0, ev("x"))
				mu.Lock()
				defer mu.Unlock()
				codes[buildcast.CodeOf(err)]++
			})
			if i == 0 {
				synctest.Wait() // the store has it, and takes no other
			}
		}
		synctest.Wait()
		mu.Lock()
		if codes[buildcast.Overloaded] == 0 || codes[""] != 0 {
			t.Errorf("while the store is stuck: %v", codes)
		}
		mu.Unlock()
		close(s.gate)
		callers.Wait()
		if codes[""]+codes[buildcast.Overloaded] != all || codes[""] < waitAppends {
			t.Errorf("in the end: %v", codes)
		}
	})
}

func TestWaitingBytesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gatedStore{gate: make(chan struct{})}
		l := start(t, s, nil)
		data := make([]byte, buildcast.MaxEventData)
		for i := range data {
			data[i] = '1'
		}
		var callers sync.WaitGroup
		overloaded := 0
		var mu sync.Mutex
		for range waitBytes/buildcast.MaxEventData + 200 {
			callers.Go(func() {
				_, err := l.Append(t.Context(), "a", 0, buildcast.NewEvent{Type: "x", Data: data})
				mu.Lock()
				defer mu.Unlock()
				if buildcast.CodeOf(err) == buildcast.Overloaded {
					overloaded++
				}
			})
		}
		synctest.Wait()
		mu.Lock()
		if overloaded == 0 {
			t.Error("more than the bound waits")
		}
		mu.Unlock()
		close(s.gate)
		callers.Wait()
	})
}

// One append that the store cannot take must not take down those it shares a
// transaction with.
func TestABadAppendFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gatedStore{gate: make(chan struct{})}
		s.fail = func(appends []store.Append) error {
			for _, a := range appends {
				if a.BuildID == "bad" {
					return errors.New("cannot be stored")
				}
			}
			return nil
		}
		l := start(t, s, nil)
		var callers sync.WaitGroup
		errs := sync.Map{}
		for _, id := range []string{"first", "good", "bad", "fine"} {
			callers.Go(func() {
				_, err := l.Append(t.Context(), id, 0, ev("x"))
				errs.Store(id, err)
			})
			synctest.Wait()
		}
		close(s.gate)
		callers.Wait()
		for _, id := range []string{"first", "good", "fine"} {
			if err, _ := errs.Load(id); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
		if err, _ := errs.Load("bad"); err == nil {
			t.Error("the bad append was acknowledged")
		}
	})
}

func TestAnUnreachableStoreIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gatedStore{gate: make(chan struct{})}
		s.fail = func([]store.Append) error { return store.Unavailable(errors.New("gone"), "the database is away") }
		l := start(t, s, nil)
		var callers sync.WaitGroup
		for i := range 5 {
			callers.Go(func() {
				_, err := l.Append(t.Context(), fmt.Sprint(i), 0, ev("x"))
				if !buildcast.Temporary(err) {
					t.Errorf("error %v", err)
				}
			})
			synctest.Wait()
		}
		close(s.gate)
		callers.Wait()
		if len(s.calls) != 2 {
			t.Errorf("%d transactions for one and four appends", len(s.calls))
		}
	})
}

func TestARefusedAppendWakesNobody(t *testing.T) {
	s := &gatedStore{}
	woken := 0
	l := start(t, s, func(Change) { woken++ })
	if _, err := l.Append(t.Context(), "a", -1, ev("x")); buildcast.CodeOf(err) != buildcast.Fenced {
		t.Errorf("error %v", err)
	}
	if woken != 0 {
		t.Error("woken")
	}
}

func TestInvalidEventsNeverReachTheStore(t *testing.T) {
	s := &gatedStore{}
	l := start(t, s, nil)
	for _, err := range []error{
		second(l.Append(t.Context(), "no/slash", 0, ev("x"))),
		second(l.Append(t.Context(), "a", 0, ev("x"), ev("X"))),
	} {
		if buildcast.CodeOf(err) != buildcast.InvalidArgument {
			t.Errorf("error %v", err)
		}
	}
	if len(s.calls) != 0 {
		t.Error("the store was asked")
	}
}

func TestStoppingCommitsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gatedStore{gate: make(chan struct{})}
		l := New(s, &builds{}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { _ = l.Run(ctx) })
		for range 3 {
			all.Go(func() {
				if _, err := l.Append(t.Context(), "a", 0, ev("x")); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		cancel()
		close(s.gate)
		all.Wait()
		if _, err := l.Append(t.Context(), "a", 0, ev("x")); !buildcast.Temporary(err) {
			t.Errorf("after the end: %v", err)
		}
		if s.last["a"] != 3 {
			t.Errorf("%d events stored", s.last["a"])
		}
	})
}

func second[T any](_ T, err error) error { return err }
