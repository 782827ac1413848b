// Package postgres keeps builds and their logs in Postgres. Several processes
// may share one database.
//
// An append takes two round trips: the first locks the builds' rows and looks
// up the keys, the second inserts, updates and commits. An append to builds
// whose rows this process wrote last takes one (known.go).
package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/buildcast/buildcast/internal/store"
)

var _ store.Store = (*Store)(nil)

const (
	connectTimeout = 5 * time.Second
	defaultConns   = 16 // pool_max_conns in the URL overrides it
)

// Store is a store.Store in one database.
type Store struct {
	pool  *pgxpool.Pool
	known knownRows
	// order is held for reading by appends that lock rows in id order, and for
	// writing by one that writes several in any order: the two would deadlock.
	order sync.RWMutex
}

// Open connects and brings the schema up to date. The URL is that of libpq,
// postgres://user:password@host:5432/name; its password is in no error.
func Open(ctx context.Context, url string) (*Store, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("the database URL cannot be read: want postgres://user:password@host:5432/name (%w)", redacted(err))
	}
	if c.MaxConns < defaultConns {
		c.MaxConns = defaultConns
	}
	c.ConnConfig.ConnectTimeout = connectTimeout
	// Nothing may hang for ever: neither here nor, behind a dead connection, there.
	for name, value := range map[string]string{
		"application_name": "buildcast", "lock_timeout": "5s", "statement_timeout": "10s",
		"idle_in_transaction_session_timeout": "15s",
	} {
		if _, set := c.ConnConfig.RuntimeParams[name]; !set {
			c.ConnConfig.RuntimeParams[name] = value
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("the database pool cannot be made: %w", redacted(err))
	}
	s := &Store{pool: pool}
	if err := s.migrateUp(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("cannot use the database at %s:%d: %w; check that Postgres runs there and that the URL is right",
			c.ConnConfig.Host, c.ConnConfig.Port, redacted(err))
	}
	return s, nil
}

// Ping reports whether the store can write now: a standby cannot.
func (s *Store) Ping(ctx context.Context) error {
	var readOnly bool
	if err := s.pool.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&readOnly); err != nil {
		return unavailable(err)
	}
	if readOnly {
		return store.Unavailable(nil, "the database is a read-only standby")
	}
	return nil
}

// Close ends all connections, waiting for calls under way.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}
