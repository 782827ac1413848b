// Package live delivers the events after a cursor to the watchers of a build, within
// milliseconds of the commit.
//
// A wake-up is a hint and reading is the guarantee: hints may be lost, late or
// doubled without losing an event. A cursor always reads the events after the id that
// it holds, and Run asks the store once a second which watched builds have new events
// (another process on the same database may have appended).
//
// A watch is registered before its first read, so each event is either in that read
// or wakes the watch: no event falls between replay and live delivery.
//
// There is no queue for each watcher. A watched build has one feed: the end of its log
// in memory, bounded in bytes, and the latest batches that were made of it. Cursors at
// the same id get the same batch, encoded once. A cursor that falls behind reads from
// the store, and all cursors at the same id share that read.
//
// Frames: a feed wakes its cursors at most once in 50 ms. The first event goes out at
// once; events that come within 50 ms after it travel together in the next batch.
// Nothing is dropped. A feed that has something to send has one timer; watchers have
// none.
package live

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/backoff"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/store"
)

const (
	// frameInterval is the shortest time between two frames of one subscription:
	// at most 20 frames a second.
	frameInterval = 50 * time.Millisecond

	// backstop is how often the store is asked for the bounds of watched logs: the
	// longest time by which a lost hint can delay an event.
	backstop = time.Second

	readTimeout = 10 * time.Second

	// overloadPause is how long a reader that was refused waits before it tries again.
	overloadPause = time.Second

	// Bounds of one batch. A reader that catches up gets large batches while there is
	// room, and pieces while many readers are behind; see memory.room.
	batchEvents = 5000
	batchBytes  = 1 << 20
	eagerBytes  = 256 << 10 // for an eager cursor
	pieceBytes  = 32 << 10

	// Bounds of one feed in memory; memory.go has the bounds of all feeds together.
	feedTailBytes = 512 << 10
	recentBytes   = 512 << 10 // with their encodings
	recentBatches = 16
)

// Source is the log as the hub reads it.
type Source interface {
	ReadEvents(ctx context.Context, buildID string, after int64, limit, maxBytes int) ([]buildcast.Event, error)
	Statuses(ctx context.Context, buildIDs []string) (map[string]buildcast.Status, error)
	Bounds(ctx context.Context, buildIDs []string) (map[string]store.Bounds, error)
}

// Hub holds the cursors of all watched builds.
type Hub struct {
	source   Source
	backstop time.Duration
	memory   memory
	wakes    wakeQueue

	mu    sync.RWMutex
	feeds map[string]*feed
}

// NewHub makes a hub over the source.
func NewHub(source Source) *Hub {
	return &Hub{
		source: source, backstop: backstop, feeds: make(map[string]*feed),
		memory: memory{full: make(chan struct{}, 1)},
		wakes:  wakeQueue{filled: make(chan struct{}, 1)},
	}
}

// Watch registers a cursor that has seen the build's events up to after; see
// WatchFrom.
func (h *Hub) Watch(buildID string, after int64, wake func()) *Cursor {
	return h.WatchFrom(buildID, buildcast.Start{After: after}, wake)
}

// WatchFrom registers a cursor, which the caller closes. Run calls wake when Take may
// have more: wake may take from the cursor, but must not wait for its reader. If wake
// is nil, the reader calls Next.
func (h *Hub) WatchFrom(buildID string, start buildcast.Start, wake func()) *Cursor {
	c := &Cursor{start: start, after: start.After, wake: wake}
	if wake == nil {
		c.signal()
	}
	h.enter(buildID, c)
	return c
}

// WatchEagerly is Watch for readers that send events one by one and need no frames:
// Next returns events as soon as they are stored, in batches of at most 256 KB.
func (h *Hub) WatchEagerly(buildID string, after int64) *Cursor {
	c := &Cursor{start: buildcast.Start{After: after}, after: after, eager: true}
	c.signal()
	h.enter(buildID, c)
	return c
}

func (h *Hub) enter(buildID string, c *Cursor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.feeds[buildID]
	if f == nil {
		f = &feed{hub: h, buildID: buildID, first: 1, cursors: make(map[*Cursor]struct{}), reads: make(map[int64]*read)}
		h.feeds[buildID] = f
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cursors[c] = struct{}{}
	if c.eager {
		f.eager++
	}
	c.feed = f
}

func (h *Hub) leave(c *Cursor) {
	f := c.feed
	h.mu.Lock()
	defer h.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.cursors[c]; ok && c.eager {
		f.eager--
	}
	delete(f.cursors, c)
	c.letGo()
	if len(f.cursors) > 0 || f.closed {
		return
	}
	f.closed = true
	f.dropTail()
	f.dropRecent()
	if f.later != nil {
		f.later.Stop()
	}
	delete(h.feeds, f.buildID)
}

func (h *Hub) feed(buildID string) *feed {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.feeds[buildID]
}

// Changed passes a change on to the build's cursors; see eventlog.Log.Subscribe. It
// never waits for a reader.
func (h *Hub) Changed(c eventlog.Change) {
	f := h.feed(c.BuildID)
	if f == nil {
		return
	}
	switch c.Kind {
	case eventlog.Appended:
		f.committed(c.Events, c.Status)
	case eventlog.Hinted:
		h.Wake(c.BuildID, c.LastEventID)
	case eventlog.Truncated:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.cut(c.FirstEventID, c.Deleted)
	}
}

// Wake is the hint that the build's log reaches lastEventID; it may be wrong.
func (h *Hub) Wake(buildID string, lastEventID int64) {
	if f := h.feed(buildID); f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.reach(lastEventID)
	}
}

// Run wakes cursors, and is the backstop for lost hints. It returns when ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() { h.wakes.run(ctx) })
	}
	workers.Go(func() { h.makeRoom(ctx) })
	tick := time.NewTicker(h.backstop)
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

// makeRoom relieves the hub when it is full, at most once in a frame interval: it
// cannot release what readers hold, so the hub may stay full for long.
func (h *Hub) makeRoom(ctx context.Context) {
	for {
		select {
		case <-h.memory.full:
			h.relieve()
			backoff.Pause(ctx, frameInterval)
		case <-ctx.Done():
			return
		}
	}
}

func (h *Hub) poll(ctx context.Context) {
	ids := h.watched()
	if len(ids) == 0 {
		return
	}
	bounds, err := h.source.Bounds(ctx, ids)
	if err != nil {
		return // the store cannot be reached; the next tick asks again
	}
	for id, b := range bounds {
		if f := h.feed(id); f != nil {
			f.bounded(b)
		}
	}
}

func (h *Hub) watched() []string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	ids := make([]string, 0, len(h.feeds))
	for id := range h.feeds {
		ids = append(ids, id)
	}
	return ids
}
