package webhook

import (
	"context"
	"encoding/json"
	"math"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

const (
	// bucketTime is the grain of the counts.
	bucketTime = 5 * time.Minute

	// flushTime is how often they are stored: a kill loses those since.
	flushTime = 10 * time.Second
)

// numbers are what one endpoint, or the log, did in one bucket of time.
type numbers struct {
	Delivered int64 `json:"delivered,omitempty"` // events
	Failed    int64 `json:"failed,omitempty"`    // attempts
	// Took counts the deliveries by how long they took, in steps of a fifth; see step.
	Took   map[int]int64 `json:"took,omitempty"`
	Events int64         `json:"events,omitempty"` // stored
	Bytes  int64         `json:"bytes,omitempty"`  // of their data
}

// step is the power of 1.2 that a number of microseconds comes to.
func step(d time.Duration) int {
	return int(math.Ceil(math.Log(float64(max(d.Microseconds(), 1))) / math.Log(1.2)))
}

// milliseconds is the upper end of a step.
func milliseconds(step int) float64 {
	return math.Round(math.Pow(1.2, float64(step))) / 1000
}

func (n *numbers) add(m *numbers) {
	n.Delivered += m.Delivered
	n.Failed += m.Failed
	n.Events += m.Events
	n.Bytes += m.Bytes
	for s, count := range m.Took {
		n.took(s, count)
	}
}

func (n *numbers) took(step int, count int64) {
	if n.Took == nil {
		n.Took = map[int]int64{}
	}
	n.Took[step] += count
}

// counts are those of one run of the process, which are stored beside those of
// others.
type counts struct {
	run string

	mu  sync.Mutex
	all map[string]*endpointCounts
}

func newCounts(run string) *counts { return &counts{run: run, all: map[string]*endpointCounts{}} }

// of gives the counts of an endpoint; the empty one has those of the log.
func (c *counts) of(endpointID string) *endpointCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.all[endpointID]
	if e == nil {
		e = &endpointCounts{}
		c.all[endpointID] = e
	}
	return e
}

// logged counts events that were stored.
func (c *counts) logged(events []buildcast.Event) {
	var bytes int64
	for i := range events {
		bytes += int64(len(events[i].Data))
	}
	c.of("").count(func(n *numbers) {
		n.Events += int64(len(events))
		n.Bytes += bytes
	})
}

// endpointCounts holds the buckets that are not stored as they are now.
type endpointCounts struct {
	mu      sync.Mutex
	buckets map[time.Time]*bucket
}

type bucket struct {
	numbers
	changed bool
}

func (e *endpointCounts) attempt(ok bool, took time.Duration) {
	e.count(func(n *numbers) {
		if !ok {
			n.Failed++
			return
		}
		n.Delivered++
		n.took(step(took), 1)
	})
}

func (e *endpointCounts) count(do func(*numbers)) {
	at := time.Now().UTC().Truncate(bucketTime)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.buckets == nil {
		e.buckets = map[time.Time]*bucket{}
	}
	b := e.buckets[at]
	if b == nil {
		b = &bucket{}
		e.buckets[at] = b
	}
	do(&b.numbers)
	b.changed = true
}

// unstored gives the rows that have changed, and forgets buckets that are over.
func (c *counts) unstored() []store.Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now().UTC().Truncate(bucketTime)
	var rows []store.Counts
	for id, e := range c.all {
		e.mu.Lock()
		for at, b := range e.buckets {
			if b.changed {
				text, _ := json.Marshal(&b.numbers)
				rows = append(rows, store.Counts{EndpointID: id, Bucket: at, Run: c.run, Numbers: text})
				b.changed = false
			} else if at.Before(now) {
				delete(e.buckets, at)
			}
		}
		e.mu.Unlock()
	}
	return rows
}

// again has rows stored again that were not.
func (c *counts) again(rows []store.Counts) {
	for _, row := range rows {
		e := c.of(row.EndpointID)
		e.mu.Lock()
		if b := e.buckets[row.Bucket]; b != nil {
			b.changed = true
		}
		e.mu.Unlock()
	}
}

// flush stores what was counted.
func (s *Service) flush(ctx context.Context) error {
	rows := s.counts.unstored()
	if len(rows) == 0 {
		return nil
	}
	err := s.Store.SaveCounts(ctx, rows)
	if err != nil {
		s.counts.again(rows)
	}
	return err
}
