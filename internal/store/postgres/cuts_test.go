package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store"
)

// A deletion and a cut touch no event, so that neither runs into the server's timeouts
// however many events there are. Here the events' rows are locked: deletions and cuts
// do not wait for them. The purge does, and appends do not wait for the purge.
func TestCutsTouchNoEvents(t *testing.T) {
	s, other := two(t)
	for _, id := range []string{"deleted", "cut"} {
		appendTo(t, s, store.Append{BuildID: id, Events: step("k")}, store.Append{BuildID: id, Events: finish()})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tx, err := other.pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, `SELECT FROM project_build_events FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	if first, err := s.DeleteBuild(ctx, "deleted"); err != nil || first != 3 {
		t.Fatalf("the next event is %d, %v", first, err)
	}
	if first, err := s.TruncateLog(ctx, "cut", 2); err != nil || first != 2 {
		t.Fatalf("the log begins at %d, %v", first, err)
	}
	purged := make(chan error, 1)
	go func() {
		for {
			if more, err := s.Purge(ctx, 10); err != nil || !more {
				purged <- err
				return
			}
		}
	}()
	blocked(t, tx, purged)
	for id, want := range map[string]int64{"deleted": 3, "cut": 3} { // while the purge waits
		wantID(t, appendTo(t, s, store.Append{BuildID: id, Events: step("")})[0], want)
	}
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-purged; err != nil {
		t.Fatal(err)
	}
	var left int
	if err := s.pool.QueryRow(ctx, `SELECT count(*) FROM project_build_events`).Scan(&left); err != nil || left != 3 {
		t.Errorf("%d events are left, %v", left, err)
	}
}

// A process that ends in the middle of a purge leaves the rest to the next one.
func TestPurgeIsResumed(t *testing.T) {
	url := pgtest.URL(t)
	one := open(t, url)
	var many []buildcast.NewEvent
	for range 25 {
		many = append(many, step("")...)
	}
	appendTo(t, one, store.Append{BuildID: "b", Events: append(many, finish()...)})
	if _, err := one.DeleteBuild(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if more, err := one.Purge(t.Context(), 10); err != nil || !more {
		t.Fatalf("more %v, %v", more, err)
	}
	next := open(t, url)
	for more := true; more; {
		var err error
		if more, err = next.Purge(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
	}
	var left int
	if err := next.pool.QueryRow(t.Context(), `SELECT count(*) FROM project_build_events`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d events are left, %v", left, err)
	}
}
