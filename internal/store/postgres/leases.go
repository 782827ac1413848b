package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/buildcast/buildcast/internal/store"
)

// ClaimBuilds implements store.Leases. It skips locked rows: another transaction
// claims them or appends to them. ARRAY makes Postgres choose the rows once. As one
// side of a join they could be chosen again for each row of the other side, without
// those that were claimed just before, and the claim would exceed its limit.
func (s *Store) ClaimBuilds(ctx context.Context, owner string, ttl time.Duration, limit int, except []string) ([]store.Lease, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, `
		UPDATE builds SET lease_owner = $1, lease_until = now() + $2::interval, lease_generation = lease_generation + 1
		WHERE id = ANY(ARRAY(
			SELECT id FROM builds
			WHERE (plan IS NOT NULL OR prompt <> '') AND finished_at IS NULL AND lease_until <= now() AND id <> ALL($3)
			ORDER BY created_at, id LIMIT $4 FOR UPDATE SKIP LOCKED))
		RETURNING id, lease_generation, created_at`, owner, ttl, append([]string{}, except...), limit)
	if err != nil {
		return nil, uncommitted(ctx, err)
	}
	var claimed store.Claimed
	l := store.Lease{Owner: owner}
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&l.BuildID, &l.Generation, &at}, func() error {
		claimed.Add(l, at)
		return nil
	})
	return claimed.OldestFirst(), uncommitted(ctx, err)
}

// RenewLease implements store.Leases.
func (s *Store) RenewLease(ctx context.Context, l store.Lease, ttl time.Duration) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	tag, err := s.exec(ctx, `
		UPDATE builds SET lease_owner = $1, lease_until = now() + $2::interval WHERE id = $3 AND lease_generation = $4 AND deleted_at IS NULL`,
		l.Owner, ttl, l.BuildID, l.Generation)
	if err != nil || tag.RowsAffected() == 1 {
		return unavailable(ctx, err)
	}
	if _, err := s.GetBuild(ctx, l.BuildID); err != nil {
		return err
	}
	return store.TakenOver(l)
}

// ReleaseLeases implements store.Leases. It locks rows in id order, as appends do.
func (s *Store) ReleaseLeases(ctx context.Context, owner string) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	_, err := s.exec(ctx, `
		UPDATE builds SET lease_owner = NULL, lease_until = '-infinity'
		WHERE id = ANY(ARRAY(SELECT id FROM builds WHERE lease_owner = $1 AND finished_at IS NULL ORDER BY id FOR UPDATE))`, owner)
	return unavailable(ctx, err)
}
