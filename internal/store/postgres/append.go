package postgres

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

const (
	// The rows are locked in id order, so that two processes cannot wait for each other.
	lockSQL = `SELECT id, status, lease_generation FROM builds WHERE id = ANY($1) ORDER BY id FOR UPDATE`

	createSQL = `
		INSERT INTO builds (id, status, created_at, updated_at)
		SELECT b.id, b.status::jsonb, $3, $3 FROM unnest($1::text[], $2::text[]) AS b (id, status) ORDER BY b.id
		ON CONFLICT (id) DO NOTHING`

	keyedSQL = `
		SELECT e.build_id, e.key, e.id, e.event_type, e.event_data, e.progress, e.created_at
		FROM unnest($1::text[], $2::text[]) AS k (build_id, key)
		JOIN project_build_events e ON e.build_id = k.build_id AND e.key = k.key`

	insertSQL = `
		INSERT INTO project_build_events (build_id, id, event_type, event_data, key, progress, created_at)
		SELECT e.build_id, e.id, e.event_type, e.event_data::jsonb, e.key, e.progress, e.created_at
		FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::timestamptz[])
			AS e (build_id, id, event_type, event_data, key, progress, created_at)`

	updateSQL = `
		UPDATE builds SET last_event_id = b.last_event_id, status = b.status::jsonb, updated_at = $5, finished_at = b.finished_at
		FROM unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[]) AS b (id, last_event_id, status, finished_at)
		WHERE builds.id = b.id`

	cursorsSQL = `
		WITH b AS (SELECT * FROM unnest($2::text[], $3::text[], $4::bigint[]) AS b (id, project, first))` + makeCursors

	attempts = 4 // of a transaction that loses against others
)

// AppendEvents implements store.Events.
func (s *Store) AppendEvents(ctx context.Context, appends []store.Append) ([]store.Appended, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	appended := make([]store.Appended, len(appends))
	left, err := s.appendKnown(ctx, appends, appended)
	if err != nil || len(left) == 0 {
		return appended, unavailable(err)
	}
	rest := make([]store.Append, len(left))
	for j, i := range left {
		rest[j] = appends[i]
	}
	answers, err := s.appendLocked(ctx, rest)
	if err != nil && len(left) == len(appends) {
		return nil, unavailable(err)
	}
	for j, i := range left {
		if err != nil { // the others are stored and must hear of it
			appended[i].Err = unavailable(err)
		} else {
			appended[i] = answers[j]
		}
	}
	return appended, nil
}

// appendLocked appends in a transaction that locks the rows first.
func (s *Store) appendLocked(ctx context.Context, appends []store.Append) ([]store.Appended, error) {
	for n := 1; ; n++ {
		appended, err := s.appendOnce(ctx, appends)
		if err == nil || n == attempts || !again(err) {
			return appended, err
		}
	}
}

func (s *Store) appendOnce(ctx context.Context, appends []store.Append) ([]store.Appended, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	// A connection whose transaction is still open is closed by the pool, which ends it.
	defer conn.Release()
	now := buildcast.Now()
	rows, keyed, err := lock(ctx, conn.Conn(), appends, now)
	if err != nil {
		return nil, err
	}
	a := store.Assign(appends, rows, keyed, now)
	var b pgx.Batch
	if len(a.Insert) > 0 {
		b.Queue(insertSQL, insertArgs(a.Insert)...)
		args, err := updateArgs(a.Update, now)
		if err != nil {
			return nil, err
		}
		b.Queue(updateSQL, args...)
		b.Queue(cursorsSQL, cursorArgs(&a, rows, now)...)
	}
	b.Queue(`COMMIT`)
	if err := conn.SendBatch(ctx, &b).Close(); err != nil {
		return nil, err
	}
	s.known.put(rows)
	return a.Appended, nil
}

// lock begins the transaction, locks the builds' rows and reads what is stored
// under the keys, in one round trip where all builds exist.
//
// Where one is missing it lets go of the others and begins again with creating
// them: to create while holding locks would be to lock out of order, and each
// deadlock of two first appends costs a second. All are asked for in id order, so
// that creators wait for each other in that order too.
func lock(ctx context.Context, conn *pgx.Conn, appends []store.Append, now buildcast.Time) (map[string]*store.Row, map[store.EventKey]buildcast.Event, error) {
	all := buildIDs(appends)
	keyIDs, keys := eventKeys(appends)
	var b pgx.Batch
	b.Queue(`BEGIN`)
	for {
		rows := make(map[string]*store.Row, len(all))
		keyed := make(map[store.EventKey]buildcast.Event)
		b.Queue(lockSQL, all).Query(collectRows(rows))
		if len(keys) > 0 {
			b.Queue(keyedSQL, keyIDs, keys).Query(func(found pgx.Rows) error { return collectKeyed(found, keyed) })
		}
		if err := conn.SendBatch(ctx, &b).Close(); err != nil {
			return nil, nil, err
		}
		// Another process may delete a build as soon as it has been created, hence the loop.
		if !missing(appends, rows) {
			return rows, keyed, nil
		}
		create := creatable(appends)
		statuses := make([]string, len(create))
		for i, id := range create {
			text, err := json.Marshal(buildcast.NewStatus(id, "", now))
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

// missing reports whether a build has yet to be created. A fenced append makes
// none: whoever still runs a build that has been deleted must not bring it back.
func missing(appends []store.Append, rows map[string]*store.Row) bool {
	return slices.ContainsFunc(appends, func(a store.Append) bool { return a.Generation == 0 && rows[a.BuildID] == nil })
}

// creatable are the builds that may be created, in id order.
func creatable(appends []store.Append) []string {
	return buildIDs(slices.DeleteFunc(slices.Clone(appends), func(a store.Append) bool { return a.Generation != 0 }))
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

func collectRows(rows map[string]*store.Row) func(pgx.Rows) error {
	return func(found pgx.Rows) error {
		for found.Next() {
			var id string
			var status []byte
			row := &store.Row{}
			if err := found.Scan(&id, &status, &row.Generation); err != nil {
				return err
			}
			if err := json.Unmarshal(status, &row.Status); err != nil {
				return err
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
		var data []byte
		var at time.Time
		if err := found.Scan(&e.BuildID, &key, &e.ID, &e.Type, &data, &e.Progress, &at); err != nil {
			return err
		}
		e.Data, e.Timestamp = data, buildcast.TimeOf(at)
		keyed[store.EventKey{BuildID: e.BuildID, Key: key}] = e
	}
	return found.Err()
}

// insertArgs turns rows into the columns that unnest takes.
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
		text, err := json.Marshal(st)
		if err != nil {
			return nil, err
		}
		ids[i], last[i], texts[i] = st.BuildID, st.LastEventID, string(text)
		finished[i] = stdTime(st.FinishedAt)
	}
	return []any{ids, last, texts, finished, now.Std()}, nil
}

// cursorArgs are the builds that grow, with the first ids that are new.
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
