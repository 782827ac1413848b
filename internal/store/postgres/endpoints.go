package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// follows is buildcast.Endpoint.Follows in SQL, of endpoint w and build b.
const follows = ` w.enabled AND (b.id = ANY(w.builds) OR b.id <> '` + buildcast.OperationsBuild + `'
	AND (b.project = ANY(w.projects) OR w.builds = '{}' AND w.projects = '{}'))`

// makeCursors creates the cursors that are missing for the events that are appended
// to the builds of b (id, project, first). They are due at $1. The first generation is
// the time, so that a cursor that was parked and made again repeats no earlier one.
const makeCursors = `
	INSERT INTO webhook_cursors (endpoint_id, build_id, next_event_id, due_at, generation)
	SELECT w.id, b.id, b.first, $1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
	FROM b JOIN webhook_endpoints w ON ` + follows + `
	ORDER BY w.id, b.id
	ON CONFLICT DO NOTHING`

// SaveEndpoint implements store.Endpoints.
func (s *Store) SaveEndpoint(ctx context.Context, e store.Endpoint) (int64, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	settings, err := store.Encode(e.Endpoint)
	if err != nil {
		return 0, err
	}
	if e.Enabled {
		s.following.Store(true)
	}
	args := []any{e.ID, string(settings), list(e.Builds), list(e.Projects), e.Enabled, e.Sealed, time.Now()}
	query := `
		INSERT INTO webhook_endpoints (id, settings, builds, projects, enabled, sealed, updated_at, version, created_at)
		VALUES ($1, $2::jsonb, $3, $4, $5, $6, $7, 1, $8) ON CONFLICT DO NOTHING`
	if e.Version == 0 {
		args = append(args, e.CreatedAt.Std())
	} else {
		query = `
		UPDATE webhook_endpoints SET settings = $2::jsonb, builds = $3, projects = $4, enabled = $5, sealed = $6, updated_at = $7, version = version + 1
		WHERE id = $1 AND version = $8`
		args = append(args, e.Version)
	}
	tag, err := s.exec(ctx, query, args...)
	if err != nil {
		return 0, unavailable(ctx, err)
	}
	if tag.RowsAffected() == 0 {
		if err := endpointExists(ctx, s.pool, e.ID); err != nil {
			return 0, err
		}
		return 0, store.EndpointChanged(e.ID)
	}
	return e.Version + 1, nil
}

// list copies a slice; nil would be NULL.
func list(in []string) []string { return append([]string{}, in...) }

// querier is a pool or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func endpointExists(ctx context.Context, q querier, id string) error {
	var one int
	err := q.QueryRow(ctx, `SELECT 1 FROM webhook_endpoints WHERE id = $1`, id).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return store.NoEndpoint(id)
	}
	return unavailable(ctx, err)
}

const keepEndpointSQL = `SELECT FROM webhook_endpoints WHERE id = $1 FOR KEY SHARE`

// keepEndpoint keeps the endpoint from being deleted until the transaction ends.
// NotFound.
func keepEndpoint(ctx context.Context, tx pgx.Tx, id string) error {
	tag, err := tx.Exec(ctx, keepEndpointSQL, id)
	if err == nil && tag.RowsAffected() == 0 {
		return store.NoEndpoint(id)
	}
	return err
}

// ListEndpoints implements store.Endpoints.
func (s *Store) ListEndpoints(ctx context.Context) ([]store.Endpoint, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, `SELECT settings, sealed, version FROM webhook_endpoints ORDER BY created_at, id`)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e store.Endpoint, err error) {
		var settings []byte
		if err := row.Scan(&settings, &e.Sealed, &e.Version); err != nil {
			return e, err
		}
		return e, store.Decode(settings, &e.Endpoint)
	})
	if err == nil {
		s.following.Store(slices.ContainsFunc(all, func(e store.Endpoint) bool { return e.Enabled }))
	}
	return all, unavailable(ctx, err)
}

// DeleteEndpoint implements store.Endpoints. It locks the endpoint's cursors in primary
// key order, as every statement does.
func (s *Store) DeleteEndpoint(ctx context.Context, id string) error {
	return s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM webhook_endpoints WHERE id = $1`, id)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return store.NoEndpoint(id)
		}
		return execAll(ctx, tx, id,
			`SELECT FROM webhook_cursors WHERE endpoint_id = $1 ORDER BY build_id FOR UPDATE`,
			`DELETE FROM webhook_cursors WHERE endpoint_id = $1`,
			`DELETE FROM worker_webhook_failures WHERE endpoint_id = $1`,
			`DELETE FROM webhook_counts WHERE endpoint_id = $1`)
	})
}

func execAll(ctx context.Context, tx pgx.Tx, arg any, queries ...string) error {
	for _, q := range queries {
		if _, err := tx.Exec(ctx, q, arg); err != nil {
			return err
		}
	}
	return nil
}
