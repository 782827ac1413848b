package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store"
)

// race is two processes that append to the same builds and deliver their events to
// the same endpoints.
type race struct {
	builds, endpoints []string

	mu   sync.Mutex
	sent map[string]bool // "endpoint build id"
}

// All calls that lock rows of builds, cursors and deliveries run concurrently, in two
// processes. Nothing deadlocks, and each event is sent to each endpoint: no cursor is
// missing.
func TestWebhooksRace(t *testing.T) {
	const appenders, appends, disturbances = 2, 150, 60 // of each process, of each appender, of each process
	url := pgtest.URL(t)
	stores := []*Store{open(t, url), open(t, url)}
	r := &race{sent: map[string]bool{}}
	for i := range 6 {
		r.builds = append(r.builds, fmt.Sprint("b", i))
	}
	for i := range 3 {
		r.endpoints = append(r.endpoints, fmt.Sprint("e", i))
		saveEndpoint(t, stores[0], r.endpoints[i])
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	var busy, deliver errgroup.Group
	var over atomic.Bool
	for i, s := range stores {
		owner := fmt.Sprint("n", i)
		for a := range appenders {
			busy.Go(func() error { return r.append(ctx, s, appends, uint64(a)) })
		}
		busy.Go(func() error { return r.disturb(ctx, s, owner, disturbances) })
		for range 2 {
			deliver.Go(func() error {
				for !over.Load() {
					now := time.Now()
					if rand.IntN(10) == 0 {
						now = now.Add(2 * lease) // as if its holder had ended
					}
					if _, err := r.deliver(ctx, s, owner, now); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	err := busy.Wait()
	over.Store(true)
	if err2 := deliver.Wait(); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	r.finish(t, stores[1])
	for _, s := range stores {
		if err := s.Close(); err != nil { // so that the server's counts are complete
			t.Error(err)
		}
	}
	noDeadlocks(t, url)
}

const lease = time.Minute

// append appends to several builds at a time, in any order.
func (r *race) append(ctx context.Context, s *Store, n int, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 0))
	for range n {
		var appends []store.Append
		for _, b := range random.Perm(len(r.builds))[:1+random.IntN(3)] {
			appends = append(appends, store.Append{BuildID: r.builds[b], Events: step("")})
		}
		answers, err := s.AppendEvents(ctx, appends)
		if err != nil {
			return fmt.Errorf("append: %w", err)
		}
		for _, a := range answers {
			if a.Err != nil {
				return fmt.Errorf("append: %w", a.Err)
			}
		}
	}
	return nil
}

// deliver sends the events that are due to each endpoint; some fail and are retried.
// It returns how many cursors and deliveries were claimed.
func (r *race) deliver(ctx context.Context, s *Store, owner string, now time.Time) (claimed int, err error) {
	for _, e := range r.endpoints {
		cursors, err := s.ClaimCursors(ctx, owner, e, nil, now, now.Add(lease), 4)
		if err != nil {
			return 0, fmt.Errorf("claim: %w", err)
		}
		claimed += len(cursors)
		if err := r.moveOn(ctx, s, owner, cursors); err != nil {
			return 0, fmt.Errorf("move: %w", err)
		}
		due, err := s.ClaimDeliveries(ctx, owner, e, now, now.Add(lease), 4)
		if err != nil {
			return 0, fmt.Errorf("claim deliveries: %w", err)
		}
		claimed += len(due)
		for _, d := range due {
			r.send(e, d.BuildID, d.EventID)
			d.State, d.RetryAt, d.UpdatedAt = buildcast.DeliveryDelivered, nil, buildcast.Now()
			if err := s.SaveDelivery(ctx, owner, d); err != nil {
				return 0, fmt.Errorf("save: %w", err)
			}
		}
	}
	return claimed, nil
}

// moveOn delivers from the cursors, a few events at a time and all cursors in one
// call, until they are parked, blocked or taken.
func (r *race) moveOn(ctx context.Context, s *Store, owner string, cursors []store.Cursor) error {
	for len(cursors) > 0 {
		moves := make([]store.Move, len(cursors))
		for i, c := range cursors {
			events, err := s.ReadEvents(ctx, c.BuildID, c.Next-1, 5, 1e6)
			if err != nil {
				return err
			}
			moves[i] = r.try(c, events)
		}
		rand.Shuffle(len(moves), func(i, j int) { moves[i], moves[j] = moves[j], moves[i] })
		moved, err := s.MoveCursors(ctx, owner, moves)
		if err != nil {
			return err
		}
		cursors = cursors[:0]
		for i, m := range moved {
			if m.Held {
				cursors = append(cursors, moves[i].Cursor)
			}
		}
	}
	return nil
}

// try sends the events up to one that fails, if any.
func (r *race) try(c store.Cursor, events []buildcast.Event) store.Move {
	for _, e := range events {
		c.Next = e.ID + 1
		if rand.IntN(10) > 0 {
			r.send(c.EndpointID, c.BuildID, e.ID)
			continue
		}
		now := buildcast.Now()
		return store.Move{Cursor: c, Block: e.ID%2 == 0, Failed: &buildcast.Delivery{
			EndpointID: c.EndpointID, BuildID: c.BuildID, EventID: e.ID, EventType: e.Type,
			State: buildcast.DeliveryRetrying, Tries: 1, RetryAt: &now, CreatedAt: now, UpdatedAt: now,
		}}
	}
	return store.Move{Cursor: c, Park: len(events) == 0}
}

func (r *race) send(endpoint, build string, id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent[fmt.Sprint(endpoint, " ", build, " ", id)] = true
}

// disturb makes all other calls that lock.
func (r *race) disturb(ctx context.Context, s *Store, owner string, n int) error {
	passing := "passing-" + owner // an endpoint, and a build, that come and go
	for i := range n {
		e, b, now := r.endpoints[rand.IntN(len(r.endpoints))], r.builds[rand.IntN(len(r.builds))], time.Now()
		var err error
		switch i % 6 {
		case 0:
			err = s.RecallDeliveries(ctx, e, now.Add(-time.Hour))
		case 1:
			if err = s.Rewind(ctx, e, b, 1); buildcast.CodeOf(err) == buildcast.NotFound {
				err = nil // the build has not begun
			}
		case 2:
			err = s.RenewCursors(ctx, owner, now, now.Add(lease))
		case 3:
			err = s.ReleaseCursors(ctx, owner)
		case 4:
			err = s.PruneDeliveries(ctx, now)
		case 5:
			err = comeAndGo(ctx, s, passing)
		}
		if err != nil {
			return fmt.Errorf("disturbance %d: %w", i%6, err)
		}
	}
	return nil
}

func comeAndGo(ctx context.Context, s *Store, id string) error {
	if _, err := s.SaveEndpoint(ctx, store.Endpoint{Endpoint: buildcast.Endpoint{ID: id, Enabled: true, CreatedAt: buildcast.Now()}, Sealed: []byte{}}); err != nil {
		return err
	}
	answers, err := s.AppendEvents(ctx, []store.Append{{BuildID: id, Events: finish()}})
	if err != nil {
		return err
	}
	if _, err := s.Redeliver(ctx, store.Redelivery{EndpointID: id, BuildID: id, EventID: answers[0].Events[0].ID}, time.Now()); err != nil {
		return err
	}
	if _, err := s.DeleteBuild(ctx, id); err != nil {
		return err
	}
	if _, err := s.Purge(ctx, 10); err != nil {
		return err
	}
	return s.DeleteEndpoint(ctx, id)
}

// finish delivers the rest, and fails if an event was never sent.
func (r *race) finish(t *testing.T, s *Store) {
	t.Helper()
	now := time.Now().Add(time.Hour) // all leases are over
	for claimed := 1; claimed > 0; now = now.Add(2 * lease) {
		var err error
		if claimed, err = r.deliver(t.Context(), s, "last", now); err != nil {
			t.Fatal(err)
		}
	}
	bounds, err := s.Bounds(t.Context(), r.builds)
	if err != nil || len(bounds) != len(r.builds) {
		t.Fatalf("%d builds, %v", len(bounds), err)
	}
	for _, e := range r.endpoints {
		for b, kept := range bounds {
			for id := kept.First; id <= kept.Last; id++ {
				if !r.sent[fmt.Sprint(e, " ", b, " ", id)] {
					t.Errorf("event %d of %d of %s was never sent to %s", id, kept.Last, b, e)
				}
			}
		}
	}
	w, err := s.Waiting(t.Context())
	for _, e := range r.endpoints {
		if err != nil || w[e] != (store.Waiting{}) {
			t.Errorf("%+v are left of %s, %v", w[e], e, err)
		}
	}
}

// noDeadlocks fails if the server has ended a deadlock, which costs a second even if
// the transaction is repeated. The database has no other connections.
func noDeadlocks(t *testing.T, url string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for others, deadlocks := 1, 0; others > 0; { // each reports its counts when it ends
		if err := conn.QueryRow(t.Context(), `
			SELECT numbackends - 1, deadlocks FROM pg_stat_database WHERE datname = current_database()`).Scan(&others, &deadlocks); err != nil {
			t.Fatal(err)
		}
		if others == 0 && deadlocks > 0 {
			t.Errorf("%d deadlocks", deadlocks)
		}
	}
}
