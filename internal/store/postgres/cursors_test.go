package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store"
)

// saveEndpoint stores an enabled endpoint that follows all builds.
func saveEndpoint(t testing.TB, s *Store, id string) {
	t.Helper()
	if _, err := s.SaveEndpoint(t.Context(), store.Endpoint{
		Endpoint: buildcast.Endpoint{ID: id, Enabled: true, CreatedAt: buildcast.Now()}, Sealed: []byte{},
	}); err != nil {
		t.Fatal(err)
	}
}

// A lease is renewed, or ended, although its cursor is being moved: the move
// leaves another version of the row, which the waiting statement does not see.
func TestLeasesOfCursorsThatMove(t *testing.T) {
	now := time.Now().Add(time.Minute) // the cursor is due before
	until := now.Add(time.Hour)
	for _, c := range []struct {
		name string
		call func(context.Context, *Store) error
		done string // a condition that the cursor meets afterwards
	}{
		{"renewed", func(ctx context.Context, s *Store) error { return s.RenewCursors(ctx, "n", now, until) }, `lease_until > now() + interval '30 minutes'`},
		{"ended", func(ctx context.Context, s *Store) error { return s.ReleaseCursors(ctx, "n") }, `lease_owner IS NULL AND lease_until = '-infinity'`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, other := two(t)
			saveEndpoint(t, s, "e")
			appendTo(t, s, store.Append{BuildID: "b", Events: step("")})
			cursors, err := s.ClaimCursors(t.Context(), "n", "e", nil, now, now.Add(time.Minute), 1)
			if err != nil || len(cursors) != 1 {
				t.Fatalf("%d cursors, %v", len(cursors), err)
			}
			whileMoving(t, other, func(ctx context.Context) error { return c.call(ctx, s) })
			var done bool
			if err := s.pool.QueryRow(t.Context(), `SELECT `+c.done+` FROM webhook_cursors`).Scan(&done); err != nil || !done {
				t.Errorf("the lease is not %s, %v", c.name, err)
			}
		})
	}
}

// A delivery that fails while others are recalled is not lost: either it stays, or the
// cursor moves back to it too.
func TestRecallWhileADeliveryFails(t *testing.T) {
	s, other := two(t)
	saveEndpoint(t, s, "e")
	for range 5 {
		appendTo(t, s, store.Append{BuildID: "b", Events: step("")})
	}
	const failed = `
		INSERT INTO worker_webhook_failures (endpoint_id, build_id, event_id, event_type, state, tries, attempts, retry_at, created_at, updated_at)
		VALUES ('e', 'b', $1, 'step', 'retrying', 1, '[]', now(), now(), now())`
	if _, err := s.pool.Exec(t.Context(), failed, 5); err != nil {
		t.Fatal(err)
	}
	whileIn(t, other, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `UPDATE webhook_cursors SET next_event_id = 3`); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), failed, 2)
		return err
	}, func(ctx context.Context) error { return s.RecallDeliveries(ctx, "e", time.Now().Add(-time.Hour)) })
	var next int64
	var kept bool
	if err := s.pool.QueryRow(t.Context(), `
		SELECT next_event_id, EXISTS (SELECT FROM worker_webhook_failures WHERE event_id = 2) FROM webhook_cursors`).Scan(&next, &kept); err != nil {
		t.Fatal(err)
	}
	if next > 2 && !kept {
		t.Errorf("the delivery of event 2 is gone, and the cursor is at %d", next)
	}
}

// An append that waits while a cursor is parked creates the cursor again, although the
// append's snapshot still has the old one.
func TestAppendWhileItsCursorIsParked(t *testing.T) {
	for name, known := range map[string]bool{"known": true, "locked first": false} {
		t.Run(name, func(t *testing.T) {
			s, other := two(t)
			saveEndpoint(t, s, "e")
			if known {
				appendTo(t, s, store.Append{BuildID: "b", Events: step("")})
			} else {
				appendTo(t, other, store.Append{BuildID: "b", Events: step("")})
			}
			whileIn(t, other, func(tx pgx.Tx) error {
				if _, err := tx.Exec(t.Context(), `SELECT FROM builds FOR UPDATE`); err != nil {
					return err
				}
				_, err := tx.Exec(t.Context(), `DELETE FROM webhook_cursors`)
				return err
			}, func(ctx context.Context) error {
				_, err := s.AppendEvents(ctx, []store.Append{{BuildID: "b", Events: step("")}})
				return err
			})
			now := time.Now().Add(time.Minute)
			cursors, err := s.ClaimCursors(t.Context(), "n", "e", nil, now, now.Add(time.Minute), 10)
			if err != nil || len(cursors) != 1 || cursors[0].Next != 2 {
				t.Errorf("%+v, %v; want a cursor at event 2", cursors, err)
			}
		})
	}
}

// whileMoving makes the call wait for a transaction that moves all cursors.
func whileMoving(t *testing.T, other *Store, call func(context.Context) error) {
	t.Helper()
	whileIn(t, other, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE webhook_cursors SET next_event_id = next_event_id + 1`)
		return err
	}, call)
}

// whileIn makes the call wait for a transaction that does something and commits.
func whileIn(t *testing.T, other *Store, do func(pgx.Tx) error, call func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tx, err := other.pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if err := do(tx); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- call(ctx) }()
	blocked(t, tx, ended)
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// The deletion of a build locks its cursors in key order: while it waits for the first
// it holds none of the others.
func TestDeleteBuildLocksCursorsInOrder(t *testing.T) {
	s, other := two(t)
	for _, id := range []string{"e3", "e2", "e1"} { // in the table the last comes first
		saveEndpoint(t, s, id)
		appendTo(t, s, store.Append{BuildID: "b", Events: step("")})
	}
	appendTo(t, s, store.Append{BuildID: "b", Events: finish()})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tx, err := other.pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, `SELECT FROM webhook_cursors WHERE endpoint_id = 'e1' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := s.DeleteBuild(ctx, "b"); ended <- err }()
	blocked(t, tx, ended)
	if _, err := tx.Exec(ctx, `SELECT FROM webhook_cursors FOR UPDATE NOWAIT`); err != nil {
		t.Errorf("it holds others while it waits for the first: %v", err)
	}
	if err := tx.Rollback(ctx); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The log of operations is not a user's build, and is on no page.
func TestListLeavesOutOperations(t *testing.T) {
	s := open(t, pgtest.URL(t))
	appendTo(t, s, store.Append{BuildID: "b", Events: step("")})
	appendTo(t, s, store.Append{BuildID: buildcast.OperationsBuild, Events: step("")})
	page, err := s.ListBuilds(t.Context(), store.Filter{Limit: 1})
	if err != nil || len(page.Statuses) != 1 || page.Statuses[0].BuildID != "b" || page.Next != "" {
		t.Errorf("%+v, %v", page, err)
	}
}

// No delivery or cursor is left for an endpoint or a build that was deleted while a
// client asked for a delivery.
func TestAskedForWhatIsBeingDeleted(t *testing.T) {
	for name, call := range map[string]func(context.Context, *Store) error{
		"redelivery": func(ctx context.Context, s *Store) error {
			_, err := s.Redeliver(ctx, store.Redelivery{EndpointID: "e", BuildID: "b", EventID: 1}, time.Now())
			return err
		},
		"rewind": func(ctx context.Context, s *Store) error { return s.Rewind(ctx, "e", "b", 1) },
	} {
		for what, remove := range map[string]string{
			"endpoint": `DELETE FROM webhook_endpoints`,
			"build":    `UPDATE builds SET deleted_at = now(), first_event_id = last_event_id + 1`,
		} {
			t.Run(name+" of a deleted "+what, func(t *testing.T) {
				s, other := two(t)
				saveEndpoint(t, s, "e")
				appendTo(t, s, store.Append{BuildID: "b", Events: finish()})
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				tx, err := other.pool.Begin(ctx)
				if err != nil {
					t.Fatal(err)
				}
				defer tx.Rollback(context.WithoutCancel(ctx))
				if _, err := tx.Exec(ctx, remove); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- call(ctx, s) }()
				blocked(t, tx, ended)
				if err := tx.Commit(ctx); err != nil {
					t.Fatal(err)
				}
				if err := <-ended; buildcast.CodeOf(err) != buildcast.NotFound {
					t.Errorf("error %v", err)
				}
			})
		}
	}
}
