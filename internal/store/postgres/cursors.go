package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast/internal/store"
)

// A claim skips rows that another transaction claims or moves at the same time. ARRAY
// makes Postgres choose the rows once; see ClaimBuilds.
const (
	claimCursors = `
		UPDATE webhook_cursors SET lease_owner = $1, lease_until = $2, generation = generation + 1
		WHERE endpoint_id = $3 AND build_id = ANY(ARRAY(
			SELECT build_id FROM webhook_cursors
			WHERE endpoint_id = $3 AND NOT blocked AND due_at <= $4 AND lease_until <= $4`
	claimRest = `
			ORDER BY due_at, build_id LIMIT $5 FOR UPDATE SKIP LOCKED))
		RETURNING build_id, next_event_id, coalesce((SELECT first_event_id FROM builds b WHERE b.id = build_id), 1), generation, due_at`
)

// ClaimCursors implements store.Cursors.
func (s *Store) ClaimCursors(ctx context.Context, owner, endpointID string, builds []string, now, until time.Time, limit int) ([]store.Cursor, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	query, args := claimCursors+claimRest, []any{owner, until, endpointID, now, limit}
	if builds != nil {
		query, args = claimCursors+` AND build_id = ANY($6)`+claimRest, append(args, builds)
	}
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, uncommitted(ctx, err)
	}
	type claimed struct {
		store.Cursor
		due time.Time
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (claimed, error) {
		c := claimed{Cursor: store.Cursor{EndpointID: endpointID}}
		var first int64
		err := row.Scan(&c.BuildID, &c.Next, &first, &c.Generation, &c.due)
		c.StartAt(first)
		return c, err
	})
	// RETURNING has no order.
	slices.SortFunc(all, func(a, b claimed) int { return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.BuildID, b.BuildID)) })
	cursors := make([]store.Cursor, len(all))
	for i, c := range all {
		cursors[i] = c.Cursor
	}
	return cursors, uncommitted(ctx, err)
}

// ownCursors updates the owner's cursors, which it locks in primary key order, as
// every statement does. It updates them by their keys: a cursor that was moved while
// the statement waited for its lock has another ctid, which the statement does not
// see.
const ownCursors = `
	WITH l AS MATERIALIZED (
		SELECT endpoint_id, build_id FROM webhook_cursors WHERE lease_owner = $1%s ORDER BY endpoint_id, build_id FOR UPDATE)
	UPDATE webhook_cursors c SET %s FROM l WHERE c.endpoint_id = l.endpoint_id AND c.build_id = l.build_id`

var (
	renewCursors   = fmt.Sprintf(ownCursors, ` AND lease_until > $3 AND lease_until <> ALL($4)`, `lease_until = $2`)
	releaseCursors = fmt.Sprintf(ownCursors, ``, `lease_owner = NULL, lease_until = '-infinity'`)
)

// RenewCursors implements store.CursorLeases.
func (s *Store) RenewCursors(ctx context.Context, owner string, now, until time.Time, except ...time.Time) error {
	except = append([]time.Time{}, except...) // nil would be NULL
	return s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		for _, q := range []string{renewCursors, `
			UPDATE worker_webhook_failures SET lease_until = $2 WHERE lease_owner = $1 AND state = 'retrying' AND lease_until > $3 AND lease_until <> ALL($4)`} {
			if _, err := tx.Exec(ctx, q, owner, until, now, except); err != nil {
				return err
			}
		}
		return nil
	})
}

// ReleaseCursors implements store.CursorLeases.
func (s *Store) ReleaseCursors(ctx context.Context, owner string) error {
	return s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return execAll(ctx, tx, owner, releaseCursors, `
			UPDATE worker_webhook_failures SET lease_owner = NULL, lease_until = '-infinity' WHERE lease_owner = $1 AND state = 'retrying'`)
	})
}

// Kinds of moves; moveSQL has their numbers.
const (
	moveOn    = 0
	movePark  = 1
	moveLeave = 2
	moveBlock = 3
)

// moveSQL moves cursors and stores the failures that come with them. It locks the
// rows in primary key order, as every statement does. It skips rows that the owner no
// longer holds, and does not return them.
const moveSQL = `
	WITH m AS MATERIALIZED (
		SELECT * FROM unnest($2::int[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::int[], $8::timestamptz[])
			AS m (n, endpoint_id, build_id, generation, next, kind, due_at)),
	l AS MATERIALIZED (
		SELECT m.*, m.kind = 1 AND (SELECT last_event_id FROM builds b WHERE b.id = m.build_id) < m.next AS park
		FROM webhook_cursors c JOIN m ON c.endpoint_id = m.endpoint_id AND c.build_id = m.build_id AND c.generation = m.generation
		WHERE c.lease_owner = $1
		ORDER BY c.endpoint_id, c.build_id FOR UPDATE OF c),
	d AS (
		DELETE FROM webhook_cursors c USING l WHERE l.park AND c.endpoint_id = l.endpoint_id AND c.build_id = l.build_id),
	u AS (
		UPDATE webhook_cursors c SET next_event_id = l.next, blocked = l.kind = 3,
			due_at = CASE l.kind WHEN 2 THEN l.due_at ELSE c.due_at END,
			lease_owner = CASE WHEN l.kind < 2 THEN c.lease_owner END,
			lease_until = CASE WHEN l.kind < 2 THEN c.lease_until ELSE '-infinity' END
		FROM l WHERE NOT l.park AND c.endpoint_id = l.endpoint_id AND c.build_id = l.build_id),
	f AS (
		INSERT INTO worker_webhook_failures (endpoint_id, build_id, event_id, event_type, state, tries, attempts, retry_at, created_at, updated_at)
		SELECT l.endpoint_id, l.build_id, f.event_id, f.event_type, f.state, f.tries, f.attempts::jsonb, f.retry_at, f.created_at, f.updated_at
		FROM unnest($9::int[], $10::bigint[], $11::text[], $12::text[], $13::int[], $14::text[], $15::timestamptz[], $16::timestamptz[], $17::timestamptz[])
			AS f (n, event_id, event_type, state, tries, attempts, retry_at, created_at, updated_at)
		JOIN l ON l.n = f.n
		ON CONFLICT (endpoint_id, build_id, event_id) DO UPDATE SET state = excluded.state, tries = excluded.tries,
			attempts = excluded.attempts, asked = false, retry_at = excluded.retry_at, lease_owner = NULL,
			lease_until = '-infinity', created_at = excluded.created_at, updated_at = excluded.updated_at)
	SELECT n, kind, park FROM l`

// MoveCursors implements store.Cursors. Its commits do not wait for the disk: a move
// that is lost in a crash of the machine only means that an event is sent twice.
//
// Parking locks the builds' rows first. So a concurrent append to the build either has
// made the log longer, and the cursor is not parked, or runs after the parking, and
// creates the cursor again.
func (s *Store) MoveCursors(ctx context.Context, owner string, moves []store.Move) ([]store.Moved, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	args, parked, err := moveArgs(owner, moves)
	if err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		moved, err := s.moveOnce(ctx, args, parked, len(moves))
		if err == nil || n == attempts || !again(err) {
			return moved, uncommitted(ctx, err)
		}
	}
}

func (s *Store) moveOnce(ctx context.Context, args []any, parked []string, count int) ([]store.Moved, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	defer conn.Release() // if the transaction is still open, the pool closes the connection
	moved := make([]store.Moved, count)
	var b pgx.Batch
	b.Queue(`BEGIN`)
	b.Queue(`SET LOCAL synchronous_commit = off`)
	if len(parked) > 0 {
		b.Queue(`SELECT FROM builds WHERE id = ANY($1) ORDER BY id FOR UPDATE`, parked)
	}
	b.Queue(moveSQL, args...).Query(func(rows pgx.Rows) error {
		var n, kind int
		var park bool
		_, err := pgx.ForEachRow(rows, []any{&n, &kind, &park}, func() error {
			moved[n] = store.Moved{Parked: park, Held: !park && kind < moveLeave}
			return nil
		})
		return err
	})
	b.Queue(`COMMIT`)
	if err := conn.SendBatch(ctx, &b).Close(); err != nil {
		return nil, err
	}
	return moved, nil
}

// moveArgs turns the moves into the columns that unnest takes, and returns the
// builds whose cursors are to be parked.
func moveArgs(owner string, moves []store.Move) (args []any, parked []string, err error) {
	count := len(moves)
	n, kinds := make([]int, count), make([]int, count)
	endpoints, builds := make([]string, count), make([]string, count)
	generations, next := make([]int64, count), make([]int64, count)
	due := make([]*time.Time, count)
	failed := failures{}
	for i := range moves {
		m := &moves[i]
		n[i], endpoints[i], builds[i], generations[i], next[i] = i, m.EndpointID, m.BuildID, m.Generation, m.Next
		switch {
		case m.Park:
			kinds[i] = movePark
			parked = append(parked, m.BuildID)
		case m.Leave != nil:
			kinds[i], due[i] = moveLeave, m.Leave
		case m.Failed != nil && m.Block:
			kinds[i] = moveBlock
		default:
			kinds[i] = moveOn
		}
		if m.Failed != nil {
			if err := failed.add(i, m.Failed); err != nil {
				return nil, nil, err
			}
		}
	}
	slices.Sort(parked)
	return append([]any{owner, n, endpoints, builds, generations, next, kinds, due}, failed.args()...), slices.Compact(parked), nil
}

// putCursor is the end of an INSERT that moves existing cursors to another event and
// ends their leases.
const putCursor = `, due_at = excluded.due_at, blocked = false, lease_owner = NULL, lease_until = '-infinity', generation = webhook_cursors.generation + 1`

// Rewind implements store.Cursors.
func (s *Store) Rewind(ctx context.Context, endpointID, buildID string, next int64) error {
	return s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// The locks of the build's row, first, and the endpoint's keep both from being
		// deleted meanwhile.
		var first int64
		err := tx.QueryRow(ctx, `SELECT first_event_id FROM builds WHERE id = $1 AND deleted_at IS NULL FOR UPDATE`, buildID).Scan(&first)
		if errors.Is(err, pgx.ErrNoRows) {
			return store.NoBuild(buildID)
		}
		if err != nil {
			return err
		}
		next = max(next, first)
		if err := keepEndpoint(ctx, tx, endpointID); err != nil {
			return err
		}
		now := time.Now()
		_, err = tx.Exec(ctx, `
			INSERT INTO webhook_cursors (endpoint_id, build_id, next_event_id, due_at, generation) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (endpoint_id, build_id) DO UPDATE SET next_event_id = excluded.next_event_id`+putCursor,
			endpointID, buildID, next, now, now.UnixMicro())
		return err
	})
}
