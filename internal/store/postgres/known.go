package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// The statement that appends to builds whose rows are known from the append
// before: one round trip. It returns the builds that it appended to, and skips
// those whose row has changed meanwhile:
//   - last_event_id: another process has appended
//   - first_event_id: the log was cut
//   - lease_generation: the lease has moved on, or the build was deleted
//
// makeCursors costs a tenth of an append even if it makes no cursor. So a database
// without enabled endpoints has a statement without it. If another process has just
// created an endpoint, that statement skips all builds; this process learns of the
// endpoint within seconds (Store.following).
const (
	knownUpdate = `b AS (
		UPDATE builds SET last_event_id = n.last_event_id, status = n.status::jsonb, updated_at = $1, finished_at = n.finished_at
		FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::bigint[], $7::text[], $8::timestamptz[], $16::bigint[])
			AS n (id, expected, generation, created_at, last_event_id, status, finished_at, first_event_id)
		WHERE builds.id = n.id AND builds.last_event_id = n.expected AND builds.first_event_id = n.first_event_id
			AND builds.lease_generation = n.generation AND builds.created_at = n.created_at`

	knownInsert = ` RETURNING builds.id, builds.project, n.expected + 1 AS first),
	e AS (
		INSERT INTO project_build_events (build_id, id, event_type, event_data, key, progress, created_at)
		SELECT b.id, e.id, e.event_type, e.event_data::json, e.key, e.progress, e.created_at
		FROM unnest($9::text[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::smallint[], $15::timestamptz[])
			AS e (build_id, id, event_type, event_data, key, progress, created_at)
		JOIN b ON b.id = e.build_id)`

	// knownLocks locks several rows in id order first. An UPDATE alone locks them in
	// any order: two processes that append to the same builds would deadlock, which
	// costs a second each time.
	knownLocks = `l AS MATERIALIZED (SELECT id FROM builds WHERE id = ANY($2::text[]) ORDER BY id FOR UPDATE), `
	andLocked  = ` AND n.id IN (SELECT id FROM l)`

	andNobodyFollows = ` AND NOT EXISTS (SELECT FROM webhook_endpoints WHERE enabled)`
	knownCursors     = `, c AS (` + makeCursors + `)`
	knownAnswer      = ` SELECT id FROM b`
)

// knownSQL returns the statement for one build or several, with or without endpoints.
func knownSQL(several, following bool) string {
	switch {
	case several && following:
		return `WITH ` + knownLocks + knownUpdate + andLocked + knownInsert + knownCursors + knownAnswer
	case several:
		return `WITH ` + knownLocks + knownUpdate + andLocked + andNobodyFollows + knownInsert + knownAnswer
	case following:
		return `WITH ` + knownUpdate + knownInsert + knownCursors + knownAnswer
	}
	return `WITH ` + knownUpdate + andNobodyFollows + knownInsert + knownAnswer
}

const (
	// maxKnown bounds how many builds' rows are remembered, about 1 KB each.
	maxKnown = 4096

	// sharedFor is how long appends to a build lock its row first after another process
	// has appended to it: a wrong guess costs a round trip.
	sharedFor = 10 * time.Second
)

// knownRows are rows as this process has written them. They may be out of date: the
// statement checks that.
type knownRows struct {
	mu   sync.Mutex
	rows map[string]knownRow
}

type knownRow struct {
	store.Row
	sharedUntil time.Time // the row is not used before; zero: it may be used
}

// take removes the known rows of the builds and returns them: put adds them again
// after the commit.
func (k *knownRows) take(appends []store.Append) map[string]*store.Row {
	k.mu.Lock()
	defer k.mu.Unlock()
	rows := make(map[string]*store.Row, len(appends))
	for i := range appends {
		id := appends[i].BuildID
		known, ok := k.rows[id]
		if ok && known.sharedUntil.IsZero() {
			rows[id] = &known.Row
			delete(k.rows, id)
		}
	}
	return rows
}

// put adds rows that have just been read or written.
func (k *knownRows) put(rows map[string]*store.Row) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rows == nil {
		k.rows = make(map[string]knownRow)
	}
	now := time.Now()
	for id, row := range rows {
		known := k.rows[id]
		if known.Row = *row; known.sharedUntil.Before(now) {
			known.sharedUntil = time.Time{}
		}
		k.rows[id] = known
	}
	k.trim()
}

func (k *knownRows) trim() {
	for id := range k.rows {
		if len(k.rows) <= maxKnown {
			break
		}
		delete(k.rows, id) // any one
	}
}

// shared notes that another process appends to the build.
func (k *knownRows) shared(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rows == nil {
		k.rows = make(map[string]knownRow)
	}
	k.rows[id] = knownRow{sharedUntil: time.Now().Add(sharedFor)}
	k.trim()
}

// appendKnown stores the appends to builds whose rows are known, and sets their
// answers in appended. left has the indexes of the other appends, of which nothing has
// been stored.
func (s *Store) appendKnown(ctx context.Context, appends []store.Append, appended []store.Appended) (left []int, err error) {
	rows := s.known.take(appends)
	var known []store.Append
	var at []int
	for i := range appends {
		if rows[appends[i].BuildID] != nil {
			known, at = append(known, appends[i]), append(at, i)
		} else {
			left = append(left, i)
		}
	}
	if len(known) == 0 {
		return left, nil
	}
	now := buildcast.Now()
	n := newGuesses(rows)
	a := store.Assign(known, rows, map[store.EventKey]buildcast.Event{}, now)
	args, err := n.args(a, rows, now)
	if err != nil {
		return nil, err
	}
	written, conflict, err := s.writeKnown(ctx, knownSQL(len(a.Update) > 1, s.following.Load()), args, rows)
	if err != nil {
		return nil, err
	}
	s.known.put(written)
	for i := range a.Update {
		if id := a.Update[i].BuildID; written[id] == nil && !conflict { // skipped: the row has changed
			s.known.shared(id)
		}
	}
	for j, i := range at {
		if written[known[j].BuildID] != nil && a.Appended[j].Err == nil {
			appended[i] = a.Appended[j]
		} else {
			left = append(left, i)
		}
	}
	return left, nil
}

// writeKnown runs the statement and returns the rows that it has written. After a
// conflict, such as a key that is stored already, it has written none.
func (s *Store) writeKnown(ctx context.Context, query string, args []any, rows map[string]*store.Row) (written map[string]*store.Row, conflict bool, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, false, unavailable(ctx, err)
	}
	defer conn.Release()
	written = map[string]*store.Row{}
	found, err := conn.Query(ctx, query, args...)
	if err == nil {
		var id string
		_, err = pgx.ForEachRow(found, []any{&id}, func() error {
			written[id] = rows[id]
			return nil
		})
	}
	switch {
	case err == nil:
		return written, false, nil
	case again(err):
		return nil, true, nil
	}
	return nil, false, uncommitted(ctx, err)
}

// guesses hold what the statement expects of the rows.
type guesses struct {
	expected, generation map[string]int64
}

func newGuesses(rows map[string]*store.Row) guesses {
	g := guesses{make(map[string]int64, len(rows)), make(map[string]int64, len(rows))}
	for id, row := range rows {
		g.expected[id], g.generation[id] = row.Status.LastEventID, row.Generation
	}
	return g
}

// args returns the arguments of the statement.
func (g guesses) args(a store.Assigned, rows map[string]*store.Row, now buildcast.Time) ([]any, error) {
	n := len(a.Update)
	ids, texts := make([]string, n), make([]string, n)
	expected, generation, first, last := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	created, finished := make([]time.Time, n), make([]*time.Time, n)
	for i := range a.Update {
		st := &a.Update[i]
		text, err := store.Encode(st)
		if err != nil {
			return nil, err
		}
		ids[i], texts[i], first[i], last[i] = st.BuildID, string(text), st.FirstEventID, st.LastEventID
		expected[i], generation[i] = g.expected[st.BuildID], g.generation[st.BuildID]
		created[i], finished[i] = st.CreatedAt.Std(), stdTime(st.FinishedAt)
	}
	args := append([]any{now.Std(), ids, expected, generation, created, last, texts, finished}, insertArgs(a.Insert)...)
	return append(args, first), nil
}
