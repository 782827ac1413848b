package postgres

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pgtest"
	"github.com/buildcast/buildcast/internal/store"
)

// touched runs the statement and returns how many rows of the log it came across.
// What it changes is rolled back.
func touched(t *testing.T, s *Store, sql string, args ...any) int64 {
	t.Helper()
	ctx := t.Context()
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	counted := func() (n int64) {
		if err := tx.QueryRow(ctx, `SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'project_build_events'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := counted()
	if _, err := tx.Exec(ctx, sql, args...); err != nil {
		t.Fatal(err)
	}
	return counted() - before
}

// A read of 10 events and a step of the purge come across some 10 rows each of a
// log of 3,000. The settings force the plan that old statistics lead to: it does not
// follow the index in order. Each read of a page, and each step, went through the
// rest of the log.
func TestReadsAndPurgesTouchFewRowsWhateverThePlan(t *testing.T) {
	url := pgtest.URL(t)
	s := open(t, url)
	for range 3 {
		appendTo(t, s, store.Append{BuildID: "b", Events: many(1000)})
	}
	forced := open(t, url+"&enable_indexscan=off&enable_seqscan=off")
	for name, n := range map[string]int64{
		"a read":              touched(t, forced, readSQL, "b", int64(100), 10),
		"a step of the purge": touched(t, forced, purgeSQL, "b", int64(1), int64(2500), 10),
		"the purge's look":    touched(t, s, purgeFirstSQL, "b", int64(2500)), // one row has one plan
	} {
		if n > 20 {
			t.Errorf("%s comes across %d rows", name, n)
		}
	}
}

func many(n int) []buildcast.NewEvent {
	events := make([]buildcast.NewEvent, n)
	for i := range events {
		events[i] = step("")[0]
	}
	return events
}

// counting is a connection that counts what it receives.
type counting struct {
	net.Conn
	n *atomic.Int64
}

func (c counting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// Readers that catch up get pieces of 32 KiB while there are many. Of a log of
// large events, the database sent 64 for each event that was kept.
func TestReadOfFewBytesBringsFewRows(t *testing.T) {
	url := pgtest.URL(t)
	large := make([]buildcast.NewEvent, 64)
	for i := range large {
		large[i] = buildcast.NewEvent{Type: "step", Data: []byte(`"` + strings.Repeat("x", 60_000) + `"`)}
	}
	appendTo(t, open(t, url), store.Append{BuildID: "b", Events: large})

	c, err := poolConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	var received atomic.Int64
	dial := c.ConnConfig.DialFunc
	c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return counting{conn, &received}, nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	s := &Store{pool: pool, timeout: callTimeout}
	events, err := s.ReadEvents(t.Context(), "b", 0, 5000, 32<<10)
	if err != nil || len(events) != 1 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	if n := received.Load(); n > 10*60_000 {
		t.Errorf("the database sent %d bytes for an event of 60 KB", n)
	}
}
