package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

const deliveryColumns = `endpoint_id, build_id, event_id, event_type, state, tries, attempts, retry_at, created_at, updated_at`

func scanDelivery(row interface{ Scan(...any) error }) (d buildcast.Delivery, err error) {
	var attempts string
	var retry sql.NullInt64
	var created, updated int64
	if err := row.Scan(&d.EndpointID, &d.BuildID, &d.EventID, &d.EventType, &d.State, &d.Tries, &attempts, &retry, &created, &updated); err != nil {
		return d, err
	}
	d.CreatedAt, d.UpdatedAt = msTime(created), msTime(updated)
	if retry.Valid {
		at := msTime(retry.Int64)
		d.RetryAt = &at
	}
	return d, store.Decode([]byte(attempts), &d.Attempts)
}

func retryAt(d *buildcast.Delivery) any {
	if d.RetryAt == nil {
		return nil
	}
	return d.RetryAt.Std().UnixMilli()
}

// putDelivery stores the failed delivery of an event. It replaces an earlier delivery
// of the event, from before its cursor moved back.
func putDelivery(ctx context.Context, tx *sql.Tx, d *buildcast.Delivery) error {
	attempts, err := store.Encode(d.Attempts)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT OR REPLACE INTO worker_webhook_failures (`+deliveryColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		d.EndpointID, d.BuildID, d.EventID, d.EventType, d.State, d.Tries, string(attempts), retryAt(d),
		d.CreatedAt.Std().UnixMilli(), d.UpdatedAt.Std().UnixMilli())
	return err
}

// ClaimDeliveries implements store.Retries.
func (s *Store) ClaimDeliveries(ctx context.Context, owner, endpointID string, now, until time.Time, limit int) ([]buildcast.Delivery, error) {
	rows, err := s.write.QueryContext(ctx, `
		UPDATE worker_webhook_failures SET lease_owner = ?1, lease_until = ?2
		WHERE (endpoint_id, build_id, event_id) IN (
			SELECT endpoint_id, build_id, event_id FROM worker_webhook_failures
			WHERE endpoint_id = ?3 AND state = 'retrying' AND retry_at <= ?4 AND lease_until <= ?4
			ORDER BY retry_at, build_id, event_id LIMIT ?5)
		RETURNING `+deliveryColumns, owner, until.UnixMilli(), endpointID, now.UnixMilli(), limit)
	if err != nil {
		return nil, uncommitted(ctx, err)
	}
	due, err := deliveries(ctx, rows)
	slices.SortFunc(due, func(a, b buildcast.Delivery) int { return a.RetryAt.Std().Compare(b.RetryAt.Std()) })
	return due, err
}

func deliveries(ctx context.Context, rows *sql.Rows) ([]buildcast.Delivery, error) {
	defer rows.Close()
	var all []buildcast.Delivery
	for rows.Next() {
		d, err := scanDelivery(rows)
		if err != nil {
			return nil, unavailable(ctx, err)
		}
		all = append(all, d)
	}
	return all, unavailable(ctx, rows.Err())
}

// SaveDelivery implements store.Retries.
func (s *Store) SaveDelivery(ctx context.Context, owner string, d buildcast.Delivery) error {
	attempts, err := store.Encode(d.Attempts)
	if err != nil {
		return err
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `
			UPDATE worker_webhook_failures SET state = ?, tries = ?, attempts = ?, retry_at = ?, updated_at = ?, lease_owner = NULL, lease_until = 0
			WHERE endpoint_id = ? AND build_id = ? AND event_id = ? AND lease_owner = ?`,
			d.State, d.Tries, string(attempts), retryAt(&d), d.UpdatedAt.Std().UnixMilli(), d.EndpointID, d.BuildID, d.EventID, owner)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 || d.State == buildcast.DeliveryRetrying {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE webhook_cursors SET blocked = 0 WHERE endpoint_id = ? AND build_id = ? AND next_event_id = ?`,
			d.EndpointID, d.BuildID, d.EventID+1)
		return err
	})
}

// RecallDeliveries implements store.Retries.
func (s *Store) RecallDeliveries(ctx context.Context, endpointID string, since time.Time) error {
	const recalled = ` FROM worker_webhook_failures WHERE endpoint_id = ?1 AND state = 'retrying' AND asked = 0 AND created_at >= ?2
		AND event_id >= (SELECT first_event_id FROM builds WHERE id = build_id)`
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO webhook_cursors (endpoint_id, build_id, next_event_id, due_at, generation)
			SELECT ?1, build_id, min(event_id), ?3, ?4`+recalled+` GROUP BY build_id
			ON CONFLICT DO UPDATE SET next_event_id = min(next_event_id, excluded.next_event_id)`+putCursorRest,
			endpointID, since.UnixMilli(), time.Now().UnixMilli(), time.Now().UnixMicro()); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE`+recalled, endpointID, since.UnixMilli())
		return err
	})
}

// Redeliver implements store.Deliveries.
func (s *Store) Redeliver(ctx context.Context, r store.Redelivery, now time.Time) (count int64, err error) {
	const anew = `state = 'retrying', tries = 0, asked = 1, retry_at = ?1, lease_owner = NULL, lease_until = 0`
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if err := s.endpointExists(ctx, tx, r.EndpointID); err != nil {
			return err
		}
		if r.BuildID == "" {
			res, err := tx.ExecContext(ctx, `UPDATE worker_webhook_failures SET `+anew+` WHERE endpoint_id = ?2 AND state = 'dead' AND updated_at >= ?3`,
				now.UnixMilli(), r.EndpointID, r.Since.UnixMilli())
			if err != nil {
				return err
			}
			count, err = res.RowsAffected()
			return err
		}
		var eventType string
		err := tx.QueryRowContext(ctx, `
			SELECT event_type FROM project_build_events WHERE build_id = ?1 AND id = ?2 AND id >= (SELECT first_event_id FROM builds WHERE id = ?1)`, r.BuildID, r.EventID).Scan(&eventType)
		if errors.Is(err, sql.ErrNoRows) {
			return store.NoEvent(r.BuildID, r.EventID)
		}
		if err != nil {
			return err
		}
		count = 1
		_, err = tx.ExecContext(ctx, `
			INSERT INTO worker_webhook_failures (endpoint_id, build_id, event_id, event_type, state, tries, attempts, asked, retry_at, created_at, updated_at)
			VALUES (?2, ?3, ?4, ?5, 'retrying', 0, '[]', 1, ?1, ?1, ?1)
			ON CONFLICT DO UPDATE SET `+anew, now.UnixMilli(), r.EndpointID, r.BuildID, r.EventID, eventType)
		return err
	})
	return count, err
}

// ListDeliveries implements store.Deliveries.
func (s *Store) ListDeliveries(ctx context.Context, f store.DeliveryFilter) (store.DeliveryPage, error) {
	query, args, err := f.Query(dialect, deliveryColumns)
	if err != nil {
		return store.DeliveryPage{}, err
	}
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return store.DeliveryPage{}, unavailable(ctx, err)
	}
	all, err := deliveries(ctx, rows)
	if err != nil {
		return store.DeliveryPage{}, err
	}
	return store.PageOfDeliveries(all, f.Limit), nil
}

// PruneDeliveries implements store.Deliveries.
func (s *Store) PruneDeliveries(ctx context.Context, before time.Time) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		return execAll(ctx, tx, before.UnixMilli(),
			`DELETE FROM worker_webhook_failures WHERE state <> 'retrying' AND updated_at < ?`,
			`DELETE FROM webhook_counts WHERE bucket < ?`)
	})
}
