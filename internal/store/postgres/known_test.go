package postgres

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store"
)

// two returns two stores on one database, as two processes have them.
func two(t *testing.T) (one, other *Store) {
	t.Helper()
	url := pgtest.URL(t)
	return open(t, url), open(t, url)
}

// step is an event; key may be empty.
func step(key string) []buildcast.NewEvent {
	return []buildcast.NewEvent{{Type: "step", Data: json.RawMessage(`{}`), Key: key}}
}

func finish() []buildcast.NewEvent {
	return []buildcast.NewEvent{{Type: buildcast.BuildCompleted, Data: json.RawMessage(`{}`)}}
}

func appendTo(t *testing.T, s *Store, appends ...store.Append) []store.Appended {
	t.Helper()
	answers, err := s.AppendEvents(t.Context(), appends)
	if err != nil {
		t.Fatal(err)
	}
	return answers
}

// wantID fails unless the append stored, or found, one event with the id.
func wantID(t *testing.T, a store.Appended, id int64) {
	t.Helper()
	if a.Err != nil || len(a.Events) != 1 || a.Events[0].ID != id {
		t.Errorf("%+v, %v; want event %d", a.Events, a.Err, id)
	}
}

// guessesAt reports whether the store would guess at the build's row.
func guessesAt(s *Store, build string) bool {
	s.known.mu.Lock()
	defer s.known.mu.Unlock()
	row, ok := s.known.rows[build]
	return ok && row.sharedUntil.IsZero()
}

// guessed makes an append that begins with a guess. It fails unless the append takes a
// connection once if the guess is right, and twice if it is wrong.
func guessed(t *testing.T, s *Store, right bool, appends ...store.Append) []store.Appended {
	t.Helper()
	if id := appends[0].BuildID; !guessesAt(s, id) {
		t.Fatalf("the row of %s is not known", id)
	}
	before := s.pool.Stat().AcquireCount()
	answers := appendTo(t, s, appends...)
	if n := s.pool.Stat().AcquireCount() - before; (n == 1) != right || n > 2 {
		t.Errorf("the append took %d connections; the guess should have been right: %v", n, right)
	}
	return answers
}

func TestKnownRow(t *testing.T) {
	s, _ := two(t)
	wantID(t, appendTo(t, s, store.Append{BuildID: "b", Events: step("")})[0], 1)
	for id := int64(2); id < 5; id++ {
		wantID(t, guessed(t, s, true, store.Append{BuildID: "b", Events: step(fmt.Sprint("k", id))})[0], id)
	}
	answers := guessed(t, s, true, store.Append{BuildID: "b", Events: step("")}, store.Append{BuildID: "b", Events: finish()})
	wantID(t, answers[0], 5)
	wantID(t, answers[1], 6)
	wantWhole(t, s, "b")
	if b, err := s.GetBuild(t.Context(), "b"); err != nil || b.Status.Phase != buildcast.Completed || b.Status.FinishedAt == nil {
		t.Errorf("the build: %+v, %v", b, err)
	}
	if _, err := s.DeleteBuild(t.Context(), "b"); err != nil { // finished_at is there too
		t.Error(err)
	}
}

func TestKnownRowIsStale(t *testing.T) {
	one, other := two(t)
	appendTo(t, one, store.Append{BuildID: "b", Events: step("")})
	wantID(t, appendTo(t, other, store.Append{BuildID: "b", Events: step("")})[0], 2)
	a := guessed(t, one, false, store.Append{BuildID: "b", Events: step("")})[0]
	wantID(t, a, 3)
	if a.Status.LastEventID != 3 {
		t.Errorf("the status is at event %d", a.Status.LastEventID)
	}
	if guessesAt(one, "b") {
		t.Error("a build that another process appends to is guessed at again")
	}
	for id := int64(4); id < 10; id += 2 {
		wantID(t, appendTo(t, other, store.Append{BuildID: "b", Events: step("")})[0], id)
		wantID(t, appendTo(t, one, store.Append{BuildID: "b", Events: step("")})[0], id+1)
	}
	wantWhole(t, one, "b")
}

func TestKnownRowIsFenced(t *testing.T) {
	one, other := two(t)
	if _, _, err := one.CreateBuild(t.Context(), store.NewBuild{ID: "b", Plan: &buildcast.Plan{Name: "p", Build: "make"}}); err != nil {
		t.Fatal(err)
	}
	claim := func(s *Store) int64 {
		t.Helper()
		leases, err := s.ClaimBuilds(t.Context(), "owner", 0, 1, nil)
		if err != nil || len(leases) != 1 {
			t.Fatalf("%+v, %v", leases, err)
		}
		return leases[0].Generation
	}
	first := claim(one)
	wantID(t, appendTo(t, one, store.Append{BuildID: "b", Generation: first, Events: step("")})[0], 1)

	// Another process takes over: the first one's guess is as old as its lease.
	second := claim(other)
	a := guessed(t, one, false, store.Append{BuildID: "b", Generation: first, Events: step("")})[0]
	if buildcast.CodeOf(a.Err) != buildcast.Fenced || len(a.Events) != 0 || a.Status.LastEventID != 1 {
		t.Errorf("the old lease: %+v", a)
	}
	wantID(t, appendTo(t, other, store.Append{BuildID: "b", Generation: second, Events: step("")})[0], 2)

	// The same process takes over from itself: the row that it knows has the old lease.
	third := claim(other)
	a = guessed(t, other, false, store.Append{BuildID: "b", Generation: third, Events: step("")})[0]
	wantID(t, a, 3)
	a = appendTo(t, other, store.Append{BuildID: "b", Generation: second, Events: step("")})[0]
	if buildcast.CodeOf(a.Err) != buildcast.Fenced {
		t.Errorf("the old lease: %+v", a)
	}
	if n := wantWhole(t, one, "b"); n != 3 {
		t.Errorf("%d events", n)
	}
}

// Of two appends to one known build, one is fenced: the other is stored, once.
func TestKnownRowWithAFencedAppendAmongOthers(t *testing.T) {
	s, _ := two(t)
	appendTo(t, s, store.Append{BuildID: "b", Events: step("")})
	answers := guessed(t, s, false,
		store.Append{BuildID: "b", Events: step("")}, store.Append{BuildID: "b", Generation: 7, Events: step("")}, store.Append{BuildID: "b", Events: step("")})
	wantID(t, answers[0], 2)
	if buildcast.CodeOf(answers[1].Err) != buildcast.Fenced {
		t.Errorf("the fenced append: %+v", answers[1])
	}
	wantID(t, answers[2], 3)
	if n := wantWhole(t, s, "b"); n != 3 {
		t.Errorf("%d events", n)
	}
}

// A fenced append does not mean that another process appends to the build.
func TestKnownRowWithFencedAppendsOnly(t *testing.T) {
	s, _ := two(t)
	appendTo(t, s, store.Append{BuildID: "b", Events: step("")})
	if a := appendTo(t, s, store.Append{BuildID: "b", Generation: 7, Events: step("")})[0]; buildcast.CodeOf(a.Err) != buildcast.Fenced {
		t.Errorf("the fenced append: %+v", a)
	}
	wantID(t, guessed(t, s, true, store.Append{BuildID: "b", Events: step("")})[0], 2)
}

func TestKnownRowAndAKeyThatIsStored(t *testing.T) {
	s, _ := two(t)
	appendTo(t, s, store.Append{BuildID: "b", Events: step("k")}, store.Append{BuildID: "c", Events: step("")})
	wantID(t, guessed(t, s, false, store.Append{BuildID: "b", Events: step("k")})[0], 1)
	wantID(t, guessed(t, s, true, store.Append{BuildID: "b", Events: step("l")})[0], 2)
	// A key of one build undoes the guess at the others as well.
	answers := guessed(t, s, false,
		store.Append{BuildID: "c", Events: step("")}, store.Append{BuildID: "b", Events: append(step("k"), step("m")...)}, store.Append{BuildID: "c", Events: step("")})
	wantID(t, answers[0], 2)
	wantID(t, answers[2], 3)
	if ids := answers[1].Events; len(ids) != 2 || ids[0].ID != 1 || ids[1].ID != 3 {
		t.Errorf("the stored key and a new one: %+v", ids)
	}
	if b, c := wantWhole(t, s, "b"), wantWhole(t, s, "c"); b != 3 || c != 3 {
		t.Errorf("%d and %d events", b, c)
	}
}

// A known row is not used for a build that was created under the same id since, or
// whose log was cut since.
func TestKnownRowOfALogThatWasCut(t *testing.T) {
	one, other := two(t)
	appendTo(t, one, store.Append{BuildID: "b", Events: finish()})
	if _, err := other.DeleteBuild(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	a := guessed(t, one, false, store.Append{BuildID: "b", Events: finish()})[0]
	wantID(t, a, 2)
	if a.Status.FirstEventID != 2 {
		t.Errorf("the status is that of the deleted build: %+v", a.Status)
	}

	// The whole log is cut off before the deletion: neither changes the last id.
	appendTo(t, one, store.Append{BuildID: "c", Events: finish()})
	if _, err := other.TruncateLog(t.Context(), "c", 2); err != nil {
		t.Fatal(err)
	}
	a = guessed(t, one, false, store.Append{BuildID: "c", Events: finish()})[0]
	wantID(t, a, 2)
	if a.Status.FirstEventID != 2 || a.Status.Phase != buildcast.Completed {
		t.Errorf("after the cut: %+v", a.Status)
	}
	wantWhole(t, one, "c")

	appendTo(t, one, store.Append{BuildID: "d", Events: finish()})
	if _, err := one.TruncateLog(t.Context(), "d", 2); err != nil {
		t.Fatal(err)
	}
	one.known.put(map[string]*store.Row{"d": rowOf(t, one, "d")})
	if _, err := other.DeleteBuild(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	if _, created, err := other.CreateBuild(t.Context(), store.NewBuild{ID: "d"}); err != nil || !created {
		t.Fatal(created, err)
	}
	a = guessed(t, one, false, store.Append{BuildID: "d", Events: step("")})[0]
	wantID(t, a, 2)
	if a.Status.Phase != buildcast.Queued {
		t.Errorf("the status is that of the deleted build: %+v", a.Status)
	}
}

// rowOf returns the build's row as it is stored.
func rowOf(t *testing.T, s *Store, id string) *store.Row {
	t.Helper()
	b, err := s.GetBuild(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return &store.Row{Status: b.Status}
}

func TestKnownRowsOfSeveralBuilds(t *testing.T) {
	one, other := two(t)
	to := func(builds ...string) (appends []store.Append) {
		for _, id := range builds {
			appends = append(appends, store.Append{BuildID: id, Events: step("")})
		}
		return appends
	}
	appendTo(t, one, to("a", "b", "c")...)
	for i, a := range guessed(t, one, true, to("c", "a", "b", "a")...) {
		wantID(t, a, []int64{2, 2, 2, 3}[i])
	}
	wantID(t, appendTo(t, other, to("b")...)[0], 3)
	// One is known, one is stale, one is not known.
	for i, a := range guessed(t, one, false, to("a", "b", "new", "c", "b", "a")...) {
		wantID(t, a, []int64{4, 4, 1, 3, 5, 5}[i])
		if id := []string{"a", "b", "new", "c", "b", "a"}[i]; a.Status.BuildID != id || a.Events[0].BuildID != id {
			t.Errorf("answer %d is for %s and %s, want %s", i, a.Status.BuildID, a.Events[0].BuildID, id)
		}
	}
	for i, id := range []string{"a", "b", "c", "new"} {
		if n := wantWhole(t, other, id); n != []int64{5, 5, 3, 1}[i] {
			t.Errorf("%s has %d events", id, n)
		}
	}
}

func TestKnownRowsAreBounded(t *testing.T) {
	var k knownRows
	for i := range 2 * maxKnown {
		k.put(map[string]*store.Row{fmt.Sprint(i): {}})
		k.shared(fmt.Sprint("s", i))
		if n := len(k.rows); n > maxKnown {
			t.Fatalf("%d rows are remembered, the limit is %d", n, maxKnown)
		}
	}
}

func TestSharedBuildIsGuessedAtAgainLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k knownRows
		appends, rows := []store.Append{{BuildID: "b"}}, map[string]*store.Row{"b": {Generation: 3}}
		k.shared("b")
		k.put(rows)
		if len(k.take(appends)) != 0 {
			t.Error("a shared build is guessed at")
		}
		<-time.After(sharedFor + time.Nanosecond)
		k.put(rows)
		if row := k.take(appends)["b"]; row == nil || row.Generation != 3 {
			t.Errorf("after %v the row is %+v", sharedFor, row)
		}
		if len(k.take(appends)) != 0 {
			t.Error("a row that is being written is guessed at")
		}
	})
}

// 32 appenders append to one build over two stores, while a poller reads: it sees each
// id once, in order.
func TestTwoStoresOneBuild(t *testing.T) {
	const appenders, each = 32, 20
	one, other := two(t)
	var all sync.WaitGroup
	writers := make([]writer, appenders)
	for i := range writers {
		writers[i] = writer{build: "b", name: fmt.Sprint(i)}
		all.Go(func() {
			for range each {
				if err := writers[i].try(t.Context(), []*Store{one, other}[i%2]); err != nil {
					t.Errorf("appender %d: %v", i, err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { defer close(done); all.Wait() }()
	var last int64
	for over := false; !over; {
		select {
		case <-done:
			over = true // and read once more
		default:
		}
		events, err := other.ReadEvents(t.Context(), "b", last, 100, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if last++; e.ID != last {
				t.Fatalf("event %d in place of %d", e.ID, last)
			}
		}
	}
	if last != appenders*each {
		t.Errorf("%d events were read, want %d", last, appenders*each)
	}
	taken := map[int64]bool{}
	for i := range writers {
		for key, id := range writers[i].acked {
			if taken[id] {
				t.Errorf("event %d was acknowledged twice, also to %s", id, key)
			}
			taken[id] = true
		}
	}
	wantWhole(t, one, "b")
}

// Two processes commit groups of appends to the same builds, in different orders: no
// append fails because of the other process.
func TestTwoStoresSeveralBuilds(t *testing.T) {
	const rounds, builds = 40, 6
	one, other := two(t)
	var all sync.WaitGroup
	for _, s := range []*Store{one, other} {
		all.Go(func() {
			for range rounds {
				var group []store.Append
				for _, i := range rand.Perm(builds) {
					group = append(group, store.Append{BuildID: fmt.Sprint("b", i), Events: step("")})
				}
				answers, err := s.AppendEvents(t.Context(), group)
				if err != nil {
					t.Error(err)
					return
				}
				for _, a := range answers {
					if a.Err != nil {
						t.Error(a.Err)
					}
				}
			}
		})
	}
	all.Wait()
	for i := range builds {
		if n := wantWhole(t, one, fmt.Sprint("b", i)); n != 2*rounds {
			t.Errorf("b%d has %d events, want %d", i, n, 2*rounds)
		}
	}
}
