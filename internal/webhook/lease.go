package webhook

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// doubts are the ends of leases that were asked for and are not answered: the
// store may have given them although the claim failed, or was cancelled. They are
// not renewed, or what nobody here knows of would be leased for ever.
type doubts struct {
	mu   sync.Mutex
	ends []time.Time
}

func (d *doubts) add(end time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ends = append(d.ends, end)
}

func (d *doubts) remove(end time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(d.ends, end); i >= 0 {
		d.ends = slices.Delete(d.ends, i, i+1)
	}
}

// at gives those that have not ended, and forgets the others.
func (d *doubts) at(now time.Time) []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ends = slices.DeleteFunc(d.ends, now.After)
	return slices.Clone(d.ends)
}

// leased claims something until the end of a lease.
func (s *Service) leased(ctx context.Context, claim func(ctx context.Context, now, until time.Time) error) error {
	now := time.Now()
	// Renewed leases end with a second: this one is told from them, and from others.
	until := now.Add(leaseTime).Truncate(time.Second).Add(time.Duration(1+rand.IntN(999)) * time.Millisecond) //nolint:gosec // not a secret
	s.doubts.add(until)
	err := bounded(ctx, func(ctx context.Context) error { return claim(ctx, now, until) })
	if err == nil {
		s.doubts.remove(until)
	}
	return err
}
