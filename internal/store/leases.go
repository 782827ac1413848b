package store

import (
	"cmp"
	"slices"
	"time"
)

// Claimed sorts leases by the creation of their builds: an UPDATE returns its rows in
// any order.
type Claimed []claimedLease

type claimedLease struct {
	Lease
	created time.Time
}

// Add adds a lease, with the time at which its build was created.
func (c *Claimed) Add(l Lease, created time.Time) { *c = append(*c, claimedLease{l, created}) }

// OldestFirst returns the leases, that of the oldest build first.
func (c Claimed) OldestFirst() []Lease {
	slices.SortFunc(c, func(a, b claimedLease) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.BuildID, b.BuildID))
	})
	leases := make([]Lease, len(c))
	for i := range c {
		leases[i] = c[i].Lease
	}
	return leases
}
