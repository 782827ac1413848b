package sqlite

import (
	"context"
	"time"

	"github.com/buildcast/buildcast/internal/store"
)

const claimSQL = `
	UPDATE builds SET lease_owner = ?1, lease_until = ?2, lease_generation = lease_generation + 1
	WHERE id IN (
		SELECT id FROM builds
		WHERE (plan IS NOT NULL OR prompt <> '') AND finished_at IS NULL AND lease_until <= ?3
		AND id NOT IN (SELECT value FROM json_each(?4))
		ORDER BY created_at, id LIMIT ?5)
	RETURNING id, lease_generation, created_at`

// ClaimBuilds implements store.Leases.
func (s *Store) ClaimBuilds(ctx context.Context, owner string, ttl time.Duration, limit int, except []string) (leases []store.Lease, err error) {
	skip, err := store.Encode(append([]string{}, except...))
	if err != nil {
		return nil, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	defer func() {
		if err != nil { // builds may have another generation, and it is not known which
			clear(s.rows)
		}
	}()
	now := time.Now()
	rows, err := s.write.QueryContext(ctx, claimSQL, owner, now.Add(ttl).UnixMilli(), now.UnixMilli(), string(skip), limit)
	if err != nil {
		return nil, uncommitted(ctx, err)
	}
	defer rows.Close()
	var claimed store.Claimed
	for rows.Next() {
		l := store.Lease{Owner: owner}
		var at int64
		if err := rows.Scan(&l.BuildID, &l.Generation, &at); err != nil {
			return nil, uncommitted(ctx, err)
		}
		delete(s.rows, l.BuildID) // it has another generation
		claimed.Add(l, time.UnixMilli(at))
	}
	if err := rows.Err(); err != nil {
		return nil, uncommitted(ctx, err)
	}
	return claimed.OldestFirst(), nil
}

// RenewLease implements store.Leases.
func (s *Store) RenewLease(ctx context.Context, l store.Lease, ttl time.Duration) error {
	res, err := s.write.ExecContext(ctx, `
		UPDATE builds SET lease_owner = ?, lease_until = ? WHERE id = ? AND lease_generation = ? AND deleted_at IS NULL`,
		l.Owner, time.Now().Add(ttl).UnixMilli(), l.BuildID, l.Generation)
	if err != nil {
		return uncommitted(ctx, err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return uncommitted(ctx, err)
	}
	if _, err := s.GetBuild(ctx, l.BuildID); err != nil {
		return err
	}
	return store.TakenOver(l)
}

// ReleaseLeases implements store.Leases.
func (s *Store) ReleaseLeases(ctx context.Context, owner string) error {
	_, err := s.write.ExecContext(ctx, `UPDATE builds SET lease_owner = NULL, lease_until = 0 WHERE lease_owner = ? AND finished_at IS NULL`, owner)
	return uncommitted(ctx, err)
}
