package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// Bounds of one query of a read, in rows. Rows beyond the read's byte bound are
// thrown away, so a query asks for about as many rows as will fit.
// The first one does not know the rows' size yet, so a read of few bytes begins with
// few rows.
const (
	firstRows     = 64
	firstRowBytes = 8 << 10
	mostRows      = 1000
)

// readSQL bounds the ids too, which have no gaps: with a LIMIT alone, a plan may
// collect the rest of the log and sort it first.
const readSQL = `
	SELECT id, event_type, event_data, progress, created_at FROM project_build_events
	WHERE build_id = $1
		AND id > greatest($2, (SELECT first_event_id - 1 FROM builds WHERE id = $1))
		AND id <= greatest($2, (SELECT first_event_id - 1 FROM builds WHERE id = $1)) + $3::bigint
	ORDER BY id LIMIT $3`

// ReadEvents implements store.Reader. It keeps one row beyond maxBytes at most.
func (s *Store) ReadEvents(ctx context.Context, buildID string, after int64, limit, maxBytes int) ([]buildcast.Event, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var events []buildcast.Event
	size, want := 0, min(firstRows, 1+maxBytes/firstRowBytes)
	for len(events) < limit && (len(events) == 0 || size < maxBytes) {
		want = min(want, limit-len(events))
		rows, err := s.pool.Query(ctx, readSQL, buildID, after, want)
		if err != nil {
			return nil, unavailable(ctx, err)
		}
		n := 0
		for (len(events) == 0 || size < maxBytes) && rows.Next() {
			e := buildcast.Event{BuildID: buildID}
			var data []byte
			var at time.Time
			if err := rows.Scan(&e.ID, &e.Type, &data, &e.Progress, &at); err != nil {
				rows.Close()
				return nil, unavailable(ctx, err)
			}
			if len(events) > 0 && e.ID != after+1 { // the log was cut between two queries
				break
			}
			e.Data, e.Timestamp = data, buildcast.TimeOf(at)
			events, after = append(events, e), e.ID
			size += len(data)
			n++
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return nil, unavailable(ctx, err)
		}
		if n < want {
			break
		}
		want = min(mostRows, 1+(maxBytes-size)/max(1, size/len(events)))
	}
	return events, nil
}

// Statuses implements store.Reader.
func (s *Store) Statuses(ctx context.Context, buildIDs []string) (map[string]buildcast.Status, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, `SELECT status FROM builds WHERE id = ANY($1) AND deleted_at IS NULL`, buildIDs)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	statuses := make(map[string]buildcast.Status, len(buildIDs))
	var text []byte
	_, err = pgx.ForEachRow(rows, []any{&text}, func() error {
		st, err := store.DecodeStatus(text)
		statuses[st.BuildID] = st
		return err
	})
	return statuses, unavailable(ctx, err)
}

// Bounds implements store.Reader.
func (s *Store) Bounds(ctx context.Context, buildIDs []string) (map[string]store.Bounds, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, `SELECT id, first_event_id, last_event_id FROM builds WHERE id = ANY($1)`, buildIDs)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	bounds := make(map[string]store.Bounds, len(buildIDs))
	var id string
	var b store.Bounds
	_, err = pgx.ForEachRow(rows, []any{&id, &b.First, &b.Last}, func() error {
		bounds[id] = b
		return nil
	})
	return bounds, unavailable(ctx, err)
}
