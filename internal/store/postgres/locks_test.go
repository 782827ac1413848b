package postgres

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store"
)

// blocked returns once a statement waits for a lock in the database.
func blocked(t *testing.T, tx pgx.Tx, ended <-chan error) {
	t.Helper()
	for n := 0; n == 0; {
		if err := tx.QueryRow(t.Context(), `
			SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN
				(SELECT pid FROM pg_stat_get_activity(NULL) WHERE datid = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			t.Fatalf("it did not wait for the lock: %v", err)
		default:
		}
	}
}

// Every transaction that locks several builds locks them in id order: while it waits
// for the first it holds none of the others. Otherwise two could deadlock.
func TestLocksAreTakenInOrder(t *testing.T) {
	s, other := two(t)
	var appends []store.Append
	for i := range 20 { // in the table the last id comes first
		id := fmt.Sprintf("b%02d", 19-i)
		if _, _, err := s.CreateBuild(t.Context(), store.NewBuild{ID: id, Plan: &buildcast.Plan{Name: "p", Build: "make"}}); err != nil {
			t.Fatal(err)
		}
		appends = append(appends, store.Append{BuildID: id, Events: step("")})
	}
	if _, err := s.ClaimBuilds(t.Context(), "owner", time.Hour, len(appends), nil); err != nil {
		t.Fatal(err)
	}
	appendTo(t, s, appends...) // the rows are known now
	for _, c := range []struct {
		name string
		call func(context.Context) error
	}{
		{"an append that guesses", func(ctx context.Context) error { _, err := s.AppendEvents(ctx, appends); return err }},
		{"an append that locks first", func(ctx context.Context) error { _, err := other.AppendEvents(ctx, appends); return err }},
		{"a release", func(ctx context.Context) error { return s.ReleaseLeases(ctx, "owner") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			tx, err := other.pool.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(context.WithoutCancel(ctx))
			if _, err := tx.Exec(ctx, `SELECT id FROM builds WHERE id = 'b00' FOR UPDATE`); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- c.call(ctx) }()
			blocked(t, tx, ended)
			if _, err := tx.Exec(ctx, `SELECT id FROM builds ORDER BY id FOR UPDATE NOWAIT`); err != nil {
				t.Errorf("it holds others while it waits for the first: %v", err)
			}
			if err := tx.Rollback(ctx); err != nil {
				t.Error(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// An append that waits while another transaction creates a build holds no lock: the
// other transaction may need it.
func TestNothingIsLockedWhileABuildIsCreated(t *testing.T) {
	s, other := two(t)
	appendTo(t, other, store.Append{BuildID: "b1", Events: step("")})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tx, err := other.pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, createSQL, []string{"b0"}, []string{"{}"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := s.AppendEvents(ctx, []store.Append{{BuildID: "b1", Events: step("")}, {BuildID: "b0", Events: step("")}})
		ended <- err
	}()
	blocked(t, tx, ended)
	if _, err := tx.Exec(ctx, `SELECT id FROM builds WHERE id = 'b1' FOR UPDATE NOWAIT`); err != nil {
		t.Errorf("it holds a build while it waits for another to be created: %v", err)
	}
	if err := tx.Rollback(ctx); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// deaf is a connection that, while silent, returns nothing that the server sends, like
// one through a dead router.
type deaf struct {
	net.Conn
	silent *atomic.Bool
}

func (c deaf) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.silent.Load() {
			return n, err
		}
	}
}

// A server that does not answer at all is unavailable too, and it may come back.
func TestServerThatSaysNothing(t *testing.T) {
	url := pgtest.URL(t)
	open(t, url) // for the schema
	c, err := poolConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	c.ConnConfig.ConnectTimeout = 100 * time.Millisecond // a connection that is under way when the server comes back fails first
	var silent atomic.Bool
	dial := c.ConnConfig.DialFunc
	c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return deaf{conn, &silent}, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{pool: pool, timeout: callTimeout}
	defer s.Close()
	appendTo(t, s, store.Append{BuildID: "known", Events: finish()})

	silent.Store(true)
	s.timeout = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // far more than the timeouts together
	defer cancel()
	for name, call := range map[string]func() error{
		"append": func() error {
			_, err := s.AppendEvents(ctx, []store.Append{{BuildID: "new", Events: step("")}})
			return err
		},
		"guess": func() error {
			_, err := s.AppendEvents(ctx, []store.Append{{BuildID: "known", Events: step("")}})
			return err
		},
		"read":     func() error { _, err := s.ReadEvents(ctx, "known", 0, 1, 1); return err },
		"statuses": func() error { _, err := s.Statuses(ctx, []string{"known"}); return err },
		"bounds":   func() error { _, err := s.Bounds(ctx, []string{"known"}); return err },
		"create":   func() error { _, _, err := s.CreateBuild(ctx, store.NewBuild{ID: "c"}); return err },
		"get":      func() error { _, err := s.GetBuild(ctx, "known"); return err },
		"list":     func() error { _, err := s.ListBuilds(ctx, store.Filter{Limit: 1}); return err },
		"delete":   func() error { _, err := s.DeleteBuild(ctx, "known"); return err },
		"truncate": func() error { _, err := s.TruncateLog(ctx, "known", 2); return err },
		"purge":    func() error { _, err := s.Purge(ctx, 1); return err },
		"claim":    func() error { _, err := s.ClaimBuilds(ctx, "o", time.Hour, 1, nil); return err },
		"renew a lease": func() error {
			return s.RenewLease(ctx, store.Lease{BuildID: "known", Owner: "o", Generation: 1}, time.Hour)
		},
		"release": func() error { return s.ReleaseLeases(ctx, "o") },
		"ping":    func() error { return s.Ping(ctx) },
	} {
		err := call()
		if buildcast.CodeOf(err) != buildcast.StoreUnavailable || !strings.Contains(err.Error(), "the database does not answer") {
			t.Errorf("%s: %v", name, err)
		}
		if ctx.Err() != nil {
			t.Fatalf("%s waits until its caller's context ends", name)
		}
	}

	silent.Store(false)
	s.timeout = callTimeout
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	appendTo(t, s, store.Append{BuildID: "after", Events: step("")})
}

// If another process runs a long migration, this one waits for it, longer than for any
// other lock.
func TestMigrationIsWaitedFor(t *testing.T) {
	url := pgtest.URL(t)
	tx, err := open(t, url).pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		s, err := Open(t.Context(), url+"&lock_timeout=200&statement_timeout=200")
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	blocked(t, tx, opened)
	if _, err := tx.Exec(t.Context(), `SELECT pg_sleep(0.5)`); err != nil { // the time-outs pass
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func TestPoolSize(t *testing.T) {
	url := pgtest.URL(t)
	for _, c := range []struct {
		options  string
		min, max int32
	}{{"", defaultConns, 1 << 20}, {"&pool_max_conns=1", 1, 1}, {"&pool_max_conns=4", 4, 4}, {"&pool_max_conns=40", 40, 40}} {
		s := open(t, url+c.options)
		if n := s.pool.Config().MaxConns; n < c.min || n > c.max {
			t.Errorf("with %q: %d connections at most", c.options, n)
		}
		// No call needs two at a time.
		appendTo(t, s, store.Append{BuildID: "b", Events: step("")}, store.Append{BuildID: "c", Events: step("")})
		appendTo(t, s, store.Append{BuildID: "b", Events: step("")}, store.Append{BuildID: "new", Events: step("")})
	}
}
