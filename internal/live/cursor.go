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
	woken  chan struct{}   // of Next; nil if the watcher has a wake of its own
	eager  bool            // it gets events as they come, not in frames
	start  buildcast.Start // this and the fields below are guarded by the feed's lock
	begun  bool            // its place has been found in the log: after
	after  int64
	framed time.Time // when the frame interval of its last batch began
	holds  *Batch    // the last batch, until the reader asks for the next
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

// letGo releases the last batch.
func (c *Cursor) letGo() {
	if c.holds != nil {
		c.holds.share.letGo()
		c.holds = nil
	}
}

// After returns the id of the last event that the cursor has returned.
func (c *Cursor) After() int64 {
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	return c.after
}

// Begin returns where the cursor begins. It asks the store if the hub does not know.
// The error is a *buildcast.CursorError if the log does not have that place.
func (c *Cursor) Begin(ctx context.Context) (Beginning, error) {
	f := c.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(ctx, c); err != nil {
		return Beginning{}, err
	}
	b := Beginning{After: c.after, FirstEventID: f.first, LastEventID: f.end()}
	if f.exists {
		status := f.status
		b.Status = &status
	}
	return b, nil
}

// Take returns the batch after the cursor and moves the cursor past it. If there is
// none now it returns nil, and wake is called when there may be one. The reader may
// use the batch until it asks for the next. An error does not move the cursor: it is
// the store's, or a *buildcast.CursorError if the log no longer keeps the event after
// the cursor.
func (c *Cursor) Take(ctx context.Context) (*Batch, error) { return c.feed.take(ctx, c) }

// Ready is Take from memory: it never waits. If only the store has the batch, stored
// is true, and Take returns it.
func (c *Cursor) Ready() (b *Batch, stored bool) {
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	return c.feed.ready(c)
}

// Next waits for the batch after the cursor and moves the cursor past it. It is for
// cursors without a wake of their own.
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

// Close ends the watch. A wake-up that is under way may still call wake.
func (c *Cursor) Close() { c.feed.hub.leave(c) }
