// Package postgres keeps builds and their logs in Postgres. Several processes
// may share one database.
//
// An append takes two round trips: the first locks the builds' rows and looks
// up the keys, the second inserts, updates and commits. An append to builds
// whose rows this process wrote last takes one (known.go). Whatever locks several
// rows locks them in id order, so that no two wait for each other.
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

	// callTimeout bounds each call. It is longer than the server's own timeouts,
	// whose errors say more: it is for a server that says nothing at all.
	callTimeout = 15 * time.Second
)

// Store is a store.Store in one database.
type Store struct {
	pool    *pgxpool.Pool
	timeout time.Duration // of each call
	known   knownRows
	// following is whether there is an enabled endpoint, as far as is known here.
	following atomic.Bool
}

// Open connects and brings the schema up to date. The URL is that of libpq,
// postgres://user:password@host:5432/name; its password is in no error.
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

// poolConfig is what the URL says, and our own settings where it says nothing.
// Nothing may hang for ever: neither there nor, where the server does not answer,
// here (callTimeout).
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

// Ping reports whether the store can write now. It commits a row of its own: a
// standby refuses that, and so does a database whose disk is full, or that its
// keepers have made read-only. The random bytes are stored uncompressed.
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
