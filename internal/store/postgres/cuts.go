package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// DeleteBuild implements store.Cuts. The generation grows, so that no append of an old
// lease, and none that guesses (known.go), is accepted for a build that is created
// under this id later. finished_at stays: neither lists nor claims read the row.
func (s *Store) DeleteBuild(ctx context.Context, id string) (first int64, err error) {
	err = s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var last int64
		var running bool
		err := tx.QueryRow(ctx, `SELECT last_event_id, finished_at IS NULL FROM builds WHERE id = $1 AND deleted_at IS NULL FOR UPDATE`, id).Scan(&last, &running)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return store.NoBuild(id)
		case err != nil:
			return err
		case running:
			return store.StillRunning(id)
		}
		if err := execAll(ctx, tx, id, `SELECT FROM webhook_cursors WHERE build_id = $1 ORDER BY endpoint_id FOR UPDATE`,
			`DELETE FROM webhook_cursors WHERE build_id = $1`); err != nil {
			return err
		}
		now := buildcast.Now()
		status, err := store.Encode(store.Tombstone(id, last, now))
		if err != nil {
			return err
		}
		first = last + 1
		_, err = tx.Exec(ctx, `
			UPDATE builds SET project = '', prompt = '', plan = NULL, options = NULL, deploy = '', idempotency_key = NULL, status = $2, fold_start = NULL,
				first_event_id = $3, lease_owner = NULL, lease_until = '-infinity', lease_generation = lease_generation + 1,
				updated_at = $4, deleted_at = $4, purging = true WHERE id = $1`, id, string(status), first, now.Std())
		return err
	})
	return first, err
}

// TruncateLog implements store.Cuts.
func (s *Store) TruncateLog(ctx context.Context, id string, first int64) (int64, error) {
	return store.Truncate(ctx, s, id, first)
}

// FoldStart implements store.Cuts.
func (s *Store) FoldStart(ctx context.Context, id string) (buildcast.Status, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var first int64
	var project string
	var created time.Time
	var start []byte
	err := s.pool.QueryRow(ctx, `SELECT first_event_id, project, created_at, fold_start FROM builds WHERE id = $1 AND deleted_at IS NULL`, id).
		Scan(&first, &project, &created, &start)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return buildcast.Status{}, store.NoBuild(id)
	case err != nil:
		return buildcast.Status{}, unavailable(ctx, err)
	case start != nil:
		return store.DecodeStatus(start)
	}
	return store.Reborn(id, project, first-1, buildcast.TimeOf(created)), nil
}

// Cut implements store.Cutter.
func (s *Store) Cut(ctx context.Context, id string, from int64, start buildcast.Status) (done bool, err error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	text, err := store.Encode(start)
	if err != nil {
		return false, err
	}
	tag, err := s.exec(ctx, `
		UPDATE builds SET first_event_id = $1, fold_start = $2, status = jsonb_set(status, '{firstEventId}', to_jsonb($1::bigint)), purging = true
		WHERE id = $3 AND first_event_id = $4 AND deleted_at IS NULL`, start.FirstEventID, string(text), id, from)
	return tag.RowsAffected() == 1, unavailable(ctx, err)
}

// The purge finds the first row of a log that was cut, and removes by ids from
// there: with a LIMIT instead, a plan may go through the rest of the log in each step.
const (
	purgeFirstSQL = `SELECT id FROM project_build_events WHERE build_id = $1 AND id < $2 ORDER BY id LIMIT 1`
	purgeSQL      = `DELETE FROM project_build_events WHERE build_id = $1 AND id >= $2 AND id < least($3::bigint, $2 + $4::bigint)`
)

// Purge implements store.Purger. It holds no lock of a build's row while it removes
// rows of other tables, so appends do not wait for it.
func (s *Store) Purge(ctx context.Context, limit int) (more bool, err error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var id string
	var first int64
	err = s.pool.QueryRow(ctx, `SELECT id, first_event_id FROM builds WHERE purging ORDER BY id LIMIT 1`).Scan(&id, &first)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, unavailable(ctx, err)
	}
	var from int64
	switch err = s.pool.QueryRow(ctx, purgeFirstSQL, id, first).Scan(&from); {
	case err == nil:
		_, err = s.exec(ctx, purgeSQL, id, from, first, limit)
		return err == nil, unavailable(ctx, err)
	case !errors.Is(err, pgx.ErrNoRows):
		return false, unavailable(ctx, err)
	}
	if done, err := s.purgeFailures(ctx, id, first, limit); err != nil || !done {
		return err == nil, err
	}
	_, err = s.exec(ctx, `UPDATE builds SET purging = false WHERE id = $1 AND first_event_id = $2`, id, first)
	return err == nil, unavailable(ctx, err)
}

// purgeFailures removes up to limit failed deliveries of events that were cut off,
// and unblocks the cursors that wait for them. It reports whether none is left.
func (s *Store) purgeFailures(ctx context.Context, id string, first int64, limit int) (done bool, err error) {
	err = s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `
			WITH l AS MATERIALIZED (
				SELECT endpoint_id FROM webhook_cursors WHERE build_id = $1 AND blocked AND next_event_id <= $2 ORDER BY endpoint_id FOR UPDATE)
			UPDATE webhook_cursors c SET blocked = false FROM l WHERE c.build_id = $1 AND c.endpoint_id = l.endpoint_id`, id, first); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			DELETE FROM worker_webhook_failures WHERE ctid = ANY(ARRAY(
				SELECT ctid FROM worker_webhook_failures WHERE build_id = $1 AND event_id < $2 LIMIT $3 FOR UPDATE))`, id, first, limit)
		done = tag.RowsAffected() < int64(limit)
		return err
	})
	return done, err
}
