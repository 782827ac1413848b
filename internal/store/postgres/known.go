package postgres

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// knownSQL appends to one build whose row is known from the append before, in
// one statement and so in one round trip. It does nothing where the row has
// changed meanwhile (last_event_id), the lease has moved on (lease_generation)
// or the build was deleted and made again (created_at).
const knownSQL = `
	WITH b AS (
		UPDATE builds SET last_event_id = $2, status = $3::text::jsonb, updated_at = $4, finished_at = $5
		WHERE id = $1 AND last_event_id = $6 AND lease_generation = $7 AND created_at = $8
		RETURNING id)
	INSERT INTO project_build_events (build_id, id, event_type, event_data, key, progress, created_at)
	SELECT b.id, e.id, e.event_type, e.event_data::jsonb, e.key, e.progress, e.created_at
	FROM b, unnest($9::bigint[], $10::text[], $11::text[], $12::text[], $13::smallint[], $14::timestamptz[])
		AS e (id, event_type, event_data, key, progress, created_at)`

// maxKnown bounds how many builds' rows are remembered, about 1 KB each.
const maxKnown = 2048

// knownRows are rows as this process left them. They may be out of date: that is
// found out by the database, in knownSQL.
type knownRows struct {
	mu   sync.Mutex
	rows map[string]store.Row
}

func (k *knownRows) get(id string) (store.Row, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	row, ok := k.rows[id]
	return row, ok
}

func (k *knownRows) put(id string, row store.Row) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rows == nil {
		k.rows = make(map[string]store.Row)
	}
	for other := range k.rows {
		if len(k.rows) < maxKnown {
			break
		}
		delete(k.rows, other) // any one
	}
	k.rows[id] = row
}

func (k *knownRows) forget(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.rows, id)
}

// appendKnown is the append of one round trip. ok is false where it does not
// apply, and then nothing has been stored: an append to several builds, to one
// that is not known or has changed, a key that is stored already. A wrong guess
// costs the round trip that the right ones save.
func (s *Store) appendKnown(ctx context.Context, appends []store.Append) (appended []store.Appended, ok bool, err error) {
	id := appends[0].BuildID
	for _, a := range appends {
		if a.BuildID != id {
			return nil, false, nil
		}
	}
	row, ok := s.known.get(id)
	if !ok {
		return nil, false, nil
	}
	before, now := row, buildcast.Now()
	a := store.Assign(appends, map[string]*store.Row{id: &row}, map[store.EventKey]buildcast.Event{}, now)
	if len(a.Insert) == 0 || a.Appended[0].Err != nil {
		return nil, false, nil
	}
	status, err := json.Marshal(row.Status)
	if err != nil {
		return nil, false, err
	}
	args := append([]any{
		id, row.Status.LastEventID, string(status), now.Std(), stdTime(row.Status.FinishedAt),
		before.Status.LastEventID, before.Generation, before.Status.CreatedAt.Std(),
	}, insertArgs(a.Insert)[1:]...)
	s.known.forget(id) // until it is certain what the row holds
	tag, err := s.pool.Exec(ctx, knownSQL, args...)
	switch {
	case err != nil && again(err):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	case tag.RowsAffected() == 0:
		return nil, false, nil
	}
	s.known.put(id, row)
	return a.Appended, true, nil
}
