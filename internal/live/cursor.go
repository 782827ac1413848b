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
	woken  chan struct{}   // of Next; nil where the watcher has a wake of its own
	eager  bool            // it gets events as they come, not in frames
	start  buildcast.Start // guarded by the feed's lock, as all that follows
	begun  bool            // after is the place in the log where it stands
	after  int64
	framed time.Time // when the frame interval of its last batch began
	holds  *Batch    // the last batch, until the next is asked for
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

// Begin returns where the cursor begins, and asks the store if the hub does not
// know. The error is a *buildcast.CursorError if there is no such place.
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

// Take returns the batch after the cursor and moves past it, or nil if there is
// none now: wake is called when there may be one. The batch is the reader's until
// it asks for the next. After an error the cursor stays: it is the store's, or a
// *buildcast.CursorError if the log no longer keeps what comes after the cursor.
func (c *Cursor) Take(ctx context.Context) (*Batch, error) { return c.feed.take(ctx, c) }

// Ready is Take from memory: it never waits. Where the store must be asked,
// stored is true, and Take returns the batch.
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
