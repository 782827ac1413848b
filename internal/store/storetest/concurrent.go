package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

const callers = 32

// each runs f concurrently for every number below n, and reports its errors.
func each(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := f(i); err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	all.Wait()
}

// appendAll makes the appends and returns the stored events in their order.
func appendAll(t *testing.T, s store.Appender, appends ...store.Append) ([]store.Appended, error) {
	answers, err := s.AppendEvents(t.Context(), appends)
	if err != nil {
		return nil, err
	}
	for i, a := range answers {
		if a.Err != nil {
			return nil, a.Err
		}
		if len(a.Events) != len(appends[i].Events) {
			return nil, fmt.Errorf("%d events answer %d", len(a.Events), len(appends[i].Events))
		}
	}
	return answers, nil
}

// taken keeps the events that appends have returned. No id may be returned twice, and
// a later read must return the same events.
type taken struct {
	mu   sync.Mutex
	said map[string]map[int64]buildcast.Event // by build and id
}

func (k *taken) take(events []buildcast.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.said == nil {
		k.said = map[string]map[int64]buildcast.Event{}
	}
	for _, e := range events {
		if k.said[e.BuildID] == nil {
			k.said[e.BuildID] = map[int64]buildcast.Event{}
		}
		if _, ok := k.said[e.BuildID][e.ID]; ok {
			return fmt.Errorf("event %d of %s was answered twice", e.ID, e.BuildID)
		}
		k.said[e.BuildID][e.ID] = e
	}
	return nil
}

// check fails unless the builds have exactly the n events that appends have returned.
func (k *taken) check(t *testing.T, s store.Store, n int) {
	t.Helper()
	for build, said := range k.said {
		stored := log(t, s, build)
		wantIDs(t, stored, 1, int64(len(said)))
		status := buildcast.NewStatus(build, "", get(t, s, build).CreatedAt)
		for _, e := range stored {
			if d := diff(said[e.ID], e); d != "" {
				t.Fatalf("answered and read (-answered +read):\n%s", d)
			}
			status.Apply(&e)
		}
		if d := diff(status, get(t, s, build).Status); d != "" {
			t.Errorf("the status is not the fold (-fold +status):\n%s", d)
		}
		n -= len(said)
	}
	if n != 0 {
		t.Errorf("%d events are missing", n)
	}
}

func testConcurrentOne(t *testing.T, s store.Store) {
	var all taken
	each(t, callers, func(i int) error {
		for k := range 20 {
			events := many(1 + k%3)
			events[0].Key = fmt.Sprintf("%d.%d", i, k)
			answers, err := appendAll(t, s, store.Append{BuildID: "b", Events: events})
			if err != nil {
				return err
			}
			for j, e := range answers[0].Events {
				if e.ID != answers[0].Events[0].ID+int64(j) {
					return fmt.Errorf("the events of one append are apart: %+v", answers[0].Events)
				}
			}
			if err := all.take(answers[0].Events); err != nil {
				return err
			}
		}
		return nil
	})
	all.check(t, s, callers*(7*1+7*2+6*3))
}

// Calls name the builds in different orders: no two may wait for each other.
func testConcurrentSeveral(t *testing.T, s store.Store) {
	var all taken
	each(t, callers, func(i int) error {
		for k := range 10 {
			var appends []store.Append
			for j := range 3 {
				appends = append(appends, store.Append{BuildID: fmt.Sprintf("b%d", (i*3+k+j*(1+i%4))%5), Events: many(1 + j)})
			}
			answers, err := appendAll(t, s, appends...)
			if err != nil {
				return err
			}
			for _, a := range answers {
				if err := all.take(a.Events); err != nil {
					return err
				}
			}
		}
		return nil
	})
	all.check(t, s, callers*10*(1+2+3))
}

// Every caller appends the same keys, in an order of its own. Each key is stored once,
// and all callers get the same event.
func testConcurrentKeys(t *testing.T, s store.Store) {
	const keys = 20
	var mu sync.Mutex
	told := map[string]buildcast.Event{}
	each(t, callers, func(i int) error {
		for k := range keys {
			key := fmt.Sprint("k", (k+i)%keys)
			mine := event("step", fmt.Sprintf(`{"by":%d}`, i))
			mine.Key = key
			answers, err := appendAll(t, s, store.Append{BuildID: "b", Events: []buildcast.NewEvent{mine}})
			if err != nil {
				return err
			}
			e := bare(answers[0].Events)[0]
			mu.Lock()
			first, ok := told[key]
			told[key] = e
			mu.Unlock()
			if ok && diff(first, e) != "" {
				return fmt.Errorf("key %s:\n%s", key, diff(first, e))
			}
		}
		return nil
	})
	stored := log(t, s, "b")
	wantIDs(t, stored, 1, keys)
	for key, e := range told {
		if d := diff(bare(stored)[e.ID-1], e); d != "" {
			t.Errorf("key %s (-stored +told):\n%s", key, d)
		}
	}
}

func testConcurrentCreate(t *testing.T, s store.Store) {
	var mu sync.Mutex
	made := map[string]int{}
	each(t, callers, func(i int) error {
		b, created, err := s.CreateBuild(t.Context(), store.NewBuild{ID: fmt.Sprint("b", i), Plan: plan(), IdempotencyKey: "key"})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if made[b.ID] += 0; created {
			made[b.ID]++
		}
		return nil
	})
	for id, n := range made {
		if len(made) != 1 || n != 1 {
			t.Errorf("build %s was created %d times; builds %v", id, n, made)
		}
	}
	each(t, callers, func(int) error {
		_, err := appendAll(t, s, store.Append{BuildID: "external", Events: many(1)})
		if err == nil {
			_, _, err = s.CreateBuild(t.Context(), store.NewBuild{ID: "external"})
		}
		return err
	})
	wantIDs(t, log(t, s, "external"), 1, callers)
}

func testConcurrentClaims(t *testing.T, s store.Store) {
	const builds = 40
	for i := range builds {
		planned(t, s, fmt.Sprintf("b%02d", i))
	}
	var mu sync.Mutex
	owner := map[string]string{}
	claimSome := func(i int) (int, error) {
		me := fmt.Sprint("owner", i)
		leases, err := s.ClaimBuilds(t.Context(), me, time.Hour, 3, nil)
		if err != nil {
			return 0, err
		}
		if len(leases) > 3 {
			return 0, fmt.Errorf("%d leases, limit 3", len(leases))
		}
		mu.Lock()
		defer mu.Unlock()
		for _, l := range leases {
			if other, ok := owner[l.BuildID]; ok {
				return 0, fmt.Errorf("%s has %s already", other, l.BuildID)
			}
			owner[l.BuildID] = me
			if l.Generation != 1 || l.Owner != me {
				return 0, fmt.Errorf("the lease is %+v", l)
			}
		}
		return len(leases), nil
	}
	each(t, callers, func(i int) error { _, err := claimSome(i); return err })
	for { // a claim skips builds that another claim has locked
		n, err := claimSome(callers)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	if len(owner) != builds {
		t.Errorf("%d of %d builds were claimed", len(owner), builds)
	}
}

// The first runner appends until it is refused, because the second takes over
// meanwhile. In the log no event of the first follows one of the second.
func testConcurrentFence(t *testing.T, s store.Store) {
	planned(t, s, "b")
	first := claim(t, s, "one", over, 1)[0]
	begun := make(chan struct{})
	each(t, 2, func(i int) error {
		lease, name := first, "first"
		if i == 1 {
			<-begun
			leases, err := s.ClaimBuilds(t.Context(), "two", time.Hour, 1, nil)
			for err == nil && len(leases) == 0 { // its row was locked
				leases, err = s.ClaimBuilds(t.Context(), "two", time.Hour, 1, nil)
			}
			if err != nil {
				return err
			}
			lease, name = leases[0], "second"
		}
		for n := 0; ; n++ {
			answers, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: "b", Generation: lease.Generation, Events: []buildcast.NewEvent{event(name, `{}`)}}})
			switch {
			case err != nil:
				return err
			case answers[0].Err != nil && (i == 1 || buildcast.CodeOf(answers[0].Err) != buildcast.Fenced):
				return answers[0].Err
			case answers[0].Err != nil || i == 1 && n == 20:
				return nil
			case i == 0 && n == 5:
				close(begun)
			}
		}
	})
	seconds := 0
	for _, e := range log(t, s, "b") {
		if e.Type == "second" {
			seconds++
		} else if seconds > 0 {
			t.Fatalf("event %d is the first runner's, after the takeover", e.ID)
		}
	}
	if seconds != 21 {
		t.Errorf("%d events of the second runner", seconds)
	}
}

// A build is deleted, cut and made again while others append to it and the purge
// runs. No id is assigned twice, and in the end the kept log has no gap and folds to
// the status.
func testConcurrentDelete(t *testing.T, s store.Store) {
	var all taken
	each(t, 8, func(i int) error {
		for k := range 25 {
			events := []buildcast.NewEvent{keyed(fmt.Sprintf("%d.%d", i, k)), event(buildcast.BuildCompleted, `{}`)}
			answers, err := appendAll(t, s, store.Append{BuildID: "b", Events: events})
			if err != nil {
				return err
			}
			if err := all.take(answers[0].Events); err != nil {
				return err
			}
			switch i % 4 {
			case 0:
				_, err = s.DeleteBuild(t.Context(), "b")
			case 1:
				_, err = s.TruncateLog(t.Context(), "b", answers[0].Events[1].ID)
			case 2:
				_, err = s.Purge(t.Context(), 3)
			}
			if err != nil && buildcast.CodeOf(err) != buildcast.NotFound {
				return err
			}
		}
		return nil
	})
	a := add(t, s, "b", many(1)...)
	if want := int64(8*25*2 + 1); a.Status.LastEventID != want {
		t.Errorf("the last id is %d, want %d", a.Status.LastEventID, want)
	}
	wantFold(t, s, "b")
	purge(t, s)
	wantFold(t, s, "b")
}

// Readers that page while others append see each event once, in order.
func testConcurrentReaders(t *testing.T, s store.Store) {
	const writers, events = 8, 15
	each(t, writers+4, func(i int) error {
		if i < writers {
			for range events {
				if _, err := appendAll(t, s, store.Append{BuildID: "b", Events: many(2)}); err != nil {
					return err
				}
			}
			return nil
		}
		for last := int64(0); last < writers*events*2; {
			page, err := s.ReadEvents(t.Context(), "b", last, 7, 1<<20)
			if err != nil {
				return err
			}
			for _, e := range page {
				if last++; e.ID != last {
					return fmt.Errorf("event %d in place of %d", e.ID, last)
				}
			}
			bounds, err := s.Bounds(t.Context(), []string{"b"})
			if err != nil {
				return err
			}
			if bounds["b"].Last < last {
				return fmt.Errorf("the last id is %d after event %d was read", bounds["b"].Last, last)
			}
		}
		return nil
	})
}

func testClose(t *testing.T, s store.Store) {
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, add(t, s, "b", many(1)...).Events, 1, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, call := range calls(s) {
		wantAnswer(t, name, call(t.Context()), buildcast.StoreUnavailable)
	}
}
