package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast/internal/store"
)

// SaveCounts implements store.Counting.
func (s *Store) SaveCounts(ctx context.Context, counts []store.Counts) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	n := len(counts)
	ids, runs, numbers, buckets := make([]string, n), make([]string, n), make([]string, n), make([]time.Time, n)
	for i, c := range counts {
		ids[i], runs[i], numbers[i], buckets[i] = c.EndpointID, c.Run, string(c.Numbers), c.Bucket
	}
	_, err := s.exec(ctx, `
		INSERT INTO webhook_counts (endpoint_id, bucket, run, numbers)
		SELECT c.endpoint_id, c.bucket, c.run, c.numbers::jsonb
		FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[]) AS c (endpoint_id, bucket, run, numbers)
		ON CONFLICT (bucket, endpoint_id, run) DO UPDATE SET numbers = excluded.numbers`, ids, buckets, runs, numbers)
	return unavailable(ctx, err)
}

// ReadCounts implements store.Counting.
func (s *Store) ReadCounts(ctx context.Context, since time.Time) ([]store.Counts, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, `SELECT endpoint_id, bucket, run, numbers FROM webhook_counts WHERE bucket >= $1 ORDER BY bucket`, since)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c store.Counts, err error) {
		err = row.Scan(&c.EndpointID, &c.Bucket, &c.Run, &c.Numbers)
		c.Bucket = c.Bucket.UTC()
		return c, err
	})
	return all, unavailable(ctx, err)
}

// Waiting implements store.Backlogs.
func (s *Store) Waiting(ctx context.Context) (map[string]store.Waiting, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, `
		SELECT endpoint_id, sum(cursors)::bigint, sum(events)::bigint, sum(retrying)::bigint, sum(dead)::bigint FROM (
			SELECT endpoint_id, 1 AS cursors, b.last_event_id - greatest(c.next_event_id, b.first_event_id) + 1 AS events, 0 AS retrying, 0 AS dead
			FROM webhook_cursors c JOIN builds b ON b.id = c.build_id WHERE c.next_event_id <= b.last_event_id
			UNION ALL
			SELECT endpoint_id, 0, 0, (state = 'retrying')::int, (state = 'dead')::int FROM worker_webhook_failures WHERE state <> 'delivered') AS all_of_it
		GROUP BY endpoint_id`)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	waiting := map[string]store.Waiting{}
	var id string
	var w store.Waiting
	_, err = pgx.ForEachRow(rows, []any{&id, &w.Cursors, &w.Events, &w.Retrying, &w.Dead}, func() error {
		waiting[id] = w
		return nil
	})
	return waiting, unavailable(ctx, err)
}

// Size implements store.Backlogs.
func (s *Store) Size(ctx context.Context) (size int64, err error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	err = s.pool.QueryRow(ctx, `SELECT pg_database_size(current_database())`).Scan(&size)
	return size, unavailable(ctx, err)
}
