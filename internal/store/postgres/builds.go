package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

const buildColumns = `id, project, prompt, plan, options, deploy, status, created_at`

// CreateBuild implements store.Builds.
func (s *Store) CreateBuild(ctx context.Context, b store.NewBuild) (buildcast.Build, bool, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	for n := 1; ; n++ {
		build, created, err := s.createOnce(ctx, b)
		if err == nil && !created {
			return build, false, b.Matches(build)
		}
		lost := errors.Is(err, pgx.ErrNoRows) || again(err) // a race with a deletion or another creation
		if err == nil || n == attempts || !lost {
			return build, created, unavailable(ctx, err)
		}
	}
}

// createOnce stores the build, or returns the one that exists under its id or
// idempotency key.
func (s *Store) createOnce(ctx context.Context, b store.NewBuild) (build buildcast.Build, created bool, err error) {
	build, parts, err := b.Build(buildcast.Now())
	if err != nil {
		return build, false, err
	}
	status, err := store.Encode(build.Status)
	if err != nil {
		return build, false, err
	}
	args := []any{b.ID, b.Project, b.Prompt, null(string(parts.Plan)), b.Deploy, null(b.IdempotencyKey), string(status), build.CreatedAt.Std(), null(string(parts.Options))}
	tag, err := s.exec(ctx, `
		INSERT INTO builds (id, project, prompt, plan, deploy, idempotency_key, status, created_at, updated_at, options)
		VALUES ($1, $2, $3, $4::json, $5, $6, $7, $8, $8, $9::json) ON CONFLICT DO NOTHING`, args...)
	if err != nil || tag.RowsAffected() == 1 {
		return build, err == nil, err
	}
	there, err := scanBuild(s.pool.QueryRow(ctx, `SELECT `+buildColumns+` FROM builds
		WHERE (id = $1 OR idempotency_key = $2) AND deleted_at IS NULL ORDER BY id <> $1 LIMIT 1`, b.ID, null(b.IdempotencyKey)))
	if !errors.Is(err, pgx.ErrNoRows) {
		return there, false, err
	}
	// The id is that of a tombstone.
	var last int64
	err = s.pool.QueryRow(ctx, `
		UPDATE builds SET project = $2, prompt = $3, plan = $4::json, deploy = $5, idempotency_key = $6,
			status = $7::jsonb || jsonb_build_object('firstEventId', last_event_id + 1, 'lastEventId', last_event_id),
			options = $9::json, created_at = $8, updated_at = $8, finished_at = NULL, deleted_at = NULL
		WHERE id = $1 AND deleted_at IS NOT NULL RETURNING last_event_id`, args...).Scan(&last)
	if errors.Is(err, pgx.ErrNoRows) { // another creation has revived it meanwhile
		return build, false, err
	}
	build.Status = store.Reborn(b.ID, b.Project, last, build.CreatedAt)
	return build, err == nil, uncommitted(ctx, err)
}

// GetBuild implements store.Builds.
func (s *Store) GetBuild(ctx context.Context, id string) (buildcast.Build, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	b, err := scanBuild(s.pool.QueryRow(ctx, `SELECT `+buildColumns+` FROM builds WHERE id = $1 AND deleted_at IS NULL`, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return b, store.NoBuild(id)
	}
	return b, unavailable(ctx, err)
}

// SavePlan implements store.Plans.
func (s *Store) SavePlan(ctx context.Context, l store.Lease, plan *buildcast.Plan) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	text, err := store.Encode(plan)
	if err != nil {
		return err
	}
	tag, err := s.exec(ctx, `
		UPDATE builds SET plan = coalesce(plan, $1::json) WHERE id = $2 AND lease_generation = $3 AND deleted_at IS NULL`,
		string(text), l.BuildID, l.Generation)
	if err != nil || tag.RowsAffected() == 1 {
		return err
	}
	if _, err := s.GetBuild(ctx, l.BuildID); err != nil {
		return err
	}
	return store.TakenOver(l)
}

// dialect is Postgres's.
var dialect = store.Dialect{
	Parameter: store.Numbered,
	Time:      store.AsTime,
	Phase:     func(buildcast.Phase) string { return `phase = ?` },
	Position:  "strpos",
}

// ListBuilds implements store.Builds.
func (s *Store) ListBuilds(ctx context.Context, f store.Filter) (store.Page, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	query, args, err := f.Query(dialect)
	if err != nil {
		return store.Page{}, err
	}
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return store.Page{}, unavailable(ctx, err)
	}
	page := store.NewPage(f)
	var text []byte
	var created time.Time
	_, err = pgx.ForEachRow(rows, []any{&text, &created}, func() error { return page.Add(text, created.UnixMilli()) })
	return page.Page, unavailable(ctx, err)
}

func scanBuild(row pgx.Row) (buildcast.Build, error) {
	var b buildcast.Build
	var parts store.BuildJSON
	var status []byte
	var created time.Time
	if err := row.Scan(&b.ID, &b.Project, &b.Prompt, &parts.Plan, &parts.Options, &b.Deploy, &status, &created); err != nil {
		return b, err
	}
	b.CreatedAt = buildcast.TimeOf(created)
	err := parts.Decode(&b)
	if err != nil {
		return b, err
	}
	b.Status, err = store.DecodeStatus(status)
	return b, err
}

func null(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
