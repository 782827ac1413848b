package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

const deliveryColumns = `endpoint_id, build_id, event_id, event_type, state, tries, attempts, retry_at, created_at, updated_at`

func scanDelivery(row pgx.CollectableRow) (d buildcast.Delivery, err error) {
	var attempts []byte
	var retry *time.Time
	var created, updated time.Time
	if err := row.Scan(&d.EndpointID, &d.BuildID, &d.EventID, &d.EventType, &d.State, &d.Tries, &attempts, &retry, &created, &updated); err != nil {
		return d, err
	}
	d.CreatedAt, d.UpdatedAt = buildcast.TimeOf(created), buildcast.TimeOf(updated)
	if retry != nil {
		at := buildcast.TimeOf(*retry)
		d.RetryAt = &at
	}
	return d, store.Decode(attempts, &d.Attempts)
}

// failures holds the columns of the failed deliveries that come with moves.
type failures struct {
	n, tries                []int
	events                  []int64
	types, states, attempts []string
	retry                   []*time.Time
	created, updated        []time.Time
}

func (f *failures) add(n int, d *buildcast.Delivery) error {
	attempts, err := store.Encode(d.Attempts)
	if err != nil {
		return err
	}
	f.n, f.tries, f.events = append(f.n, n), append(f.tries, d.Tries), append(f.events, d.EventID)
	f.types, f.states, f.attempts = append(f.types, d.EventType), append(f.states, string(d.State)), append(f.attempts, string(attempts))
	f.retry, f.created, f.updated = append(f.retry, stdTime(d.RetryAt)), append(f.created, d.CreatedAt.Std()), append(f.updated, d.UpdatedAt.Std())
	return nil
}

func (f *failures) args() []any {
	return []any{f.n, f.events, f.types, f.states, f.tries, f.attempts, f.retry, f.created, f.updated}
}

// ClaimDeliveries implements store.Retries.
func (s *Store) ClaimDeliveries(ctx context.Context, owner, endpointID string, now, until time.Time, limit int) ([]buildcast.Delivery, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, `
		UPDATE worker_webhook_failures SET lease_owner = $1, lease_until = $2
		WHERE ctid = ANY(ARRAY(
			SELECT ctid FROM worker_webhook_failures
			WHERE endpoint_id = $3 AND state = 'retrying' AND retry_at <= $4 AND lease_until <= $4
			ORDER BY retry_at, build_id, event_id LIMIT $5 FOR UPDATE SKIP LOCKED))
		RETURNING `+deliveryColumns, owner, until, endpointID, now, limit)
	if err != nil {
		return nil, uncommitted(ctx, err)
	}
	due, err := pgx.CollectRows(rows, scanDelivery)
	slices.SortFunc(due, func(a, b buildcast.Delivery) int { return a.RetryAt.Std().Compare(b.RetryAt.Std()) })
	return due, uncommitted(ctx, err)
}

// SaveDelivery implements store.Retries. It locks the cursor before the delivery, as
// moves do.
func (s *Store) SaveDelivery(ctx context.Context, owner string, d buildcast.Delivery) error {
	attempts, err := store.Encode(d.Attempts)
	if err != nil {
		return err
	}
	return s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		over := d.State != buildcast.DeliveryRetrying
		if over {
			if _, err := tx.Exec(ctx, `SELECT FROM webhook_cursors WHERE endpoint_id = $1 AND build_id = $2 FOR UPDATE`, d.EndpointID, d.BuildID); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, `
			UPDATE worker_webhook_failures SET state = $5, tries = $6, attempts = $7::jsonb, retry_at = $8, updated_at = $9,
				lease_owner = NULL, lease_until = '-infinity'
			WHERE endpoint_id = $1 AND build_id = $2 AND event_id = $3 AND lease_owner = $4`,
			d.EndpointID, d.BuildID, d.EventID, owner, d.State, d.Tries, string(attempts), stdTime(d.RetryAt), d.UpdatedAt.Std())
		if err != nil || !over || tag.RowsAffected() == 0 {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE webhook_cursors SET blocked = false WHERE endpoint_id = $1 AND build_id = $2 AND next_event_id = $3`,
			d.EndpointID, d.BuildID, d.EventID+1)
		return err
	})
}

// recallSQL removes deliveries and moves the cursors back to the first one of each
// build. It must be one statement. With two, a delivery that fails between them would
// be removed by the second and not seen by the first, and its event would be lost.
const recallSQL = `
	WITH gone AS (
		DELETE FROM worker_webhook_failures f USING builds b
		WHERE endpoint_id = $1 AND state = 'retrying' AND NOT asked AND f.created_at >= $2 AND build_id = ANY($3)
			AND b.id = f.build_id AND f.event_id >= b.first_event_id
		RETURNING build_id, event_id)
	INSERT INTO webhook_cursors (endpoint_id, build_id, next_event_id, due_at, generation)
	SELECT $1, build_id, min(event_id), $4, $5 FROM gone GROUP BY build_id ORDER BY build_id
	ON CONFLICT (endpoint_id, build_id) DO UPDATE SET next_event_id = least(webhook_cursors.next_event_id, excluded.next_event_id)` + putCursor

// RecallDeliveries implements store.Retries. It locks builds, then cursors, then
// deliveries, as every transaction does.
func (s *Store) RecallDeliveries(ctx context.Context, endpointID string, since time.Time) error {
	return s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// Only builds that exist. If the log is cut meanwhile, the cursor is claimed at the
		// first kept event, and parked if there is none.
		rows, err := tx.Query(ctx, `
			SELECT id FROM builds WHERE deleted_at IS NULL AND id IN (
				SELECT build_id FROM worker_webhook_failures WHERE endpoint_id = $1 AND state = 'retrying' AND NOT asked AND created_at >= $2)
			ORDER BY id FOR KEY SHARE`, endpointID, since)
		if err != nil {
			return err
		}
		builds, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, keepEndpointSQL, endpointID); err != nil { // a deleted endpoint has no deliveries
			return err
		}
		if _, err := tx.Exec(ctx, `
			SELECT FROM webhook_cursors WHERE endpoint_id = $1 AND build_id = ANY($2) ORDER BY build_id FOR UPDATE`, endpointID, builds); err != nil {
			return err
		}
		now := time.Now()
		_, err = tx.Exec(ctx, recallSQL, endpointID, since, builds, now, now.UnixMicro())
		return err
	})
}

// Redeliver implements store.Deliveries.
func (s *Store) Redeliver(ctx context.Context, r store.Redelivery, now time.Time) (count int64, err error) {
	const anew = `state = 'retrying', tries = 0, asked = true, retry_at = $1, lease_owner = NULL, lease_until = '-infinity'`
	err = s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// The locks keep the log from being cut and the endpoint from being deleted
		// meanwhile: a delivery without its event or its endpoint would stay for ever.
		if _, err := tx.Exec(ctx, `SELECT FROM builds WHERE id = $1 FOR SHARE`, r.BuildID); err != nil {
			return err
		}
		if err := keepEndpoint(ctx, tx, r.EndpointID); err != nil {
			return err
		}
		if r.BuildID == "" {
			tag, err := tx.Exec(ctx, `UPDATE worker_webhook_failures SET `+anew+` WHERE endpoint_id = $2 AND state = 'dead' AND updated_at >= $3`,
				now, r.EndpointID, r.Since)
			count = tag.RowsAffected()
			return err
		}
		var eventType string
		err := tx.QueryRow(ctx, `
			SELECT event_type FROM project_build_events WHERE build_id = $1 AND id = $2 AND id >= (SELECT first_event_id FROM builds WHERE id = $1)`, r.BuildID, r.EventID).Scan(&eventType)
		if errors.Is(err, pgx.ErrNoRows) {
			return store.NoEvent(r.BuildID, r.EventID)
		}
		if err != nil {
			return err
		}
		count = 1
		_, err = tx.Exec(ctx, `
			INSERT INTO worker_webhook_failures (endpoint_id, build_id, event_id, event_type, state, tries, attempts, asked, retry_at, created_at, updated_at)
			VALUES ($2, $3, $4, $5, 'retrying', 0, '[]', true, $1, $1, $1)
			ON CONFLICT (endpoint_id, build_id, event_id) DO UPDATE SET `+anew, now, r.EndpointID, r.BuildID, r.EventID, eventType)
		return err
	})
	return count, err
}

// ListDeliveries implements store.Deliveries.
func (s *Store) ListDeliveries(ctx context.Context, f store.DeliveryFilter) (store.DeliveryPage, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	query, args, err := f.Query(dialect, deliveryColumns)
	if err != nil {
		return store.DeliveryPage{}, err
	}
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return store.DeliveryPage{}, unavailable(ctx, err)
	}
	all, err := pgx.CollectRows(rows, scanDelivery)
	if err != nil {
		return store.DeliveryPage{}, unavailable(ctx, err)
	}
	return store.PageOfDeliveries(all, f.Limit), nil
}

// PruneDeliveries implements store.Deliveries. It also removes cursors that an append
// made while their endpoint was deleted.
func (s *Store) PruneDeliveries(ctx context.Context, before time.Time) error {
	return s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM webhook_cursors c WHERE NOT EXISTS (SELECT FROM webhook_endpoints w WHERE w.id = c.endpoint_id)`); err != nil {
			return err
		}
		return execAll(ctx, tx, before,
			`DELETE FROM worker_webhook_failures WHERE state <> 'retrying' AND updated_at < $1`,
			`DELETE FROM webhook_counts WHERE bucket < $1`)
	})
}
