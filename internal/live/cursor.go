package live

import (
	"context"
	"time"

	"github.com/buildcast/buildcast"
)

// Cursor is a place in one build's log. Its methods belong to one goroutine at a time.
type Cursor struct {
	feed   *feed
	wake   func()
	woken  chan struct{} // of Next; nil where the watcher has a wake of its own
	eager  bool          // it gets events as they come, not in frames
	after  int64         // guarded by the feed's lock
	framed time.Time     // when the frame interval of its last batch began; likewise
	holds  *Batch        // the last batch, until the next is asked for; likewise
}

// signal makes the wake of Next.
func (c *Cursor) signal() {
	c.woken = make(chan struct{}, 1)
	c.wake = func() {
		select {
		case c.woken <- struct{}{}:
		default: // it has a wake-up waiting already
		}
	}
}

// letGo ends the reader's hold on the last batch.
func (c *Cursor) letGo() {
	if c.holds != nil {
		c.holds.share.letGo()
		c.holds = nil
	}
}

// After is the id of the last event that the cursor has given.
func (c *Cursor) After() int64 {
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	return c.after
}

// Status gives the build's status as far as the hub knows it, asking the store
// once where it does not. A cursor beyond the log's end gives CursorAhead.
func (c *Cursor) Status(ctx context.Context) (buildcast.Status, error) {
	after := c.After()
	status, err := c.feed.statusAt(ctx, after)
	if err != nil {
		return status, err
	}
	if after > status.LastEventID {
		return status, buildcast.Errorf(buildcast.CursorAhead,
			"lastEventId is %d, but the build's log ends at %d: start again from there", after, status.LastEventID).At("lastEventId")
	}
	return status, nil
}

// Take gives the batch after the cursor and moves past it, or nil where there
// is none now: wake is called when there may be one. It gives the store's error
// where reading fails; the cursor then stays.
func (c *Cursor) Take(ctx context.Context) (*Batch, error) { return c.feed.take(ctx, c) }

// Ready is Take from memory: it never waits. Where the store must be asked,
// stored is true, and Take gives the batch.
func (c *Cursor) Ready() (b *Batch, stored bool) {
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	return c.feed.ready(c)
}

// Next waits for the batch after the cursor and moves past it. It is for
// cursors that were watched without a wake of their own.
func (c *Cursor) Next(ctx context.Context) (*Batch, error) {
	for {
		b, err := c.Take(ctx)
		if b != nil || err != nil {
			return b, err
		}
		select {
		case <-c.woken:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Close ends the watch. The wake may still be called by a wake-up under way.
func (c *Cursor) Close() { c.feed.hub.leave(c) }
