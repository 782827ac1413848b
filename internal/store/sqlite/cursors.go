package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"time"

	"github.com/buildcast/buildcast/internal/store"
)

// Texts of the statements that are prepared for cursors. The first generation is the
// time, so that a cursor that was parked and made again repeats no earlier one.
const (
	makeCursorSQL = `
		INSERT INTO webhook_cursors (endpoint_id, build_id, next_event_id, due_at, generation) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING`
	held       = ` WHERE endpoint_id = ? AND build_id = ? AND lease_owner = ? AND generation = ?`
	advanceSQL = `UPDATE webhook_cursors SET next_event_id = ?` + held
	leaveSQL   = `UPDATE webhook_cursors SET next_event_id = ?, due_at = ?, blocked = ?, lease_owner = NULL, lease_until = 0` + held
	parkSQL    = `DELETE FROM webhook_cursors` + held + ` AND (SELECT last_event_id FROM builds WHERE id = build_id) < ?`
)

// claimCursorsSQL claims cursors. RETURNING has no order, so it returns due_at, by
// which ClaimCursors sorts.
const claimCursorsSQL = `
	UPDATE webhook_cursors SET lease_owner = ?1, lease_until = ?2, generation = generation + 1
	WHERE endpoint_id = ?3 AND build_id IN (
		SELECT build_id FROM webhook_cursors
		WHERE endpoint_id = ?3 AND blocked = 0 AND due_at <= ?4 AND lease_until <= ?4
		AND (?5 = 'null' OR build_id IN (SELECT value FROM json_each(?5)))
		ORDER BY due_at, build_id LIMIT ?6)
	RETURNING build_id, next_event_id, coalesce((SELECT first_event_id FROM builds WHERE id = build_id), 1), generation, due_at`

// ClaimCursors implements store.Cursors. Once the statement has begun nothing
// cancels it: the claim would be stored, but the caller would not learn which cursors
// it holds.
func (s *Store) ClaimCursors(ctx context.Context, owner, endpointID string, builds []string, now, until time.Time, limit int) ([]store.Cursor, error) {
	only, err := store.Encode(builds)
	if err != nil {
		return nil, err
	}
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	defer conn.Close()
	rows, err := conn.QueryContext(context.WithoutCancel(ctx), claimCursorsSQL, owner, until.UnixMilli(), endpointID, now.UnixMilli(), string(only), limit)
	if err != nil {
		return nil, uncommitted(ctx, err)
	}
	defer rows.Close()
	type claimed struct {
		store.Cursor
		due int64
	}
	var all []claimed
	for rows.Next() {
		c := claimed{Cursor: store.Cursor{EndpointID: endpointID}}
		var first int64
		if err := rows.Scan(&c.BuildID, &c.Next, &first, &c.Generation, &c.due); err != nil {
			return nil, uncommitted(ctx, err)
		}
		c.StartAt(first)
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b claimed) int { return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.BuildID, b.BuildID)) })
	cursors := make([]store.Cursor, len(all))
	for i, c := range all {
		cursors[i] = c.Cursor
	}
	return cursors, uncommitted(ctx, rows.Err())
}

// RenewCursors implements store.CursorLeases.
func (s *Store) RenewCursors(ctx context.Context, owner string, now, until time.Time, except ...time.Time) error {
	ends := make([]int64, len(except))
	for i, end := range except {
		ends[i] = end.UnixMilli()
	}
	not, err := store.Encode(ends)
	if err != nil {
		return err
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		for _, q := range []string{
			`UPDATE webhook_cursors SET lease_until = ? WHERE lease_owner = ?`,
			`UPDATE worker_webhook_failures SET lease_until = ? WHERE lease_owner = ? AND state = 'retrying'`,
		} {
			q += ` AND lease_until > ? AND lease_until NOT IN (SELECT value FROM json_each(?))`
			if _, err := tx.ExecContext(ctx, q, until.UnixMilli(), owner, now.UnixMilli(), string(not)); err != nil {
				return err
			}
		}
		return nil
	})
}

// ReleaseCursors implements store.CursorLeases.
func (s *Store) ReleaseCursors(ctx context.Context, owner string) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		return execAll(ctx, tx, owner,
			`UPDATE webhook_cursors SET lease_owner = NULL, lease_until = 0 WHERE lease_owner = ?`,
			`UPDATE worker_webhook_failures SET lease_owner = NULL, lease_until = 0 WHERE lease_owner = ?`)
	})
}

// MoveCursors implements store.Cursors. Its commits do not wait for the disk: a move
// that is lost in a crash of the machine only means that an event is sent twice. In
// WAL mode the file stays sound, and the moves survive the end of the process.
func (s *Store) MoveCursors(ctx context.Context, owner string, moves []store.Move) ([]store.Moved, error) {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	defer conn.Close()
	ctx = context.WithoutCancel(ctx) // see AppendEvents
	if _, err := conn.ExecContext(ctx, `PRAGMA synchronous = NORMAL`); err != nil {
		return nil, unavailable(ctx, err)
	}
	defer func() {
		if _, err := conn.ExecContext(ctx, `PRAGMA synchronous = FULL`); err != nil {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // appends must not use the connection
		}
	}()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	moved := make([]store.Moved, len(moves))
	for i := range moves {
		if moved[i], err = s.moveCursor(ctx, tx, owner, &moves[i]); err != nil {
			return nil, unavailable(ctx, err)
		}
	}
	return moved, uncommitted(ctx, tx.Commit())
}

func (s *Store) moveCursor(ctx context.Context, tx *sql.Tx, owner string, m *store.Move) (moved store.Moved, err error) {
	exec := func(stmt *sql.Stmt, args ...any) bool {
		if err != nil {
			return false
		}
		var res sql.Result
		if res, err = tx.StmtContext(ctx, stmt).ExecContext(ctx, args...); err != nil {
			return false
		}
		var n int64
		n, err = res.RowsAffected()
		return n > 0
	}
	switch {
	case m.Leave != nil:
		exec(s.stmts.leave, m.Next, m.Leave.UnixMilli(), false, m.EndpointID, m.BuildID, owner, m.Generation)
		return moved, err
	case m.Park && exec(s.stmts.park, m.EndpointID, m.BuildID, owner, m.Generation, m.Next):
		moved.Parked = true
		return moved, err
	case m.Failed != nil && m.Block:
		if !exec(s.stmts.leave, m.Next, 0, true, m.EndpointID, m.BuildID, owner, m.Generation) {
			return moved, err
		}
		return moved, putDelivery(ctx, tx, m.Failed)
	}
	moved.Held = exec(s.stmts.advance, m.Next, m.EndpointID, m.BuildID, owner, m.Generation)
	if moved.Held && m.Failed != nil {
		err = putDelivery(ctx, tx, m.Failed)
	}
	return moved, err
}

// putCursorSQL and putCursorRest, with the new next_event_id between them, move a
// cursor or create it, and end its lease.
const putCursorSQL = `
	INSERT INTO webhook_cursors (endpoint_id, build_id, next_event_id, due_at, generation) VALUES (?1, ?2, ?3, ?4, ?5)
	ON CONFLICT DO UPDATE SET next_event_id = `

const putCursorRest = `, due_at = excluded.due_at, blocked = 0, lease_owner = NULL, lease_until = 0, generation = generation + 1`

// Rewind implements store.Cursors.
func (s *Store) Rewind(ctx context.Context, endpointID, buildID string, next int64) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := s.endpointExists(ctx, tx, endpointID); err != nil {
			return err
		}
		var first int64
		err := tx.QueryRowContext(ctx, `SELECT first_event_id FROM builds WHERE id = ? AND deleted_at IS NULL`, buildID).Scan(&first)
		if errors.Is(err, sql.ErrNoRows) {
			return store.NoBuild(buildID)
		}
		if err != nil {
			return err
		}
		next = max(next, first)
		_, err = tx.ExecContext(ctx, putCursorSQL+`excluded.next_event_id`+putCursorRest, endpointID, buildID, next, time.Now().UnixMilli(), time.Now().UnixMicro())
		return err
	})
}
