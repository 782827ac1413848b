package store

import (
	"cmp"
	"slices"
	"time"
)

// Claimed puts leases in the order in which their builds were created: an UPDATE
// returns its rows in any order.
type Claimed []claimedLease

type claimedLease struct {
	Lease
	created time.Time
}

// Add takes a lease and when its build was created.
func (c *Claimed) Add(l Lease, created time.Time) { *c = append(*c, claimedLease{l, created}) }

// OldestFirst returns the leases in order.
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
