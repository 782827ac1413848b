package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

const buildColumns = `id, project, prompt, plan, deploy, status, created_at`

// CreateBuild implements store.Builds.
func (s *Store) CreateBuild(ctx context.Context, b store.NewBuild) (buildcast.Build, bool, error) {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return buildcast.Build{}, false, unavailable(err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	there, err := scanBuild(tx.QueryRowContext(ctx, `SELECT `+buildColumns+` FROM builds WHERE id = ?1 OR idempotency_key = ?2
		ORDER BY id <> ?1 LIMIT 1`, b.ID, null(b.IdempotencyKey)))
	if err == nil {
		return there, false, b.Matches(there)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return buildcast.Build{}, false, unavailable(err)
	}
	build, plan, err := b.Build(buildcast.Now())
	if err != nil {
		return build, false, err
	}
	status, err := json.Marshal(build.Status)
	if err != nil {
		return build, false, err
	}
	ms := build.CreatedAt.Std().UnixMilli()
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO builds (id, project, prompt, plan, deploy, idempotency_key, status, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		b.ID, b.Project, b.Prompt, null(string(plan)), b.Deploy, null(b.IdempotencyKey), string(status), ms, ms); err != nil {
		return build, false, unavailable(err)
	}
	return build, true, unavailable(tx.Commit())
}

// GetBuild implements store.Builds.
func (s *Store) GetBuild(ctx context.Context, id string) (buildcast.Build, error) {
	b, err := scanBuild(s.read.QueryRowContext(ctx, `SELECT `+buildColumns+` FROM builds WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return b, store.NoBuild(id)
	}
	return b, unavailable(err)
}

// ListBuilds implements store.Builds.
func (s *Store) ListBuilds(ctx context.Context, f store.Filter) (store.Page, error) {
	where, args := []string{`id <> '` + buildcast.OperationsBuild + `'`}, []any{}
	if f.Phase != "" {
		where, args = append(where, `status ->> '$.status' = ?`, finished(f.Phase)), append(args, string(f.Phase))
	}
	if f.Project != "" {
		where, args = append(where, `project = ?`), append(args, f.Project)
	}
	if f.Before != "" {
		p, err := store.ParsePlace(f.Before)
		if err != nil {
			return store.Page{}, err
		}
		where, args = append(where, `(created_at, id) < (?, ?)`), append(args, p.Created, p.ID)
	}
	rows, err := s.read.QueryContext(ctx, `SELECT status, created_at FROM builds WHERE `+strings.Join(where, " AND ")+ //nolint:gosec // the conditions are the constants above
		` ORDER BY created_at DESC, id DESC LIMIT ?`, append(args, f.Limit+1)...)
	if err != nil {
		return store.Page{}, unavailable(err)
	}
	defer rows.Close()
	var page store.Page
	var last store.Place
	for rows.Next() {
		var text string
		var created int64
		if err := rows.Scan(&text, &created); err != nil {
			return page, unavailable(err)
		}
		if len(page.Statuses) == f.Limit { // there is at least one more
			page.Next = last.String()
			break
		}
		var st buildcast.Status
		if err := json.Unmarshal([]byte(text), &st); err != nil {
			return page, err
		}
		page.Statuses = append(page.Statuses, st)
		last = store.Place{Created: created, ID: st.BuildID}
	}
	return page, unavailable(rows.Err())
}

// finished is what the phase says about finished_at: the indexes hold builds of one kind.
func finished(p buildcast.Phase) string {
	if p.Terminal() {
		return `finished_at IS NOT NULL`
	}
	return `finished_at IS NULL`
}

// DeleteBuild implements store.Builds.
func (s *Store) DeleteBuild(ctx context.Context, id string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	delete(s.rows, id)
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return unavailable(err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	var finished sql.NullInt64
	switch err := tx.QueryRowContext(ctx, `SELECT finished_at FROM builds WHERE id = ?`, id).Scan(&finished); {
	case errors.Is(err, sql.ErrNoRows):
		return store.NoBuild(id)
	case err != nil:
		return unavailable(err)
	case !finished.Valid:
		return store.StillRunning(id)
	}
	if err := execAll(ctx, tx, id,
		`DELETE FROM project_build_events WHERE build_id = ?`, `DELETE FROM webhook_cursors WHERE build_id = ?`,
		`DELETE FROM worker_webhook_failures WHERE build_id = ?`, `DELETE FROM builds WHERE id = ?`); err != nil {
		return unavailable(err)
	}
	return unavailable(tx.Commit())
}

func scanBuild(row *sql.Row) (buildcast.Build, error) {
	var b buildcast.Build
	var plan sql.NullString
	var status string
	var created int64
	if err := row.Scan(&b.ID, &b.Project, &b.Prompt, &plan, &b.Deploy, &status, &created); err != nil {
		return b, err
	}
	b.CreatedAt = msTime(created)
	if plan.Valid {
		b.Plan = new(buildcast.Plan)
		if err := json.Unmarshal([]byte(plan.String), b.Plan); err != nil {
			return b, err
		}
	}
	return b, json.Unmarshal([]byte(status), &b.Status)
}

func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}
