package eventlog

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// builds is the builds of a store with one build, whose events are purged in steps.
type builds struct {
	mu        sync.Mutex
	deleted   bool
	committed func() // called during the commit of a deletion
	left      int    // steps of the purge
	stepTime  time.Duration
	fails     bool
	steps     int
}

func (b *builds) CreateBuild(_ context.Context, n store.NewBuild) (buildcast.Build, bool, error) {
	return buildcast.Build{ID: n.ID, Status: buildcast.Status{BuildID: n.ID}}, n.ID == "new", nil
}

func (b *builds) DeleteBuild(context.Context, string) (int64, error) {
	if b.committed != nil {
		b.committed()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.deleted {
		return 0, store.NoBuild("b")
	}
	b.deleted, b.left = true, 3
	return 8, nil
}

func (b *builds) TruncateLog(_ context.Context, _ string, first int64) (int64, error) {
	if first > 8 {
		return 0, buildcast.Errorf(buildcast.InvalidArgument, "beyond the end")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = 3
	return max(first, 5), nil
}

func (b *builds) Purge(context.Context, int) (bool, error) {
	time.Sleep(b.stepTime)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.steps++
	if b.fails {
		return true, errors.New("cannot be purged")
	}
	b.left = max(b.left-1, 0)
	return b.left > 0, nil
}

func (b *builds) count() (steps, left int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.steps, b.left
}

func TestCreationsAndCutsArePublishedOnce(t *testing.T) {
	l := New(nil, &builds{}, slog.New(slog.DiscardHandler))
	var changes []Change
	l.Subscribe(func(c Change) { changes = append(changes, c) })
	for _, id := range []string{"new", "there already"} {
		if _, _, err := l.Create(t.Context(), store.NewBuild{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Truncate(t.Context(), "b", 3); err != nil {
		t.Fatal(err)
	}
	if err := l.Truncate(t.Context(), "b", 9); buildcast.CodeOf(err) != buildcast.InvalidArgument {
		t.Errorf("error %v", err)
	}
	if err := l.Delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if err := l.Delete(t.Context(), "b"); buildcast.CodeOf(err) != buildcast.NotFound {
		t.Errorf("error %v", err)
	}
	if len(changes) != 3 || changes[0].Kind != Appended || changes[0].BuildID != "new" || len(changes[0].Events) != 0 ||
		changes[1].Kind != Truncated || changes[1].Deleted || changes[1].FirstEventID != 5 ||
		changes[2].Kind != Truncated || !changes[2].Deleted || changes[2].FirstEventID != 8 {
		t.Errorf("changes %+v", changes)
	}
}

// A subscriber that learned of a deletion after the next event would take the new
// build for a deleted one. So nothing is committed between a deletion's commit and its
// publication, and no deletion between an append's commit and its publication.
func TestADeletionIsPublishedBeforeTheNextAppend(t *testing.T) {
	s, b := &gatedStore{}, &builds{}
	l := New(s, b, slog.New(slog.DiscardHandler))
	shared := func() bool {
		ok := l.order.TryRLock()
		if ok {
			l.order.RUnlock()
		}
		return ok
	}
	alone := func() bool {
		ok := l.order.TryLock()
		if ok {
			l.order.Unlock()
		}
		return ok
	}
	b.committed = func() {
		if shared() {
			t.Error("an append can be committed during a deletion's commit")
		}
	}
	s.fail = func([]store.Append) error {
		if alone() {
			t.Error("a deletion can be committed during an append's commit")
		}
		return nil
	}
	l.Subscribe(func(c Change) {
		if c.Kind == Truncated && shared() || alone() {
			t.Errorf("%v is published when others can commit already", c.Kind)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { _ = l.Run(ctx) })
	defer done.Wait()
	defer cancel()
	if _, err := l.Append(t.Context(), "b", 0, ev("x")); err != nil {
		t.Fatal(err)
	}
	if err := l.Delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Create(t.Context(), store.NewBuild{ID: "new"}); err != nil {
		t.Fatal(err)
	}
}

// running runs the log in the bubble of a test.
func running(t *testing.T, b *builds) *Log {
	l := New(&gatedStore{}, b, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { _ = l.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	return l
}

func TestPurgeResumesAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &builds{left: 5} // left by a crash
		running(t, b)
		time.Sleep(time.Second)
		if steps, left := b.count(); steps != 5 || left != 0 {
			t.Errorf("%d steps, %d are left", steps, left)
		}
	})
}

func TestPurgeRunsAfterEachCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &builds{}
		l := running(t, b)
		synctest.Wait()
		for n, cut := range []func() error{
			func() error { return l.Truncate(t.Context(), "b", 2) },
			func() error { return l.Delete(t.Context(), "b") },
		} {
			if err := cut(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if steps, left := b.count(); left != 0 || steps != 1+3*(n+1) {
				t.Errorf("cut %d: %d steps, %d are left", n, steps, left)
			}
		}
	})
}

// Events that another process has left behind are purged without a cut in this
// process.
func TestPurgeLooksNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &builds{fails: true}
		running(t, b)
		time.Sleep(time.Second)
		if steps, _ := b.count(); steps != 1 {
			t.Errorf("%d steps after a failure", steps)
		}
		b.mu.Lock()
		b.fails, b.left = false, 2
		b.mu.Unlock()
		time.Sleep(purgeInterval)
		if _, left := b.count(); left != 0 {
			t.Errorf("%d steps are left", left)
		}
	})
}

func TestPurgeLeavesTheStoreHalfOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &builds{left: 1000, stepTime: 10 * time.Millisecond}
		running(t, b)
		time.Sleep(time.Second)
		if steps, _ := b.count(); steps < 45 || steps > 51 {
			t.Errorf("%d steps of 10 ms in a second, want about 50", steps)
		}
	})
}
