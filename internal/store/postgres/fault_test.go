package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store"
)

// The server is killed while events come in, and started again. Meanwhile the store
// is unavailable; afterwards it works without being opened again, and every
// acknowledged event is stored.
func TestServerStoppedAndRestarted(t *testing.T) {
	const writers = 8
	pg := pgtest.Start(t)
	s := open(t, pg.URL())
	refused, stopped := make(chan error, writers), make(chan struct{})
	var begun, all sync.WaitGroup
	begun.Add(writers)
	for i := range writers {
		all.Go(func() {
			w := &writer{build: fmt.Sprint("b", i%4), name: fmt.Sprint(i)}
			for range 10 {
				w.append(t, s)
			}
			begun.Done()
			<-stopped
			for { // until the store is unavailable
				if err := w.try(t.Context(), s); err != nil {
					refused <- err
					break
				}
			}
			for range 10 {
				w.append(t, s) // tries until the server is back
			}
			w.check(t, s)
		})
	}
	begun.Wait()
	close(stopped)
	pg.Stop()
	for range writers {
		err := <-refused
		e, ok := errors.AsType[*buildcast.Error](err)
		if !ok || e.Code != buildcast.StoreUnavailable || e.RetryAfter <= 0 {
			t.Errorf("while the server is away: %v", err)
		}
	}
	for name, err := range map[string]error{"ping": s.Ping(t.Context()), "create": second(s.CreateBuild(t.Context(), store.NewBuild{ID: "x"}))} {
		if buildcast.CodeOf(err) != buildcast.StoreUnavailable {
			t.Errorf("%s while the server is away: %v", name, err)
		}
	}
	pg.Restart()
	all.Wait()
	for i := range 4 {
		wantWhole(t, s, fmt.Sprint("b", i))
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func second(_ buildcast.Build, _ bool, err error) error { return err }

// writer appends events under keys of its own, and remembers what was acknowledged.
type writer struct {
	build, name string
	next        int
	acked       map[string]int64 // by key
}

// try appends the next event. After an error, the same event is the next one again.
func (w *writer) try(ctx context.Context, s *Store) error {
	key := fmt.Sprintf("%s.%d", w.name, w.next)
	e := buildcast.NewEvent{Type: "step", Data: []byte(`{}`), Key: key}
	answers, err := s.AppendEvents(ctx, []store.Append{{BuildID: w.build, Events: []buildcast.NewEvent{e}}})
	if err == nil {
		err = answers[0].Err
	}
	if err != nil {
		return err
	}
	if w.acked == nil {
		w.acked = map[string]int64{}
	}
	w.acked[key] = answers[0].Events[0].ID
	w.next++
	return nil
}

// append tries until the store takes the event.
func (w *writer) append(t *testing.T, s *Store) {
	for t.Context().Err() == nil {
		err := w.try(t.Context(), s)
		if err == nil {
			return
		}
		if !buildcast.Temporary(err) {
			t.Error(err)
			return
		}
	}
}

// check fails unless every acknowledged event is stored under its id: it appends the
// same keys again, which returns the stored events.
func (w *writer) check(t *testing.T, s *Store) {
	acked := w.acked
	w.next, w.acked = 0, nil
	for range acked {
		w.append(t, s)
	}
	for key, id := range acked {
		if w.acked[key] != id {
			t.Errorf("%s: %s was acknowledged as event %d and is %d", w.build, key, id, w.acked[key])
		}
	}
}

// wantWhole fails unless the log has all ids from the first kept event to n, and the
// status ends there.
func wantWhole(t *testing.T, s *Store, build string) (n int64) {
	t.Helper()
	b, err := s.GetBuild(t.Context(), build)
	if err != nil {
		t.Fatal(err)
	}
	events, err := s.ReadEvents(t.Context(), build, 0, 1e6, 1e9)
	if err != nil {
		t.Fatal(err)
	}
	n = b.Status.FirstEventID - 1
	for _, e := range events {
		if n++; e.ID != n {
			t.Fatalf("%s: event %d in place of %d", build, e.ID, n)
		}
	}
	if b.Status.LastEventID != n {
		t.Errorf("%s: the status is at event %d of %d", build, b.Status.LastEventID, n)
	}
	return n
}

func TestPasswordIsInNoError(t *testing.T) {
	const secret = "hunter2-S3cret"
	nobody := closedPort(t)
	for _, url := range []string{
		"postgres://user:" + secret + "@127.0.0.1:port/name",
		"postgres://user:" + secret + "@127.0.0.1:99999/name",
		"postgres://user:" + secret + "@%zz/name",
		"postgres://user:" + secret + "/x@127.0.0.1/name",
		"postgres://user:" + secret + "@127.0.0.1/name?sslmode=maybe",
		"postgres://user:" + secret + "@127.0.0.1/name?pool_max_conns=" + secret,
		"postgres://user:" + secret + "@127.0.0.1/name?sslmode=verify-full&sslrootcert=/none",
		"host=127.0.0.1 password=" + secret + " port=port",
		"host=127.0.0.1 password='" + secret,
		"password=" + secret + " host=" + nobody + " user",
		"mysql://user:" + secret + "@127.0.0.1/name",
		"postgres://user:" + secret + "@" + nobody + "/name?sslmode=disable",
		"postgres://user:" + secret + "@" + nobody + "/name",
		"postgres://user:" + secret + "@host.invalid/name",
		strings.Replace(pgtest.URL(t), "postgres@", "nobody:"+secret+"@", 1),
	} {
		s, err := Open(t.Context(), url)
		if err == nil {
			s.Close()
			t.Errorf("%s was opened", url)
			continue
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			for _, text := range []string{e.Error(), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e)} {
				if strings.Contains(text, secret) {
					t.Errorf("%s: the error contains the password: %s", url, text)
				}
			}
		}
	}

	pg := pgtest.Start(t)
	s := open(t, strings.Replace(pg.URL(), "postgres@", "postgres:"+secret+"@", 1))
	pg.Stop()
	if err := s.Ping(t.Context()); err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, errors.Unwrap(err)), secret) {
		t.Errorf("ping: %v", err)
	}
}

// closedPort returns an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestAbsentServer(t *testing.T) {
	at := closedPort(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // the connection is refused at once: Open must not wait
	defer cancel()
	_, err := Open(ctx, "postgres://user@"+at+"/name?sslmode=disable")
	if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "cannot use the database at "+at) || !strings.Contains(err.Error(), "check that Postgres runs there") {
		t.Errorf("error %v", err)
	}
}

func TestManyOpensMigrateOnce(t *testing.T) {
	url := pgtest.URL(t)
	all, err := store.Migrations(migrations)
	if err != nil {
		t.Fatal(err)
	}
	var opens sync.WaitGroup
	for range 8 {
		opens.Go(func() {
			s, err := Open(t.Context(), url)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if err := s.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	opens.Wait()
	var n int
	if err := open(t, url).pool.QueryRow(t.Context(), `SELECT count(*) FROM schema_migrations`).Scan(&n); err != nil || n != len(all) {
		t.Errorf("%d migrations are noted, want %d; %v", n, len(all), err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	url := pgtest.URL(t)
	if _, err := open(t, url).pool.Exec(t.Context(), `INSERT INTO schema_migrations (version) VALUES (99)`); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), url)
	if err == nil || !strings.Contains(err.Error(), "schema version 99") || !strings.Contains(err.Error(), "run the newer buildcast") || strings.Contains(err.Error(), "URL") {
		t.Errorf("error %v", err)
	}
}

// A database that refuses writes, such as a standby, is unavailable: that is not a
// defect.
func TestReadOnlyDatabase(t *testing.T) {
	url := pgtest.URL(t)
	open(t, url)
	c, err := poolConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	c.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{pool: pool, timeout: callTimeout}
	defer s.Close()
	w := &writer{build: "b"}
	if err := w.try(t.Context(), s); buildcast.CodeOf(err) != buildcast.StoreUnavailable {
		t.Errorf("append: %v", err)
	}
	if err := s.Ping(t.Context()); buildcast.CodeOf(err) != buildcast.StoreUnavailable || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("ping: %v", err)
	}
	if events, err := s.ReadEvents(t.Context(), "b", 0, 1, 1); err != nil || len(events) != 0 {
		t.Errorf("read: %v, %v", events, err)
	}
}

// The planner may join the builds with those chosen to be claimed in any way; the
// settings force the way that would choose them again for each build.
func TestClaimLimitWhateverThePlan(t *testing.T) {
	s := open(t, pgtest.URL(t)+"&enable_hashjoin=off&enable_mergejoin=off&enable_hashagg=off&enable_sort=off&enable_material=off")
	for i := range 50 {
		if _, _, err := s.CreateBuild(t.Context(), store.NewBuild{ID: fmt.Sprint("b", i), Plan: &buildcast.Plan{Name: "p", Build: "make"}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		leases, err := s.ClaimBuilds(t.Context(), "one", time.Hour, 3, nil)
		if err != nil || len(leases) != 3 {
			t.Errorf("%d leases, limit 3; %v", len(leases), err)
		}
	}
}
