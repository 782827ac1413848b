package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// One statement inserts insertRows, someRows or one event: rows share the cost of a
// statement.
const insertRows, someRows = 64, 8

// statements are prepared once on the writing connection.
type statements struct {
	lock, create, keyed, insert, insertSome, insertMany, update *sql.Stmt
	makeCursor, advance, leave, park                            *sql.Stmt
}

func (s *Store) prepare(ctx context.Context) error {
	row := "(?,?,?,?,?,?,?)"
	insert := `INSERT INTO project_build_events (build_id, id, event_type, event_data, key, progress, created_at) VALUES `
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&s.stmts.lock, `SELECT status, lease_generation, deleted_at IS NOT NULL FROM builds WHERE id = ?`},
		{&s.stmts.create, `INSERT INTO builds (id, status, created_at, updated_at) VALUES (?, ?, ?, ?)`},
		{&s.stmts.keyed, `SELECT id, event_type, progress, created_at FROM project_build_events WHERE build_id = ? AND key = ?`},
		{&s.stmts.insert, insert + row},
		{&s.stmts.insertSome, insert + strings.Repeat(row+",", someRows-1) + row},
		{&s.stmts.insertMany, insert + strings.Repeat(row+",", insertRows-1) + row},
		{&s.stmts.update, `UPDATE builds SET last_event_id = ?, status = ?, updated_at = ?, finished_at = ? WHERE id = ?`},
		{&s.stmts.makeCursor, makeCursorSQL},
		{&s.stmts.advance, advanceSQL},
		{&s.stmts.leave, leaveSQL},
		{&s.stmts.park, parkSQL},
	} {
		stmt, err := s.write.PrepareContext(ctx, p.text)
		if err != nil {
			return err
		}
		*p.stmt = stmt
	}
	return nil
}

// AppendEvents implements store.Appender. BEGIN IMMEDIATE on the one writing
// connection locks all rows. Once the transaction has begun nothing cancels it: the
// driver starts a goroutine for each statement that can be cancelled, and the whole
// transaction takes milliseconds.
func (s *Store) AppendEvents(ctx context.Context, appends []store.Append) ([]store.Appended, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	defer conn.Close()
	ctx = context.WithoutCancel(ctx)
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	rows := make(map[string]*store.Row)
	a, err := s.append(ctx, tx, appends, rows)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	if err := tx.Commit(); err != nil {
		return nil, uncommitted(ctx, err)
	}
	s.rows.put(rows)
	return a.Appended, nil
}

// append appends within the transaction. Afterwards rows has the rows as they are
// stored.
func (s *Store) append(ctx context.Context, tx *sql.Tx, appends []store.Append, rows map[string]*store.Row) (store.Assigned, error) {
	now := buildcast.Now()
	if err := s.lockRows(ctx, tx, appends, rows, now); err != nil {
		return store.Assigned{}, err
	}
	// All rows are read before the first key is looked up: an append may revive a
	// deleted build to which a fenced append before it belongs.
	keyed, err := s.keptEvents(ctx, tx, appends, rows)
	if err != nil {
		return store.Assigned{}, err
	}
	a := store.Assign(appends, rows, keyed, now)
	if err := s.insertEvents(ctx, tx, a.Insert); err != nil {
		return a, err
	}
	if err := s.makeCursors(ctx, tx, &a, rows, now); err != nil {
		return a, err
	}
	update := tx.StmtContext(ctx, s.stmts.update)
	for i := range a.Update {
		st := &a.Update[i]
		text, err := store.Encode(st)
		if err != nil {
			return a, err
		}
		if _, err := update.ExecContext(ctx, st.LastEventID, string(text), now.Std().UnixMilli(), finishedAt(st), st.BuildID); err != nil {
			return a, err
		}
	}
	return a, nil
}

// lockRows adds the rows of the appends' builds to rows, from the cache or the file.
func (s *Store) lockRows(ctx context.Context, tx *sql.Tx, appends []store.Append, rows map[string]*store.Row, now buildcast.Time) error {
	lock := tx.StmtContext(ctx, s.stmts.lock)
	for _, ap := range appends {
		if rows[ap.BuildID] != nil {
			continue
		}
		row := s.rows.take(ap.BuildID)
		if row == nil {
			var err error
			if row, err = s.lockRow(ctx, tx, lock, ap, now); err != nil {
				return err
			}
		}
		if row != nil {
			rows[ap.BuildID] = row
		}
	}
	return nil
}

// keptEvents returns the events that are kept under the appends' keys.
func (s *Store) keptEvents(ctx context.Context, tx *sql.Tx, appends []store.Append, rows map[string]*store.Row) (map[store.EventKey]buildcast.Event, error) {
	keyed := make(map[store.EventKey]buildcast.Event)
	stmt := tx.StmtContext(ctx, s.stmts.keyed)
	for _, ap := range appends {
		row := rows[ap.BuildID]
		for _, e := range ap.Events {
			if e.Key == "" || row == nil {
				continue
			}
			key := store.EventKey{BuildID: ap.BuildID, Key: e.Key}
			stored, found, err := keptUnder(ctx, tx, stmt, row, key)
			if err != nil {
				return nil, err
			}
			if found {
				keyed[key] = stored
			}
		}
	}
	return keyed, nil
}

// keptUnder returns the event that is kept under the key, without its data. If that
// event was cut off, keptUnder deletes it: a key is remembered as long as its event is
// kept.
func keptUnder(ctx context.Context, tx *sql.Tx, keyed *sql.Stmt, row *store.Row, key store.EventKey) (e buildcast.Event, found bool, err error) {
	e.BuildID = key.BuildID
	var at int64
	err = keyed.QueryRowContext(ctx, key.BuildID, key.Key).Scan(&e.ID, &e.Type, &e.Progress, &at)
	e.Timestamp = msTime(at)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return e, false, nil
	case err == nil && e.ID < row.Status.FirstEventID:
		_, err = tx.ExecContext(ctx, `DELETE FROM project_build_events WHERE build_id = ? AND id = ?`, key.BuildID, e.ID)
		return e, false, err
	}
	return e, err == nil, err
}

// lockRow reads the build's row, and creates an external build if the build does not
// exist. For a fenced append it returns nil instead: a process that still runs a
// deleted build must not bring it back.
func (s *Store) lockRow(ctx context.Context, tx *sql.Tx, lock *sql.Stmt, ap store.Append, now buildcast.Time) (*store.Row, error) {
	row, id := &store.Row{}, ap.BuildID
	var text string
	var deleted bool
	err := lock.QueryRowContext(ctx, id).Scan(&text, &row.Generation, &deleted)
	if err == nil {
		if row.Status, err = store.DecodeStatus([]byte(text)); err != nil || !deleted {
			return row, err
		}
		if ap.Generation != 0 {
			return nil, nil
		}
		row.Status = store.Reborn(id, "", row.Status.LastEventID, now)
		return row, revive(ctx, tx, store.NewBuild{ID: id}, store.BuildJSON{}, row.Status)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	if ap.Generation != 0 {
		return nil, nil
	}
	row.Status = buildcast.NewStatus(id, "", now)
	b, err := store.Encode(row.Status)
	if err != nil {
		return nil, err
	}
	ms := now.Std().UnixMilli()
	_, err = tx.StmtContext(ctx, s.stmts.create).ExecContext(ctx, id, string(b), ms, ms)
	return row, err
}

func (s *Store) insertEvents(ctx context.Context, tx *sql.Tx, events []store.Inserted) error {
	args := make([]any, 0, 7*min(insertRows, len(events)))
	for len(events) > 0 {
		n, stmt := 1, s.stmts.insert
		switch {
		case len(events) >= insertRows:
			n, stmt = insertRows, s.stmts.insertMany
		case len(events) >= someRows:
			n, stmt = someRows, s.stmts.insertSome
		}
		args = args[:0]
		for i := range n {
			args = eventArgs(args, &events[i])
		}
		if _, err := tx.StmtContext(ctx, stmt).ExecContext(ctx, args...); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

func eventArgs(args []any, e *store.Inserted) []any {
	var key any
	if e.Key != "" {
		key = e.Key
	}
	return append(args, e.BuildID, e.ID, e.Type, string(e.Data), key, e.Progress, e.Timestamp.Std().UnixMilli())
}

func finishedAt(s *buildcast.Status) any {
	if s.FinishedAt == nil {
		return nil
	}
	return s.FinishedAt.Std().UnixMilli()
}

// scanEvent reads id, event_type, event_data, progress, created_at.
func scanEvent(row interface{ Scan(...any) error }, e *buildcast.Event) error {
	var data string
	var at int64
	if err := row.Scan(&e.ID, &e.Type, &data, &e.Progress, &at); err != nil {
		return err
	}
	e.Data, e.Timestamp = json.RawMessage(data), msTime(at)
	return nil
}

func msTime(ms int64) buildcast.Time { return buildcast.TimeOf(time.UnixMilli(ms)) }
