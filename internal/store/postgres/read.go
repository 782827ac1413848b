package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast"
)

// readChunk is how many events one query of a long read asks for, so that
// maxBytes bounds what is fetched.
const readChunk = 500

// ReadEvents implements store.Events.
func (s *Store) ReadEvents(ctx context.Context, buildID string, after int64, limit, maxBytes int) ([]buildcast.Event, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var events []buildcast.Event
	size := 0
	for len(events) < limit && (len(events) == 0 || size < maxBytes) {
		want := min(limit-len(events), readChunk)
		rows, err := s.pool.Query(ctx, `
			SELECT id, event_type, event_data, progress, created_at FROM project_build_events
			WHERE build_id = $1 AND id > $2 ORDER BY id LIMIT $3`, buildID, after, want)
		if err != nil {
			return nil, unavailable(err)
		}
		found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (buildcast.Event, error) {
			e := buildcast.Event{BuildID: buildID}
			var data []byte
			var at time.Time
			err := row.Scan(&e.ID, &e.Type, &data, &e.Progress, &at)
			e.Data, e.Timestamp = data, buildcast.TimeOf(at)
			return e, err
		})
		if err != nil {
			return nil, unavailable(err)
		}
		for i := range found {
			if len(events) > 0 && size >= maxBytes {
				break
			}
			size += len(found[i].Data)
			events = append(events, found[i])
		}
		if len(found) < want {
			break
		}
		after = found[len(found)-1].ID
	}
	return events, nil
}

// Statuses implements store.Events.
func (s *Store) Statuses(ctx context.Context, buildIDs []string) (map[string]buildcast.Status, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, `SELECT status FROM builds WHERE id = ANY($1)`, buildIDs)
	if err != nil {
		return nil, unavailable(err)
	}
	statuses := make(map[string]buildcast.Status, len(buildIDs))
	var text []byte
	_, err = pgx.ForEachRow(rows, []any{&text}, func() error {
		var st buildcast.Status
		if err := json.Unmarshal(text, &st); err != nil {
			return err
		}
		statuses[st.BuildID] = st
		return nil
	})
	return statuses, unavailable(err)
}

// LastEventIDs implements store.Events.
func (s *Store) LastEventIDs(ctx context.Context, buildIDs []string) (map[string]int64, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, `SELECT id, last_event_id FROM builds WHERE id = ANY($1)`, buildIDs)
	if err != nil {
		return nil, unavailable(err)
	}
	last := make(map[string]int64, len(buildIDs))
	var id string
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error {
		last[id] = n
		return nil
	})
	return last, unavailable(err)
}
