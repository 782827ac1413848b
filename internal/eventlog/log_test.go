package eventlog

import (
	"context"
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

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gatedStore commits when the test opens the gate, so that the test decides which
// appends wait.
type gatedStore struct {
	Events
	gate  chan struct{}              // nil: always open
	fail  func([]store.Append) error // of the transaction
	part  func([]store.Append) error // of the appends to builds that begin with new
	takes time.Duration
	mu    sync.Mutex
	calls [][]store.Append
	last  map[string]int64 // an event with the key "stored" has been stored before
}

func (g *gatedStore) AppendEvents(ctx context.Context, appends []store.Append) ([]store.Appended, error) {
	if g.gate != nil {
		<-g.gate
	}
	select {
	case <-time.After(g.takes):
	case <-ctx.Done():
		return nil, store.GivenUp(ctx)
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
		if g.part != nil && strings.HasPrefix(a.BuildID, "new") {
			if out[i].Err = g.part(appends); out[i].Err != nil {
				continue
			}
		}
		for _, e := range a.Events {
			if e.Key == "stored" {
				out[i].Events = append(out[i].Events, buildcast.Event{ID: 1, BuildID: a.BuildID, Type: e.Type})
				continue
			}
			g.last[a.BuildID]++
			added := buildcast.Event{ID: g.last[a.BuildID], BuildID: a.BuildID, Type: e.Type}
			out[i].Events, out[i].Added = append(out[i].Events, added), append(out[i].Added, added)
		}
		out[i].Status.LastEventID = g.last[a.BuildID]
	}
	return out, nil
}

// start runs a log and stops it when the test ends.
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
		const all = 1 + waitAppends + 10 // one in the store, a full queue, and 10 beyond it
		for i := range all {
			callers.Go(func() {
				_, err := l.Append(t.Context(), "a", 0, ev("x"))
				mu.Lock()
				defer mu.Unlock()
				codes[buildcast.CodeOf(err)]++
			})
			if i == 0 {
				synctest.Wait() // the store has it, and waits at the gate
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
		if codes[""]+codes[buildcast.Overloaded] != all || codes[""] != 1+waitAppends {
			t.Errorf("in the end: %v", codes)
		}
	})
}

// heavy returns n of the largest events.
func heavy(n int) []buildcast.NewEvent {
	data := []byte(`"` + strings.Repeat("x", buildcast.MaxEventData-2) + `"`)
	events := make([]buildcast.NewEvent, n)
	for i := range events {
		events[i] = buildcast.NewEvent{Type: "x", Data: data}
	}
	return events
}

// light returns n events without data.
func light(n int) []buildcast.NewEvent {
	events := make([]buildcast.NewEvent, n)
	for i := range events {
		events[i] = ev("x")
	}
	return events
}

// What waits is bounded in bytes; one append alone may be larger than that.
func TestWaitingBytesAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		waiting []int
		next    int
		want    buildcast.Code
	}{
		"exactly the bound":  {[]int{waitBytes - 10}, 10, ""},
		"one byte beyond":    {[]int{waitBytes - 10}, 11, buildcast.Overloaded},
		"after the bound":    {[]int{waitBytes - 10, 10}, 1, buildcast.Overloaded},
		"large alone":        {nil, waitBytes + 1, ""},
		"after a large one":  {[]int{waitBytes + 1}, 1, buildcast.Overloaded},
		"far from the bound": {[]int{1, 1}, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(&gatedStore{}, &builds{}, slog.New(slog.DiscardHandler))
			for _, bytes := range c.waiting {
				if err := l.enqueue(&request{bytes: bytes}); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.enqueue(&request{bytes: c.next}); buildcast.CodeOf(err) != c.want {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// Committed events no longer count as waiting: 40 MB may wait, three times in
// succession.
func TestWaitingBytesFallWithEachTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gatedStore{gate: make(chan struct{})}
		l := start(t, s, nil)
		for round := range 3 {
			var callers sync.WaitGroup
			for range 10 {
				callers.Go(func() {
					if _, err := l.Append(t.Context(), "a", 0, light(20_000)...); err != nil {
						t.Errorf("round %d: %v", round, err)
					}
				})
				synctest.Wait()
			}
			go func() {
				for range 10 {
					s.gate <- struct{}{} // each is a transaction of its own: it is larger than one may be
				}
			}()
			callers.Wait()
		}
		synctest.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.bytes != 0 {
			t.Errorf("%d bytes are counted when nothing waits", l.bytes)
		}
	})
}

// A transaction takes the waiting appends up to its bounds, in events and in bytes,
// and at least one append.
func TestATransactionIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		events []buildcast.NewEvent
		want   []int // appends in each transaction
	}{
		"events":              {light(1500), []int{1, 2, 2, 1}},
		"bytes":               {heavy(25), []int{1, 2, 2, 1}},
		"one beyond both":     {light(21_000), []int{1, 1, 1, 1, 1, 1}},
		"exactly the bound":   {light(1000), []int{1, 4, 1}},
		"far below the bound": {light(1), []int{1, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &gatedStore{gate: make(chan struct{})}
				l := start(t, s, nil)
				var callers sync.WaitGroup
				for range 6 {
					callers.Go(func() {
						if _, err := l.Append(t.Context(), "a", 0, c.events...); err != nil {
							t.Error(err)
						}
					})
					synctest.Wait()
				}
				close(s.gate)
				callers.Wait()
				var got []int
				for _, call := range s.calls {
					got = append(got, len(call))
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("transactions of %v appends, want %v", got, c.want)
				}
			})
		})
	}
}

// refuse refuses each transaction with an append to one of the builds.
func refuse(builds ...string) func([]store.Append) error {
	return func(appends []store.Append) error {
		if slices.ContainsFunc(appends, func(a store.Append) bool { return slices.Contains(builds, a.BuildID) }) {
			return store.Refused(errors.New("class 22"), "data")
		}
		return nil
	}
}

// group appends once to each build, all in one group after a first append.
func (g *gatedStore) group(t *testing.T, l *Log, ids []string) map[string]error {
	var callers sync.WaitGroup
	var mu sync.Mutex
	errs := map[string]error{}
	call := func(id string) {
		callers.Go(func() {
			_, err := l.Append(t.Context(), id, 0, ev("x"))
			mu.Lock()
			defer mu.Unlock()
			errs[id] = err
		})
	}
	call("first")
	synctest.Wait() // the store has it; the others wait for the next transaction
	for _, id := range ids {
		call(id)
	}
	synctest.Wait()
	close(g.gate)
	callers.Wait()
	return errs
}

// An append that the store refuses must not fail the appends with which it shares a
// transaction.
func TestABadAppendFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gatedStore{gate: make(chan struct{}), fail: refuse("bad", "bad2")}
		errs := s.group(t, start(t, s, nil), []string{"good", "bad", "fine", "bad2"})
		for id, err := range errs {
			want := buildcast.Code("")
			if strings.HasPrefix(id, "bad") {
				want = buildcast.InvalidArgument
			}
			if buildcast.CodeOf(err) != want {
				t.Errorf("%s: %v", id, err)
			}
		}
		if len(errs) != 5 {
			t.Errorf("%d answers", len(errs))
		}
	})
}

// The culprit is found by halving: the 3,000 innocent appends beside it wait for about
// 24 transactions, each with a timeout of its own, and not for 3,000.
func TestACulpritAmongThreeThousandIsFoundByHalving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gatedStore{gate: make(chan struct{}), fail: refuse("b1234"), takes: time.Second}
		ids := make([]string, 3001)
		for i := range ids {
			ids[i] = fmt.Sprint("b", i)
		}
		errs := s.group(t, start(t, s, nil), ids)
		for id, err := range errs {
			if (id == "b1234") != (buildcast.CodeOf(err) == buildcast.InvalidArgument) || id != "b1234" && err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
		if n := len(s.calls); n > 30 {
			t.Errorf("%d transactions", n)
		}
	})
}

// If the store stores one part of a group and refuses the other, the other part is
// halved too.
func TestARefusedPartOfAGroupIsHalved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gatedStore{gate: make(chan struct{})}
		s.part = refuse("new-bad")
		errs := s.group(t, start(t, s, nil), []string{"known", "new-bad", "new-good"})
		for id, err := range errs {
			if (id == "new-bad") != (err != nil) {
				t.Errorf("%s: %v", id, err)
			}
		}
		if s.last["known"] != 1 || s.last["new-good"] != 1 {
			t.Errorf("stored: %v", s.last)
		}
	})
}

// A caller that stops waiting gets its answer at once, and its append is not stored
// later.
func TestACallerThatStopsWaitingIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gatedStore{gate: make(chan struct{}), fail: refuse("bad")}
		l := start(t, s, nil)
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() { _, _ = l.Append(t.Context(), "first", 0, ev("x")) })
		synctest.Wait()
		callers.Go(func() {
			_, err := l.Append(ctx, "left", 0, ev("x"))
			if buildcast.CodeOf(err) != buildcast.Unreachable || !errors.Is(err, gone) {
				t.Errorf("error %v", err)
			}
		})
		callers.Go(func() {
			if _, err := l.Append(t.Context(), "stays", 0, ev("x")); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel(gone)
		synctest.Wait()
		close(s.gate)
		callers.Wait()
		if s.last["left"] != 0 || s.last["stays"] != 1 {
			t.Errorf("stored: %v", s.last)
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

// What was stored before is published once. An append of no events is: it may have
// created the build.
func TestARepeatedAppendWakesNobody(t *testing.T) {
	stored := buildcast.NewEvent{Type: "x", Key: "stored"}
	for name, c := range map[string]struct {
		events []buildcast.NewEvent
		want   []int // events of each change
	}{
		"all stored before": {[]buildcast.NewEvent{stored, stored}, nil},
		"one is new":        {[]buildcast.NewEvent{stored, ev("x")}, []int{1}},
		"no events":         {nil, []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			var published []int
			l := start(t, &gatedStore{}, func(c Change) { published = append(published, len(c.Events)) })
			a, err := l.Append(t.Context(), "a", 0, c.events...)
			if err != nil || len(a.Events) != len(c.events) {
				t.Errorf("%v %v", a, err)
			}
			if !slices.Equal(published, c.want) {
				t.Errorf("published changes of %v events, want %v", published, c.want)
			}
		})
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

// An append that comes when the server stops, before the writer has seen it, is
// committed too. The select in Run chooses at random between the two.
func TestAnAppendAsTheLogStopsIsCommitted(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			s := &gatedStore{}
			l := New(s, &builds{}, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			go func() {
				synctest.Wait() // the append waits
				_ = l.Run(ctx)
			}()
			waits, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			if _, err := l.Append(waits, "a", 0, ev("x")); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }
