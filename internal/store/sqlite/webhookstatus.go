package sqlite

import (
	"context"
	"database/sql"
	"os"
	"time"

	"github.com/buildcast/buildcast/internal/store"
)

// SaveCounts implements store.Counting.
func (s *Store) SaveCounts(ctx context.Context, counts []store.Counts) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		for _, c := range counts {
			if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO webhook_counts (endpoint_id, bucket, run, numbers) VALUES (?, ?, ?, ?)`,
				c.EndpointID, c.Bucket.UnixMilli(), c.Run, string(c.Numbers)); err != nil {
				return err
			}
		}
		return nil
	})
}

// ReadCounts implements store.Counting.
func (s *Store) ReadCounts(ctx context.Context, since time.Time) ([]store.Counts, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT endpoint_id, bucket, run, numbers FROM webhook_counts WHERE bucket >= ? ORDER BY bucket`, since.UnixMilli())
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	defer rows.Close()
	var all []store.Counts
	for rows.Next() {
		var c store.Counts
		var bucket int64
		var numbers string
		if err := rows.Scan(&c.EndpointID, &bucket, &c.Run, &numbers); err != nil {
			return nil, unavailable(ctx, err)
		}
		c.Bucket, c.Numbers = time.UnixMilli(bucket).UTC(), []byte(numbers)
		all = append(all, c)
	}
	return all, unavailable(ctx, rows.Err())
}

// Waiting implements store.Backlogs.
func (s *Store) Waiting(ctx context.Context) (map[string]store.Waiting, error) {
	rows, err := s.read.QueryContext(ctx, `
		SELECT endpoint_id, sum(cursors), sum(events), sum(retrying), sum(dead) FROM (
			SELECT endpoint_id, 1 AS cursors, b.last_event_id - max(c.next_event_id, b.first_event_id) + 1 AS events, 0 AS retrying, 0 AS dead
			FROM webhook_cursors c JOIN builds b ON b.id = c.build_id WHERE c.next_event_id <= b.last_event_id
			UNION ALL
			SELECT endpoint_id, 0, 0, state = 'retrying', state = 'dead' FROM worker_webhook_failures WHERE state <> 'delivered')
		GROUP BY endpoint_id`)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	defer rows.Close()
	waiting := map[string]store.Waiting{}
	for rows.Next() {
		var id string
		var w store.Waiting
		if err := rows.Scan(&id, &w.Cursors, &w.Events, &w.Retrying, &w.Dead); err != nil {
			return nil, unavailable(ctx, err)
		}
		waiting[id] = w
	}
	return waiting, unavailable(ctx, rows.Err())
}

// Size implements store.Backlogs: the database and its write-ahead log.
func (s *Store) Size(context.Context) (int64, error) {
	var size int64
	for _, name := range []string{s.path, s.path + "-wal"} {
		if info, err := os.Stat(name); err == nil {
			size += info.Size()
		}
	}
	return size, nil
}
