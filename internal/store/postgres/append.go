package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

const (
	// lockSQL locks the rows in id order, so that two processes cannot deadlock.
	lockSQL = `SELECT id, status, lease_generation, deleted_at IS NOT NULL FROM builds WHERE id = ANY($1) ORDER BY id FOR UPDATE`

	createSQL = `
		INSERT INTO builds (id, status, created_at, updated_at)
		SELECT b.id, b.status::jsonb, $3, $3 FROM unnest($1::text[], $2::text[]) AS b (id, status) ORDER BY b.id
		ON CONFLICT (id) DO NOTHING`

	keyedSQL = `
		SELECT e.build_id, e.key, e.id, e.event_type, e.progress, e.created_at
		FROM unnest($1::text[], $2::text[]) AS k (build_id, key)
		JOIN project_build_events e ON e.build_id = k.build_id AND e.key = k.key`

	// reviveSQL turns tombstones into external builds. The columns that it does not set
	// were cleared by the deletion.
	reviveSQL = `
		UPDATE builds SET status = b.status::jsonb, created_at = $3, updated_at = $3, finished_at = NULL, deleted_at = NULL
		FROM unnest($1::text[], $2::text[]) AS b (id, status) WHERE builds.id = b.id`

	forgetSQL = `
		DELETE FROM project_build_events e USING unnest($1::text[], $2::bigint[]) AS f (build_id, id)
		WHERE e.build_id = f.build_id AND e.id = f.id`

	insertSQL = `
		INSERT INTO project_build_events (build_id, id, event_type, event_data, key, progress, created_at)
		SELECT e.build_id, e.id, e.event_type, e.event_data::json, e.key, e.progress, e.created_at
		FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::timestamptz[])
			AS e (build_id, id, event_type, event_data, key, progress, created_at)`

	updateSQL = `
		UPDATE builds SET last_event_id = b.last_event_id, status = b.status::jsonb, updated_at = $5, finished_at = b.finished_at
		FROM unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[]) AS b (id, last_event_id, status, finished_at)
		WHERE builds.id = b.id`

	cursorsSQL = `
		WITH b AS (SELECT * FROM unnest($2::text[], $3::text[], $4::bigint[]) AS b (id, project, first))` + makeCursors

	attempts = 4 // of a transaction that conflicts with others
)

// AppendEvents implements store.Appender.
func (s *Store) AppendEvents(ctx context.Context, appends []store.Append) ([]store.Appended, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	appended := make([]store.Appended, len(appends))
	left, err := s.appendKnown(ctx, appends, appended)
	if err != nil || len(left) == 0 {
		return appended, err
	}
	rest := make([]store.Append, len(left))
	for j, i := range left {
		rest[j] = appends[i]
	}
	answers, err := s.appendLocked(ctx, rest)
	if err != nil && len(left) == len(appends) {
		return nil, err
	}
	for j, i := range left {
		if err != nil { // the other appends are stored, so the call returns their answers
			appended[i].Err = err
		} else {
			appended[i] = answers[j]
		}
	}
	return appended, nil
}

// appendLocked appends in a transaction that locks the rows first.
func (s *Store) appendLocked(ctx context.Context, appends []store.Append) ([]store.Appended, error) {
	for n := 1; ; n++ {
		appended, committing, err := s.appendOnce(ctx, appends)
		switch {
		case err == nil:
			return appended, nil
		case n < attempts && again(err):
		case committing:
			return nil, uncommitted(ctx, err)
		default:
			return nil, unavailable(ctx, err)
		}
	}
}

// appendOnce makes one attempt. committing reports whether the error is from the batch
// that ends with the commit.
func (s *Store) appendOnce(ctx context.Context, appends []store.Append) (appended []store.Appended, committing bool, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, false, err
	}
	// If the transaction is still open, the pool closes the connection, which ends it.
	defer conn.Release()
	now := buildcast.Now()
	rows, keyed, err := lock(ctx, conn.Conn(), appends, now)
	if err != nil {
		return nil, false, err
	}
	var b pgx.Batch
	if err := queueRevivals(&b, rows, now); err != nil {
		return nil, false, err
	}
	queueForgotten(&b, rows, keyed)
	a := store.Assign(appends, rows, keyed, now)
	if len(a.Insert) > 0 {
		b.Queue(insertSQL, insertArgs(a.Insert)...)
		args, err := updateArgs(a.Update, now)
		if err != nil {
			return nil, false, err
		}
		b.Queue(updateSQL, args...)
		b.Queue(cursorsSQL, cursorArgs(&a, rows, now)...)
	}
	b.Queue(`COMMIT`)
	if err := conn.SendBatch(ctx, &b).Close(); err != nil {
		return nil, true, err
	}
	s.known.put(rows)
	return a.Appended, false, nil
}

// queueRevivals queues the statement that turns tombstones into builds.
func queueRevivals(b *pgx.Batch, rows map[string]*store.Row, now buildcast.Time) error {
	var ids, statuses []string
	for id, row := range rows {
		if !row.Reborn {
			continue
		}
		text, err := store.Encode(row.Status)
		if err != nil {
			return err
		}
		row.Reborn = false // in the row that s.known keeps
		ids, statuses = append(ids, id), append(statuses, string(text))
	}
	if len(ids) > 0 {
		b.Queue(reviveSQL, ids, statuses, now.Std())
	}
	return nil
}

// queueForgotten removes from keyed the events that were cut off, because a key is
// remembered as long as its event is kept. It also queues the statement that deletes
// their rows, which the purge has not reached yet: new events may have the same keys.
func queueForgotten(b *pgx.Batch, rows map[string]*store.Row, keyed map[store.EventKey]buildcast.Event) {
	var ids []string
	var events []int64
	for key, e := range keyed {
		if row := rows[key.BuildID]; row != nil && e.ID < row.Status.FirstEventID {
			delete(keyed, key)
			ids, events = append(ids, e.BuildID), append(events, e.ID)
		}
	}
	if len(ids) > 0 {
		b.Queue(forgetSQL, ids, events)
	}
}

// lock begins the transaction, locks the builds' rows and reads the events that are
// stored under the keys, in one round trip if all builds have a row.
//
// If a row is missing, lock rolls back, creates the missing rows first, and then locks
// all of them. If it created rows while it held locks it would lock out of order, and
// two first appends could deadlock, which costs a second. Rows are created in id
// order, so that two creators do not deadlock either.
func lock(ctx context.Context, conn *pgx.Conn, appends []store.Append, now buildcast.Time) (map[string]*store.Row, map[store.EventKey]buildcast.Event, error) {
	all := buildIDs(appends)
	keyIDs, keys := eventKeys(appends)
	var b pgx.Batch
	b.Queue(`BEGIN`)
	for {
		rows := make(map[string]*store.Row, len(all))
		keyed := make(map[store.EventKey]buildcast.Event)
		b.Queue(lockSQL, all).Query(collectRows(rows, fencedOnly(appends), now))
		if len(keys) > 0 {
			b.Queue(keyedSQL, keyIDs, keys).Query(func(found pgx.Rows) error { return collectKeyed(found, keyed) })
		}
		if err := conn.SendBatch(ctx, &b).Close(); err != nil {
			return nil, nil, err
		}
		if !missing(appends, rows) {
			return rows, keyed, nil
		}
		create := creatable(appends)
		statuses := make([]string, len(create))
		for i, id := range create {
			text, err := store.Encode(buildcast.NewStatus(id, "", now))
			if err != nil {
				return nil, nil, err
			}
			statuses[i] = string(text)
		}
		b = pgx.Batch{}
		b.Queue(`ROLLBACK`)
		b.Queue(`BEGIN`)
		b.Queue(createSQL, create, statuses, now.Std())
	}
}

// missing reports whether a build must be created. Fenced appends create none.
func missing(appends []store.Append, rows map[string]*store.Row) bool {
	return slices.ContainsFunc(appends, func(a store.Append) bool { return a.Generation == 0 && rows[a.BuildID] == nil })
}

// creatable returns the builds that may be created, in id order.
func creatable(appends []store.Append) []string {
	return buildIDs(slices.DeleteFunc(slices.Clone(appends), func(a store.Append) bool { return a.Generation != 0 }))
}

// fencedOnly returns a function that reports whether all appends to a build are
// fenced: a process that still runs a deleted build must not bring it back.
func fencedOnly(appends []store.Append) func(id string) bool {
	return func(id string) bool {
		return !slices.ContainsFunc(appends, func(a store.Append) bool { return a.BuildID == id && a.Generation == 0 })
	}
}

func buildIDs(appends []store.Append) []string {
	ids := make([]string, len(appends))
	for i := range appends {
		ids[i] = appends[i].BuildID
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func eventKeys(appends []store.Append) (ids, keys []string) {
	for _, a := range appends {
		for _, e := range a.Events {
			if e.Key != "" {
				ids, keys = append(ids, a.BuildID), append(keys, e.Key)
			}
		}
	}
	return ids, keys
}

// collectRows collects builds' rows. It turns the row of a deleted build into that of
// a new one, or skips it if the build stays deleted.
func collectRows(rows map[string]*store.Row, staysDeleted func(id string) bool, now buildcast.Time) func(pgx.Rows) error {
	return func(found pgx.Rows) error {
		for found.Next() {
			var id string
			var status []byte
			var deleted bool
			row := &store.Row{}
			err := found.Scan(&id, &status, &row.Generation, &deleted)
			if err == nil {
				row.Status, err = store.DecodeStatus(status)
			}
			if err != nil {
				return err
			}
			if deleted {
				if staysDeleted(id) {
					continue
				}
				row.Status, row.Reborn = store.Reborn(id, "", row.Status.LastEventID, now), true
			}
			rows[id] = row
		}
		return found.Err()
	}
}

func collectKeyed(found pgx.Rows, keyed map[store.EventKey]buildcast.Event) error {
	for found.Next() {
		var key string
		var e buildcast.Event
		var at time.Time
		if err := found.Scan(&e.BuildID, &key, &e.ID, &e.Type, &e.Progress, &at); err != nil {
			return err
		}
		e.Timestamp = buildcast.TimeOf(at)
		keyed[store.EventKey{BuildID: e.BuildID, Key: key}] = e
	}
	return found.Err()
}

// insertArgs turns events into the columns that unnest takes.
func insertArgs(events []store.Inserted) []any {
	n := len(events)
	builds, types, data := make([]string, n), make([]string, n), make([]string, n)
	ids, progress, at := make([]int64, n), make([]int16, n), make([]time.Time, n)
	keys := make([]*string, n)
	for i := range events {
		e := &events[i]
		builds[i], ids[i], types[i], data[i] = e.BuildID, e.ID, e.Type, string(e.Data)
		progress[i], at[i] = int16(e.Progress), e.Timestamp.Std()
		if e.Key != "" {
			keys[i] = &e.Key
		}
	}
	return []any{builds, ids, types, data, keys, progress, at}
}

func updateArgs(statuses []buildcast.Status, now buildcast.Time) ([]any, error) {
	n := len(statuses)
	ids, texts := make([]string, n), make([]string, n)
	last, finished := make([]int64, n), make([]*time.Time, n)
	for i := range statuses {
		st := &statuses[i]
		text, err := store.Encode(st)
		if err != nil {
			return nil, err
		}
		ids[i], last[i], texts[i] = st.BuildID, st.LastEventID, string(text)
		finished[i] = stdTime(st.FinishedAt)
	}
	return []any{ids, last, texts, finished, now.Std()}, nil
}

// cursorArgs returns the arguments of cursorsSQL: the builds whose logs grow, each
// with the id of its first new event.
func cursorArgs(a *store.Assigned, rows map[string]*store.Row, now buildcast.Time) []any {
	var ids, projects []string
	var first []int64
	begun := map[string]bool{}
	for i := range a.Insert {
		if e := &a.Insert[i]; !begun[e.BuildID] {
			begun[e.BuildID] = true
			ids, projects, first = append(ids, e.BuildID), append(projects, rows[e.BuildID].Status.Project), append(first, e.ID)
		}
	}
	return []any{now.Std(), ids, projects, first}
}

func stdTime(t *buildcast.Time) *time.Time {
	if t == nil {
		return nil
	}
	at := t.Std()
	return &at
}
