package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

const buildColumns = `id, project, prompt, plan, options, deploy, status, created_at`

// CreateBuild implements store.Builds.
func (s *Store) CreateBuild(ctx context.Context, b store.NewBuild) (buildcast.Build, bool, error) {
	var build buildcast.Build
	created := false
	err := s.inTx(ctx, func(tx *sql.Tx) (err error) {
		build, err = scanBuild(tx.QueryRowContext(ctx, `SELECT `+buildColumns+` FROM builds
			WHERE (id = ?1 OR idempotency_key = ?2) AND deleted_at IS NULL ORDER BY id <> ?1 LIMIT 1`, b.ID, null(b.IdempotencyKey)))
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		created = true
		build, err = insertBuild(ctx, tx, b)
		return err
	})
	if err != nil || created {
		return build, created && err == nil, err
	}
	return build, false, b.Matches(build)
}

// insertBuild stores a build whose id is free, or that of a deleted build.
func insertBuild(ctx context.Context, tx *sql.Tx, b store.NewBuild) (buildcast.Build, error) {
	build, parts, err := b.Build(buildcast.Now())
	if err != nil {
		return build, err
	}
	var last int64
	err = tx.QueryRowContext(ctx, `SELECT last_event_id FROM builds WHERE id = ?`, b.ID).Scan(&last)
	if err == nil { // a tombstone
		build.Status = store.Reborn(b.ID, b.Project, last, build.CreatedAt)
		return build, revive(ctx, tx, b, parts, build.Status)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return build, err
	}
	status, err := store.Encode(build.Status)
	if err != nil {
		return build, err
	}
	ms := build.CreatedAt.Std().UnixMilli()
	_, err = tx.ExecContext(ctx, `
		INSERT INTO builds (id, project, prompt, plan, options, deploy, idempotency_key, status, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		b.ID, b.Project, b.Prompt, null(string(parts.Plan)), null(string(parts.Options)), b.Deploy, null(b.IdempotencyKey), string(status), ms, ms)
	return build, err
}

// revive turns a tombstone into a queued build. The rest of the old log is still
// purged.
func revive(ctx context.Context, tx *sql.Tx, b store.NewBuild, parts store.BuildJSON, status buildcast.Status) error {
	text, err := store.Encode(status)
	if err != nil {
		return err
	}
	ms := status.CreatedAt.Std().UnixMilli()
	_, err = tx.ExecContext(ctx, `
		UPDATE builds SET project = ?, prompt = ?, plan = ?, options = ?, deploy = ?, idempotency_key = ?, status = ?,
			created_at = ?, updated_at = ?, finished_at = NULL, deleted_at = NULL WHERE id = ?`,
		b.Project, b.Prompt, null(string(parts.Plan)), null(string(parts.Options)), b.Deploy, null(b.IdempotencyKey), string(text), ms, ms, b.ID)
	return err
}

// GetBuild implements store.Builds.
func (s *Store) GetBuild(ctx context.Context, id string) (buildcast.Build, error) {
	b, err := scanBuild(s.read.QueryRowContext(ctx, `SELECT `+buildColumns+` FROM builds WHERE id = ? AND deleted_at IS NULL`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return b, store.NoBuild(id)
	}
	return b, unavailable(ctx, err)
}

// SavePlan implements store.Plans.
func (s *Store) SavePlan(ctx context.Context, l store.Lease, plan *buildcast.Plan) error {
	text, err := store.Encode(plan)
	if err != nil {
		return err
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		var generation int64
		err := tx.QueryRowContext(ctx, `SELECT lease_generation FROM builds WHERE id = ? AND deleted_at IS NULL`, l.BuildID).Scan(&generation)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return store.NoBuild(l.BuildID)
		case err != nil:
			return err
		case generation != l.Generation:
			return store.TakenOver(l)
		}
		_, err = tx.ExecContext(ctx, `UPDATE builds SET plan = ? WHERE id = ? AND plan IS NULL`, string(text), l.BuildID)
		return err
	})
}

// dialect is SQLite's.
var dialect = store.Dialect{
	Parameter: func(int) string { return "?" },
	Time:      store.Same,
	Position:  "instr",
	// One index holds the finished builds, another one the rest.
	Phase: func(p buildcast.Phase) string {
		if p.Terminal() {
			return `finished_at IS NOT NULL AND status ->> '$.status' = ?`
		}
		return `finished_at IS NULL AND status ->> '$.status' = ?`
	},
}

// ListBuilds implements store.Builds.
func (s *Store) ListBuilds(ctx context.Context, f store.Filter) (store.Page, error) {
	query, args, err := f.Query(dialect)
	if err != nil {
		return store.Page{}, err
	}
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return store.Page{}, unavailable(ctx, err)
	}
	defer rows.Close()
	page := store.NewPage(f)
	for rows.Next() {
		var text string
		var created int64
		if err := rows.Scan(&text, &created); err != nil {
			return store.Page{}, unavailable(ctx, err)
		}
		if err := page.Add([]byte(text), created); err != nil {
			return store.Page{}, err
		}
	}
	return page.Page, unavailable(ctx, rows.Err())
}

func scanBuild(row *sql.Row) (buildcast.Build, error) {
	var b buildcast.Build
	var parts store.BuildJSON
	var status string
	var created int64
	if err := row.Scan(&b.ID, &b.Project, &b.Prompt, &parts.Plan, &parts.Options, &b.Deploy, &status, &created); err != nil {
		return b, err
	}
	b.CreatedAt = msTime(created)
	err := parts.Decode(&b)
	if err != nil {
		return b, err
	}
	b.Status, err = store.DecodeStatus([]byte(status))
	return b, err
}

func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}
