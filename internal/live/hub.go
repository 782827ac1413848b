// Package live tells those who watch a build that its log has grown, and gives
// each of them the events after its cursor.
//
// A wake-up is a hint and reading is the guarantee: Wake may be lost, late or
// doubled without losing an event, because a cursor always reads the log from
// the id it holds, and Run asks the store now and then which watched builds have
// moved on (another process on the same database may have appended).
//
// A watch is registered before its first read, so an event is either in what
// that read gives or wakes the watch: there is no hand-over from replay to live
// to get wrong. There is no queue per watcher; one that falls behind reads on
// from its cursor.
package live

import (
	"context"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
)

// backstop is how often the store is asked for watched builds' last ids: the
// longest that a lost hint can delay an event.
const backstop = time.Second

// Source is the log as cursors read it.
type Source interface {
	ReadEvents(ctx context.Context, buildID string, after int64, limit, maxBytes int) ([]buildcast.Event, error)
	LastEventIDs(ctx context.Context, buildIDs []string) (map[string]int64, error)
}

// Bounds of one batch.
const (
	batchEvents = 1000
	batchBytes  = 4 << 20
)

// Hub knows who watches which build.
type Hub struct {
	source Source

	mu     sync.Mutex
	builds map[string]*watched
}

// watched is one build with at least one cursor.
type watched struct {
	lastEventID int64 // the highest id that a wake-up named
	cursors     map[*Cursor]struct{}
}

// NewHub makes a hub over the source.
func NewHub(source Source) *Hub {
	return &Hub{source: source, builds: make(map[string]*watched)}
}

// Watch registers a cursor that has seen the build's events up to after. Close it.
func (h *Hub) Watch(buildID string, after int64) *Cursor {
	c := &Cursor{hub: h, buildID: buildID, after: after, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.builds[buildID]
	if w == nil {
		w = &watched{cursors: make(map[*Cursor]struct{})}
		h.builds[buildID] = w
	}
	w.cursors[c] = struct{}{}
	return c
}

// Wake tells the build's cursors that its log reaches lastEventID. It never blocks.
func (h *Hub) Wake(buildID string, lastEventID int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.builds[buildID]
	if w == nil || lastEventID <= w.lastEventID {
		return
	}
	w.lastEventID = lastEventID
	for c := range w.cursors {
		select {
		case c.wake <- struct{}{}:
		default: // it has a wake-up waiting already
		}
	}
}

// Run is the backstop for lost hints. It returns when ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	tick := time.NewTicker(backstop)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.poll(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *Hub) poll(ctx context.Context) {
	ids := h.watchedIDs()
	if len(ids) == 0 {
		return
	}
	last, err := h.source.LastEventIDs(ctx, ids)
	if err != nil {
		return // the store is away; the next tick asks again
	}
	for id, n := range last {
		h.Wake(id, n)
	}
}

func (h *Hub) watchedIDs() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := make([]string, 0, len(h.builds))
	for id := range h.builds {
		ids = append(ids, id)
	}
	return ids
}

func (h *Hub) drop(c *Cursor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.builds[c.buildID]; w != nil {
		delete(w.cursors, c)
		if len(w.cursors) == 0 {
			delete(h.builds, c.buildID)
		}
	}
}

// Cursor is a place in one build's log. It belongs to one goroutine.
type Cursor struct {
	hub     *Hub
	buildID string
	after   int64
	wake    chan struct{} // capacity 1
}

// Next waits until there are events after the cursor, gives them and moves past
// them. It gives the store's error where reading fails; the cursor then stays.
func (c *Cursor) Next(ctx context.Context) ([]buildcast.Event, error) {
	for {
		events, err := c.hub.source.ReadEvents(ctx, c.buildID, c.after, batchEvents, batchBytes)
		if err != nil {
			return nil, err
		}
		if len(events) > 0 {
			c.after = events[len(events)-1].ID
			return events, nil
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Close ends the watch.
func (c *Cursor) Close() { c.hub.drop(c) }
