package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// SaveEndpoint implements store.Endpoints.
func (s *Store) SaveEndpoint(ctx context.Context, e store.Endpoint) (int64, error) {
	settings, err := store.Encode(e.Endpoint)
	if err != nil {
		return 0, err
	}
	query, args := `
		INSERT INTO webhook_endpoints (settings, sealed, enabled, id, version, created_at) VALUES (?, ?, ?, ?, 1, ?)
		ON CONFLICT DO NOTHING`, []any{string(settings), e.Sealed, e.Enabled, e.ID}
	if e.Version == 0 {
		args = append(args, e.CreatedAt.Std().UnixMilli())
	} else {
		query = `UPDATE webhook_endpoints SET settings = ?, sealed = ?, enabled = ?, version = version + 1 WHERE id = ? AND version = ?`
		args = append(args, e.Version)
	}
	err = s.changeEndpoints(ctx, func(ctx context.Context, tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		if err := s.endpointExists(ctx, tx, e.ID); err != nil {
			return err
		}
		return store.EndpointChanged(e.ID)
	})
	if err != nil {
		return 0, err
	}
	return e.Version + 1, nil
}

// changeEndpoints runs do in a transaction, and then reads the enabled endpoints into
// memory for the appends. That is enough, because no other process writes the file.
//
// No append runs meanwhile: it would make cursors of an endpoint that was deleted.
// Once the transaction has begun nothing cancels it: an endpoint might be stored, and
// appends would make no cursors for it.
func (s *Store) changeEndpoints(ctx context.Context, do func(context.Context, *sql.Tx) error) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := ctx.Err(); err != nil {
		return unavailable(ctx, err)
	}
	ctx = context.WithoutCancel(ctx)
	var enabled []buildcast.Endpoint
	err := s.inTx(ctx, func(tx *sql.Tx) (err error) {
		if err := do(ctx, tx); err != nil {
			return err
		}
		enabled, err = enabledEndpoints(ctx, tx)
		return err
	})
	if err == nil {
		s.followers = enabled
	}
	return err
}

// querier is a *sql.DB or a *sql.Tx.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (s *Store) endpointExists(ctx context.Context, q querier, id string) error {
	var one int
	err := q.QueryRowContext(ctx, `SELECT 1 FROM webhook_endpoints WHERE id = ?`, id).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return store.NoEndpoint(id)
	}
	return unavailable(ctx, err)
}

func enabledEndpoints(ctx context.Context, q querier) ([]buildcast.Endpoint, error) {
	all, err := endpoints(ctx, q)
	var enabled []buildcast.Endpoint
	for i := range all {
		if all[i].Enabled {
			enabled = append(enabled, all[i].Endpoint)
		}
	}
	return enabled, err
}

// ListEndpoints implements store.Endpoints.
func (s *Store) ListEndpoints(ctx context.Context) ([]store.Endpoint, error) {
	return endpoints(ctx, s.read)
}

func endpoints(ctx context.Context, q querier) ([]store.Endpoint, error) {
	rows, err := q.QueryContext(ctx, `SELECT settings, sealed, version FROM webhook_endpoints ORDER BY created_at, id`)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	defer rows.Close()
	var all []store.Endpoint
	for rows.Next() {
		var e store.Endpoint
		var settings string
		if err := rows.Scan(&settings, &e.Sealed, &e.Version); err != nil {
			return nil, unavailable(ctx, err)
		}
		if err := store.Decode([]byte(settings), &e.Endpoint); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, unavailable(ctx, rows.Err())
}

// DeleteEndpoint implements store.Endpoints.
func (s *Store) DeleteEndpoint(ctx context.Context, id string) error {
	return s.changeEndpoints(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.endpointExists(ctx, tx, id); err != nil {
			return err
		}
		return execAll(ctx, tx, id,
			`DELETE FROM webhook_endpoints WHERE id = ?`,
			`DELETE FROM webhook_cursors WHERE endpoint_id = ?`,
			`DELETE FROM worker_webhook_failures WHERE endpoint_id = ?`,
			`DELETE FROM webhook_counts WHERE endpoint_id = ?`)
	})
}

func execAll(ctx context.Context, tx *sql.Tx, arg any, queries ...string) error {
	for _, q := range queries {
		if _, err := tx.ExecContext(ctx, q, arg); err != nil {
			return err
		}
	}
	return nil
}

// inTx runs do in a transaction of the writing connection.
func (s *Store) inTx(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return unavailable(ctx, err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	if err := do(tx); err != nil {
		return unavailable(ctx, err)
	}
	return uncommitted(ctx, tx.Commit())
}

// makeCursors creates the cursors that are missing for the appended events.
func (s *Store) makeCursors(ctx context.Context, tx *sql.Tx, a *store.Assigned, rows map[string]*store.Row, now buildcast.Time) error {
	if len(s.followers) == 0 {
		return nil
	}
	make, generation := tx.StmtContext(ctx, s.stmts.makeCursor), time.Now().UnixMicro()
	begun := map[string]bool{}
	for i := range a.Insert {
		e := &a.Insert[i]
		if begun[e.BuildID] {
			continue
		}
		begun[e.BuildID] = true
		project := rows[e.BuildID].Status.Project
		for j := range s.followers {
			if !s.followers[j].Follows(e.BuildID, project) {
				continue
			}
			if _, err := make.ExecContext(ctx, s.followers[j].ID, e.BuildID, e.ID, now.Std().UnixMilli(), generation); err != nil {
				return err
			}
		}
	}
	return nil
}
