package delivery

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// doubts are the ends of leases that were asked for and not answered: the store may
// have made such a lease although the claim failed. It is not renewed, so that it
// ends, and what it holds can be claimed again.
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

// at returns the ends that are after now, and forgets the others.
func (d *doubts) at(now time.Time) []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ends = slices.DeleteFunc(d.ends, now.After)
	return slices.Clone(d.ends)
}

// leased calls claim with the end of a new lease.
func (d *Dispatcher) leased(ctx context.Context, claim func(ctx context.Context, now, until time.Time) error) error {
	now := time.Now()
	// A renewed lease ends at a full second. The odd milliseconds tell this lease from
	// renewed ones, and from those of other claims.
	until := now.Add(leaseTime).Truncate(time.Second).Add(time.Duration(1+rand.IntN(999)) * time.Millisecond) //nolint:gosec // not a secret
	d.doubts.add(until)
	err := Bounded(ctx, func(ctx context.Context) error { return claim(ctx, now, until) })
	if err == nil {
		d.doubts.remove(until)
	}
	return err
}
