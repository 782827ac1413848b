package sqlite

import (
	"context"
	"database/sql"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// ReadEvents implements store.Reader.
func (s *Store) ReadEvents(ctx context.Context, buildID string, after int64, limit, maxBytes int) ([]buildcast.Event, error) {
	rows, err := s.read.QueryContext(ctx, `
		SELECT id, event_type, event_data, progress, created_at FROM project_build_events
		WHERE build_id = ?1 AND id > max(?2, (SELECT first_event_id - 1 FROM builds WHERE id = ?1)) ORDER BY id LIMIT ?3`, buildID, after, limit)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	defer rows.Close()
	var events []buildcast.Event
	size := 0
	for (len(events) == 0 || size < maxBytes) && rows.Next() {
		e := buildcast.Event{BuildID: buildID}
		if err := scanEvent(rows, &e); err != nil {
			return nil, unavailable(ctx, err)
		}
		size += len(e.Data)
		events = append(events, e)
	}
	return events, unavailable(ctx, rows.Err())
}

// Statuses implements store.Reader.
func (s *Store) Statuses(ctx context.Context, buildIDs []string) (map[string]buildcast.Status, error) {
	statuses := make(map[string]buildcast.Status, len(buildIDs))
	err := s.eachOf(ctx, `SELECT id, status FROM builds WHERE id IN (SELECT value FROM json_each(?)) AND deleted_at IS NULL`, buildIDs, func(rows *sql.Rows) (err error) {
		var id, text string
		if err := rows.Scan(&id, &text); err != nil {
			return err
		}
		statuses[id], err = store.DecodeStatus([]byte(text))
		return err
	})
	return statuses, err
}

// Bounds implements store.Reader.
func (s *Store) Bounds(ctx context.Context, buildIDs []string) (map[string]store.Bounds, error) {
	bounds := make(map[string]store.Bounds, len(buildIDs))
	err := s.eachOf(ctx, `SELECT id, first_event_id, last_event_id FROM builds WHERE id IN (SELECT value FROM json_each(?))`, buildIDs, func(rows *sql.Rows) error {
		var id string
		var b store.Bounds
		err := rows.Scan(&id, &b.First, &b.Last)
		bounds[id] = b
		return err
	})
	return bounds, err
}

// eachOf runs the query for the builds and calls scan for each row.
func (s *Store) eachOf(ctx context.Context, query string, buildIDs []string, scan func(*sql.Rows) error) error {
	ids, err := store.Encode(buildIDs)
	if err != nil {
		return err
	}
	rows, err := s.read.QueryContext(ctx, query, string(ids))
	if err != nil {
		return unavailable(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return unavailable(ctx, err)
		}
	}
	return unavailable(ctx, rows.Err())
}
