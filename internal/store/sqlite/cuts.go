package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// purgeBytes bounds the event data that one step of a purge removes: appends wait
// for the step.
const purgeBytes = 1 << 20

// DeleteBuild implements store.Cuts.
func (s *Store) DeleteBuild(ctx context.Context, id string) (first int64, err error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	delete(s.rows, id)
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		var last int64
		var finished bool
		err := tx.QueryRowContext(ctx, `SELECT last_event_id, finished_at IS NOT NULL FROM builds WHERE id = ? AND deleted_at IS NULL`, id).Scan(&last, &finished)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return store.NoBuild(id)
		case err != nil:
			return err
		case !finished:
			return store.StillRunning(id)
		}
		now := buildcast.Now()
		status, err := store.Encode(store.Tombstone(id, last, now))
		if err != nil {
			return err
		}
		first = last + 1
		ms := now.Std().UnixMilli()
		// The generation grows, so that no append of an old lease is accepted for a
		// build that is created under this id later. finished_at stays: neither lists
		// nor claims read the row.
		if _, err := tx.ExecContext(ctx, `
			UPDATE builds SET project = '', prompt = '', plan = NULL, options = NULL, deploy = '', idempotency_key = NULL, status = ?, fold_start = NULL,
				first_event_id = ?, lease_owner = NULL, lease_until = 0, lease_generation = lease_generation + 1,
				updated_at = ?, deleted_at = ?, purging = 1 WHERE id = ?`, string(status), first, ms, ms, id); err != nil {
			return err
		}
		return execAll(ctx, tx, id, `DELETE FROM webhook_cursors WHERE build_id = ?`)
	})
	return first, err
}

// TruncateLog implements store.Cuts.
func (s *Store) TruncateLog(ctx context.Context, id string, first int64) (int64, error) {
	return store.Truncate(ctx, s, id, first)
}

// FoldStart implements store.Cuts.
func (s *Store) FoldStart(ctx context.Context, id string) (buildcast.Status, error) {
	var first, created int64
	var project string
	var start sql.NullString
	err := s.read.QueryRowContext(ctx, `SELECT first_event_id, project, created_at, fold_start FROM builds WHERE id = ? AND deleted_at IS NULL`, id).
		Scan(&first, &project, &created, &start)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return buildcast.Status{}, store.NoBuild(id)
	case err != nil:
		return buildcast.Status{}, unavailable(ctx, err)
	case start.Valid:
		return store.DecodeStatus([]byte(start.String))
	}
	return store.Reborn(id, project, first-1, msTime(created)), nil
}

// Cut implements store.Cutter.
func (s *Store) Cut(ctx context.Context, id string, from int64, start buildcast.Status) (done bool, err error) {
	text, err := store.Encode(start)
	if err != nil {
		return false, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	delete(s.rows, id)
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `
			UPDATE builds SET first_event_id = ?1, fold_start = ?2, status = json_set(status, '$.firstEventId', ?1), purging = 1
			WHERE id = ?3 AND first_event_id = ?4 AND deleted_at IS NULL`, start.FirstEventID, string(text), id, from)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		done = n == 1
		return err
	})
	return done, err
}

// Purge implements store.Purger. It looks for rows to remove before it takes the
// writing connection.
func (s *Store) Purge(ctx context.Context, limit int) (more bool, err error) {
	var id string
	var first int64
	err = s.read.QueryRowContext(ctx, `SELECT id, first_event_id FROM builds WHERE purging = 1 ORDER BY id LIMIT 1`).Scan(&id, &first)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, unavailable(ctx, err)
	}
	before, err := s.purgeStep(ctx, id, first, limit)
	if err != nil {
		return false, unavailable(ctx, err)
	}
	return true, s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM project_build_events WHERE build_id = ? AND id < ?`, id, before); err != nil || before < first {
			return err
		}
		return purgeFailures(ctx, tx, id, first, limit)
	})
}

// purgeStep returns the id before which one step removes events.
func (s *Store) purgeStep(ctx context.Context, id string, first int64, limit int) (before int64, err error) {
	rows, err := s.read.QueryContext(ctx, `SELECT id, octet_length(event_data) FROM project_build_events WHERE build_id = ? AND id < ? ORDER BY id LIMIT ?`, id, first, limit)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	n, bytes := 0, 0
	for rows.Next() {
		var size int
		var event int64
		if err := rows.Scan(&event, &size); err != nil {
			return 0, err
		}
		if n++; n > 1 && bytes+size > purgeBytes {
			return event, nil
		}
		before, bytes = event+1, bytes+size
	}
	if n < limit {
		before = first
	}
	return before, rows.Err()
}

// purgeFailures removes up to limit failed deliveries of events that were cut off,
// and unblocks the cursors that wait for them. If none is left it ends the purge of
// the build.
func purgeFailures(ctx context.Context, tx *sql.Tx, id string, first int64, limit int) error {
	if _, err := tx.ExecContext(ctx, `UPDATE webhook_cursors SET blocked = 0, due_at = min(due_at, ?) WHERE build_id = ? AND blocked = 1 AND next_event_id <= ?`,
		time.Now().UnixMilli(), id, first); err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx, `
		DELETE FROM worker_webhook_failures WHERE (endpoint_id, build_id, event_id) IN (
			SELECT endpoint_id, build_id, event_id FROM worker_webhook_failures WHERE build_id = ? AND event_id < ? LIMIT ?)`, id, first, limit)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n >= int64(limit) {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE builds SET purging = 0 WHERE id = ? AND first_event_id = ?`, id, first)
	return err
}
