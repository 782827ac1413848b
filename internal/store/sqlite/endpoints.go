package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// SaveEndpoint implements store.Endpoints.
func (s *Store) SaveEndpoint(ctx context.Context, e store.Endpoint) (int64, error) {
	settings, err := json.Marshal(e.Endpoint)
	if err != nil {
		return 0, err
	}
	var res sql.Result
	if e.Version == 0 {
		res, err = s.write.ExecContext(ctx, `
			INSERT INTO webhook_endpoints (id, settings, sealed, enabled, version, created_at) VALUES (?, ?, ?, ?, 1, ?)
			ON CONFLICT DO NOTHING`, e.ID, string(settings), e.Sealed, e.Enabled, e.CreatedAt.Std().UnixMilli())
	} else {
		res, err = s.write.ExecContext(ctx, `
			UPDATE webhook_endpoints SET settings = ?, sealed = ?, enabled = ?, version = version + 1 WHERE id = ? AND version = ?`,
			string(settings), e.Sealed, e.Enabled, e.ID, e.Version)
	}
	if err != nil {
		return 0, unavailable(err)
	}
	if n, err := res.RowsAffected(); err != nil {
		return 0, unavailable(err)
	} else if n == 0 {
		return 0, s.notSaved(ctx, e)
	}
	return e.Version + 1, s.loadFollowers(context.WithoutCancel(ctx))
}

// notSaved says why the endpoint was not.
func (s *Store) notSaved(ctx context.Context, e store.Endpoint) error {
	if err := s.endpointExists(ctx, s.read, e.ID); err != nil {
		return err
	}
	return store.EndpointChanged(e.ID)
}

// querier is a *sql.DB or a *sql.Tx.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (s *Store) endpointExists(ctx context.Context, q querier, id string) error {
	var one int
	err := q.QueryRowContext(ctx, `SELECT 1 FROM webhook_endpoints WHERE id = ?`, id).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return store.NoEndpoint(id)
	}
	return unavailable(err)
}

// loadFollowers keeps the enabled endpoints in memory, so that appends need not
// ask for them. Nobody else writes the file. What has been stored is loaded although
// its caller has gone, or appends would know nothing of it.
func (s *Store) loadFollowers(ctx context.Context) error {
	s.following.Lock()
	defer s.following.Unlock()
	all, err := s.ListEndpoints(ctx)
	if err != nil {
		return err
	}
	var enabled []buildcast.Endpoint
	for _, e := range all {
		if e.Enabled {
			enabled = append(enabled, e.Endpoint)
		}
	}
	s.followers.Store(&enabled)
	return nil
}

// ListEndpoints implements store.Endpoints.
func (s *Store) ListEndpoints(ctx context.Context) ([]store.Endpoint, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT settings, sealed, version FROM webhook_endpoints ORDER BY created_at, id`)
	if err != nil {
		return nil, unavailable(err)
	}
	defer rows.Close()
	var all []store.Endpoint
	for rows.Next() {
		var e store.Endpoint
		var settings string
		if err := rows.Scan(&settings, &e.Sealed, &e.Version); err != nil {
			return nil, unavailable(err)
		}
		if err := json.Unmarshal([]byte(settings), &e.Endpoint); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, unavailable(rows.Err())
}

// DeleteEndpoint implements store.Endpoints.
func (s *Store) DeleteEndpoint(ctx context.Context, id string) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		if err := s.endpointExists(ctx, tx, id); err != nil {
			return err
		}
		return execAll(ctx, tx, id,
			`DELETE FROM webhook_endpoints WHERE id = ?`,
			`DELETE FROM webhook_cursors WHERE endpoint_id = ?`,
			`DELETE FROM worker_webhook_failures WHERE endpoint_id = ?`,
			`DELETE FROM webhook_counts WHERE endpoint_id = ?`)
	})
	if err != nil {
		return err
	}
	return s.loadFollowers(context.WithoutCancel(ctx))
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
		return unavailable(err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	if err := do(tx); err != nil {
		return unavailable(err)
	}
	return unavailable(tx.Commit())
}

// makeCursors makes the cursors that are missing for what is appended.
func (s *Store) makeCursors(ctx context.Context, tx *sql.Tx, a *store.Assigned, rows map[string]*store.Row, now buildcast.Time) error {
	followers := *s.followers.Load()
	if len(followers) == 0 {
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
		for j := range followers {
			if !followers[j].Follows(e.BuildID, project) {
				continue
			}
			if _, err := make.ExecContext(ctx, followers[j].ID, e.BuildID, e.ID, now.Std().UnixMilli(), generation); err != nil {
				return err
			}
		}
	}
	return nil
}
