// Package postgres stores builds and their logs in Postgres. Several processes may
// share one database.
//
// An append takes two round trips: the first locks the builds' rows and looks up the
// keys, the second inserts, updates and commits. An append to builds whose rows this
// process wrote last takes one round trip (known.go).
//
// So that transactions do not deadlock, each locks builds, then endpoints, then
// cursors, then deliveries, and several builds or cursors in the order of their keys.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/buildcast/buildcast/internal/store"
)

var (
	_ store.Store  = (*Store)(nil)
	_ store.Cutter = (*Store)(nil)
)

const (
	connectTimeout = 5 * time.Second
	defaultConns   = 16 // at least; pool_max_conns in the URL overrides it

	// callTimeout bounds each call, for a server that does not answer at all. It is
	// longer than the server's own timeouts, whose errors tell more.
	callTimeout = 15 * time.Second
)

// Store is a store.Store in one database.
type Store struct {
	pool    *pgxpool.Pool
	timeout time.Duration // of each call
	known   knownRows
	// following is whether an enabled endpoint exists, as far as this process knows.
	following atomic.Bool
}

// Open connects and brings the schema up to date. The URL has libpq's form,
// postgres://user:password@host:5432/name. No error contains its password.
func Open(ctx context.Context, url string) (*Store, error) {
	c, err := poolConfig(url)
	if err != nil {
		return nil, fmt.Errorf("the database URL cannot be read: want postgres://user:password@host:5432/name (%w)", redacted(err))
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("the database pool cannot be made: %w", redacted(err))
	}
	s := &Store{pool: pool, timeout: callTimeout}
	if err := s.migrateUp(ctx); err != nil {
		pool.Close()
		hint := ""
		if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
			hint = "; check that Postgres runs there and that the URL is right"
		}
		return nil, fmt.Errorf("cannot use the database at %s:%d: %w%s", c.ConnConfig.Host, c.ConnConfig.Port, redacted(err), hint)
	}
	if _, err := s.ListEndpoints(ctx); err != nil { // so that following is known
		pool.Close()
		return nil, err
	}
	return s, nil
}

// poolConfig returns the URL's settings, and our own for those that it does not set.
// They bound each statement and each wait in the server; callTimeout bounds the calls
// here.
func poolConfig(url string) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(url, "pool_max_conns") {
		c.MaxConns = max(c.MaxConns, defaultConns)
	}
	c.ConnConfig.ConnectTimeout = connectTimeout
	for name, value := range map[string]string{
		"application_name": "buildcast", "lock_timeout": "5s", "statement_timeout": "10s",
		"idle_in_transaction_session_timeout": "15s",
	} {
		if _, set := c.ConnConfig.RuntimeParams[name]; !set {
			c.ConnConfig.RuntimeParams[name] = value
		}
	}
	return c, nil
}

// Ping reports whether the store can write now. It commits a row: a standby refuses
// that, and so does a database that is read-only or whose disk is full. The row has
// random bytes, which Postgres cannot compress.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	_, err := s.pool.Exec(ctx, `INSERT INTO probe (id, filler)
		VALUES (1, (SELECT string_agg(uuid_send(gen_random_uuid()), '') FROM generate_series(1, 512)))
		ON CONFLICT (id) DO UPDATE SET filler = excluded.filler`)
	return unavailable(ctx, err)
}

// Close ends all connections, waiting for calls under way.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}
