package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

const buildColumns = `id, project, prompt, plan, deploy, status, created_at`

// CreateBuild implements store.Builds.
func (s *Store) CreateBuild(ctx context.Context, b store.NewBuild) (buildcast.Build, bool, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	build, plan, err := b.Build(buildcast.Now())
	if err != nil {
		return build, false, err
	}
	status, err := json.Marshal(build.Status)
	if err != nil {
		return build, false, err
	}
	tag, err := s.pool.Exec(ctx, `
		INSERT INTO builds (id, project, prompt, plan, deploy, idempotency_key, status, created_at, updated_at)
		VALUES ($1, $2, $3, $4::json, $5, $6, $7, $8, $8) ON CONFLICT DO NOTHING`,
		b.ID, b.Project, b.Prompt, null(string(plan)), b.Deploy, null(b.IdempotencyKey), string(status), build.CreatedAt.Std())
	if err != nil || tag.RowsAffected() == 1 {
		return build, err == nil, unavailable(err)
	}
	there, err := scanBuild(s.pool.QueryRow(ctx, `SELECT `+buildColumns+` FROM builds WHERE id = $1 OR idempotency_key = $2
		ORDER BY id <> $1 LIMIT 1`, b.ID, null(b.IdempotencyKey)))
	if errors.Is(err, pgx.ErrNoRows) { // deleted in between
		return s.CreateBuild(ctx, b)
	}
	if err != nil {
		return buildcast.Build{}, false, unavailable(err)
	}
	return there, false, b.Matches(there)
}

// GetBuild implements store.Builds.
func (s *Store) GetBuild(ctx context.Context, id string) (buildcast.Build, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	b, err := scanBuild(s.pool.QueryRow(ctx, `SELECT `+buildColumns+` FROM builds WHERE id = $1`, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return b, store.NoBuild(id)
	}
	return b, unavailable(err)
}

// ListBuilds implements store.Builds.
func (s *Store) ListBuilds(ctx context.Context, f store.Filter) (store.Page, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	where, args := []string{`id <> '` + buildcast.OperationsBuild + `'`}, []any{}
	add := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		where = append(where, condition)
	}
	if f.Phase != "" {
		add(`phase = ?`, string(f.Phase))
	}
	if f.Project != "" {
		add(`project = ?`, f.Project)
	}
	if f.Before != "" {
		p, err := store.ParsePlace(f.Before)
		if err != nil {
			return store.Page{}, err
		}
		add(`(created_at, id) < (?, ?)`, time.UnixMilli(p.Created), p.ID)
	}
	args = append(args, f.Limit+1)
	rows, err := s.pool.Query(ctx, `SELECT status, created_at FROM builds WHERE `+strings.Join(where, " AND ")+
		fmt.Sprintf(` ORDER BY created_at DESC, id DESC LIMIT $%d`, len(args)), args...)
	if err != nil {
		return store.Page{}, unavailable(err)
	}
	var page store.Page
	var last store.Place
	var text []byte
	var created time.Time
	_, err = pgx.ForEachRow(rows, []any{&text, &created}, func() error {
		if len(page.Statuses) == f.Limit { // there is at least one more
			page.Next = last.String()
			return nil
		}
		var st buildcast.Status
		if err := json.Unmarshal(text, &st); err != nil {
			return err
		}
		page.Statuses = append(page.Statuses, st)
		last = store.Place{Created: created.UnixMilli(), ID: st.BuildID}
		return nil
	})
	return page, unavailable(err)
}

// DeleteBuild implements store.Builds.
func (s *Store) DeleteBuild(ctx context.Context, id string) error {
	return s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var running bool
		err := tx.QueryRow(ctx, `SELECT finished_at IS NULL FROM builds WHERE id = $1 FOR UPDATE`, id).Scan(&running)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return store.NoBuild(id)
		case err != nil:
			return err
		case running:
			return store.StillRunning(id)
		}
		if err := execAll(ctx, tx, id, `SELECT FROM webhook_cursors WHERE build_id = $1 ORDER BY endpoint_id FOR UPDATE`,
			`DELETE FROM webhook_cursors WHERE build_id = $1`,
			`DELETE FROM worker_webhook_failures WHERE build_id = $1`, `DELETE FROM project_build_events WHERE build_id = $1`); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM builds WHERE id = $1`, id)
		return err
	})
}

func scanBuild(row pgx.Row) (buildcast.Build, error) {
	var b buildcast.Build
	var plan, status []byte
	var created time.Time
	if err := row.Scan(&b.ID, &b.Project, &b.Prompt, &plan, &b.Deploy, &status, &created); err != nil {
		return b, err
	}
	b.CreatedAt = buildcast.TimeOf(created)
	if plan != nil {
		b.Plan = new(buildcast.Plan)
		if err := json.Unmarshal(plan, b.Plan); err != nil {
			return b, err
		}
	}
	return b, json.Unmarshal(status, &b.Status)
}

func null(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
