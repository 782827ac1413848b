// Package counts counts what the endpoints and the log do, in buckets of five
// minutes: events delivered, attempts failed, how long deliveries took, events
// stored.
//
// Counting takes no I/O. [Counts.Flush] stores the buckets that have changed;
// each run of a process has rows of its own, so several nodes on one database do
// not overwrite each other's, and a kill loses what was counted since the last
// flush.
package counts

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// bucketTime is the length of one bucket.
const bucketTime = 5 * time.Minute

// Store keeps the counts; see store.Counting.
type Store interface {
	SaveCounts(ctx context.Context, counts []store.Counts) error
	ReadCounts(ctx context.Context, since time.Time) ([]store.Counts, error)
}

// Counts are those of one run of the process.
type Counts struct {
	run string

	mu  sync.Mutex
	all map[string]*Endpoint
}

// New makes the counts of a run, whose name no other run has.
func New(run string) *Counts { return &Counts{run: run, all: map[string]*Endpoint{}} }

// Of returns the counts of an endpoint. The empty id has those of the log.
func (c *Counts) Of(endpointID string) *Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.all[endpointID]
	if e == nil {
		e = &Endpoint{buckets: map[time.Time]*bucket{}}
		c.all[endpointID] = e
	}
	return e
}

// Logged counts events that were stored.
func (c *Counts) Logged(events []buildcast.Event) {
	var bytes int64
	for i := range events {
		bytes += int64(len(events[i].Data))
	}
	c.Of("").count(func(n *Numbers) {
		n.Events += int64(len(events))
		n.Bytes += bytes
	})
}

// Endpoint holds an endpoint's buckets that are not over, or not stored as they
// are now.
type Endpoint struct {
	mu      sync.Mutex
	buckets map[time.Time]*bucket
}

type bucket struct {
	numbers Numbers
	changed bool // since it was stored
}

// Attempt counts one attempt.
func (e *Endpoint) Attempt(ok bool, took time.Duration) {
	e.count(func(n *Numbers) {
		if !ok {
			n.Failed++
			return
		}
		n.Delivered++
		n.took(step(took), 1)
	})
}

func (e *Endpoint) count(do func(*Numbers)) {
	at := time.Now().UTC().Truncate(bucketTime)
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.buckets[at]
	if b == nil {
		b = &bucket{}
		e.buckets[at] = b
	}
	do(&b.numbers)
	b.changed = true
}

// Flush stores what has changed. What cannot be stored is stored by the next call.
func (c *Counts) Flush(ctx context.Context, to Store) error {
	rows := c.changed()
	if len(rows) == 0 {
		return nil
	}
	err := to.SaveCounts(ctx, rows)
	if err != nil {
		c.markChanged(rows)
	}
	return err
}

// changed returns the rows to be stored, and forgets buckets that are over and
// stored.
func (c *Counts) changed() []store.Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now().UTC().Truncate(bucketTime)
	var rows []store.Counts
	for id, e := range c.all {
		rows = e.changed(rows, store.Counts{EndpointID: id, Run: c.run}, now)
	}
	return rows
}

func (e *Endpoint) changed(rows []store.Counts, row store.Counts, now time.Time) []store.Counts {
	e.mu.Lock()
	defer e.mu.Unlock()
	for at, b := range e.buckets {
		if b.changed {
			row.Bucket = at
			row.Numbers, _ = json.Marshal(&b.numbers)
			rows = append(rows, row)
			b.changed = false
		} else if at.Before(now) {
			delete(e.buckets, at)
		}
	}
	return rows
}

func (c *Counts) markChanged(rows []store.Counts) {
	for _, row := range rows {
		c.Of(row.EndpointID).markChanged(row.Bucket)
	}
}

func (e *Endpoint) markChanged(at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b := e.buckets[at]; b != nil {
		b.changed = true
	}
}
