package delivery

import (
	"context"
	"errors"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/store"
)

const (
	// idleTime is how long a cursor at the end of its log is held before it is
	// parked: a build that goes on costs no claim for each event.
	idleTime = 10 * time.Second

	// shareEvents is how many events a cursor delivers before it makes room for
	// others that wait.
	shareEvents = 200

	// skipEvents is how many events a probe reads at a time.
	skipEvents = 500
)

// heldCursor is a cursor that this node has claimed and delivers from.
type heldCursor struct {
	sender *sender
	ctx    context.Context // the round's, or shorter: until somebody takes the cursor away
	drop   context.CancelFunc
	cursor store.Cursor // Next moves on; the store follows with the next move
	sent   int
	head   *buildcast.Event // of a probe: the event at Next, of a type that is wanted

	// Guarded by the sender's lock:
	missed bool // an event was committed since the log was last read

	// gaveWay: others waited for its place. It goes on after them, without waiting for
	// the next poll. It is read once run has returned.
	gaveWay bool
}

func (n *sender) hold(ctx context.Context, c store.Cursor) *heldCursor {
	if c.Missed > 0 {
		n.dispatcher.config.Reports.gap(n.id, c.BuildID, c.Next-c.Missed, c.Next-1)
	}
	h := &heldCursor{sender: n, cursor: c}
	h.ctx, h.drop = context.WithCancel(ctx)
	return h
}

// run delivers the events after the cursor until the log has ended or is quiet,
// others wait for its place, or the round ends.
func (h *heldCursor) run() {
	defer h.drop()
	watch := h.sender.dispatcher.config.Watch(h.cursor.BuildID, h.cursor.Next-1)
	defer watch.Close()
	for refused := false; ; {
		batch, err := h.next(watch)
		switch {
		case h.ctx.Err() != nil:
			h.leave(time.Now())
			return
		case err != nil:
			h.unreadable(err)
			return
		case batch != nil:
			if !h.deliverAll(batch) {
				return
			}
			if refused = false; !batch.Ended() {
				continue
			}
		}
		if !h.move(store.Move{Park: true}) {
			return
		}
		if refused { // no event came, and yet it is not at the log's end: the log was cut
			h.again()
			return
		}
		refused = true // the log may have grown
	}
}

// deliverAll delivers a batch, and reports whether the cursor is still held.
func (h *heldCursor) deliverAll(batch *live.Batch) bool {
	for i := range batch.Events {
		if !h.deliver(&batch.Events[i]) {
			return false
		}
	}
	if h.sent >= shareEvents && h.sender.crowded() {
		h.gaveWay = true
		h.leave(time.Now())
		return false
	}
	return true
}

// unreadable lets go of a cursor whose log cannot be read.
func (h *heldCursor) unreadable(err error) {
	if buildcast.CodeOf(err) == buildcast.CursorGone {
		h.again()
		return
	}
	h.sender.logger.Warn("webhooks: a log cannot be read; trying again", "build", h.cursor.BuildID, "error", err)
	h.leave(time.Now())
}

// again lets go of the cursor and has it claimed anew: the claim begins with the
// first event that still exists.
func (h *heldCursor) again() {
	h.leave(time.Now())
	h.sender.mu.Lock()
	defer h.sender.mu.Unlock()
	h.missed = true
}

// next waits for the next batch. It returns nil if the log stays quiet.
func (h *heldCursor) next(watch *live.Cursor) (*live.Batch, error) {
	batch, err := watch.Take(h.ctx)
	if batch != nil || err != nil {
		return batch, err
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.sender.resting())
	defer cancel()
	defer h.sender.working()
	batch, err = watch.Next(ctx)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		return nil, nil
	}
	return batch, err
}

// reach puts the cursor at an event. It reports the events before that which the
// endpoint was to get: they were deleted.
func (h *heldCursor) reach(id int64) {
	if id > h.cursor.Next {
		h.sender.dispatcher.config.Reports.gap(h.sender.id, h.cursor.BuildID, h.cursor.Next, id-1)
		h.cursor.Next = id
	}
}

// deliver sends one event, and reports whether the cursor is still held.
func (h *heldCursor) deliver(e *buildcast.Event) bool {
	n := h.sender
	h.reach(e.ID)
	if !n.endpoint.Load().Matches(e.Type) {
		h.cursor.Next = e.ID + 1 // stored with the next move
		return true
	}
	if !n.gate.enter(h.ctx) {
		h.leave(time.Now())
		return false
	}
	o := n.attempt(n.endpoint.Load(), e, 1)
	n.gate.leave()
	h.sent++
	switch {
	case o.ok:
		n.succeeded()
		h.cursor.Next = e.ID + 1
		return h.move(store.Move{})
	case o.cancelled || !n.failed(eventKey{e.BuildID, e.ID}, o):
		h.leave(time.Now()) // the event stays where it is
		return false
	}
	return h.recordFailure(e, o)
}

// recordFailure stores that the event failed and that the cursor is past it, and
// reports whether the cursor is still held.
func (h *heldCursor) recordFailure(e *buildcast.Event, o outcome) bool {
	n := h.sender
	h.cursor.Next = e.ID + 1
	d := n.newDelivery(e, o)
	held := h.move(store.Move{Failed: &d, Block: n.endpoint.Load().Ordering == buildcast.OrderingStrict})
	n.expect(d.RetryAt)
	return held
}

// skip passes over events that the endpoint does not want, and reports whether an
// event follows that it wants. Otherwise it lets go of the cursor.
func (h *heldCursor) skip() bool {
	n := h.sender
	for {
		events, err := n.dispatcher.config.Log.Read(h.ctx, h.cursor.BuildID, h.cursor.Next-1, skipEvents)
		if err != nil {
			h.leave(time.Now().Add(pollTime))
			return false
		}
		for i := range events {
			h.reach(events[i].ID)
			if n.endpoint.Load().Matches(events[i].Type) {
				h.head = &events[i]
				return true
			}
			h.cursor.Next = events[i].ID + 1
		}
		if len(events) > 0 {
			continue
		}
		if h.move(store.Move{Park: true}) { // the log has grown, or was cut
			h.leave(time.Now().Add(pollTime))
		}
		return false
	}
}

// move stores how far the cursor has come, and reports whether it is still held.
func (h *heldCursor) move(m store.Move) bool {
	m.Cursor = h.cursor
	if m.Park {
		// An event committed after this point is seen by the park statement, or sets missed.
		h.sender.mu.Lock()
		h.missed = false
		h.sender.mu.Unlock()
	}
	moved, ok := h.sender.dispatcher.mover.move(m)
	return ok && moved.Held && !moved.Parked
}

// leave lets go of the cursor where it stands. It is due again at the given time.
func (h *heldCursor) leave(due time.Time) { h.move(store.Move{Leave: &due}) }
