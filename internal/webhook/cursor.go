package webhook

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

	// skipEvents is how many a probe reads at once.
	skipEvents = 500
)

// holding is a cursor that this node holds, and delivers from.
type holding struct {
	*sender
	round *round
	ctx   context.Context // the round's, or shorter: until somebody takes the cursor away
	drop  context.CancelFunc
	store.Cursor
	missed bool // guarded by the sender's lock: something was committed since the last look
	sent   int
	// gaveWay: others waited for its place; it goes on after them, and not at the next poll.
	gaveWay bool
	head    *buildcast.Event // of a probe: the event at Next, which is wanted
}

// run delivers what comes after the cursor until the log has ended or is quiet,
// others wait for its place, or the round ends.
func (h *holding) run() {
	defer h.drop()
	cursor := h.Watch(h.BuildID, h.Next-1)
	defer cursor.Close()
	for {
		batch, err := h.next(cursor)
		switch {
		case h.ctx.Err() != nil:
			h.leave()
			return
		case err != nil:
			h.Logger.Warn("webhooks: a log cannot be read; trying again", "endpoint", h.id, "build", h.BuildID, "error", err)
			h.leave()
			return
		case batch != nil:
			for i := range batch.Events {
				if !h.event(&batch.Events[i]) {
					return
				}
			}
			if h.sent >= shareEvents && h.crowded() {
				h.gaveWay = true
				h.leave()
				return
			}
			if !batch.Ended() {
				continue
			}
		}
		if !h.move(store.Move{Park: true}) {
			return
		}
	}
}

// next waits for the next batch, nil where the log has been quiet for a while.
func (h *holding) next(cursor *live.Cursor) (*live.Batch, error) {
	batch, err := cursor.Take(h.ctx)
	if batch != nil || err != nil {
		return batch, err
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.idle())
	defer cancel()
	defer h.awake()
	batch, err = cursor.Next(ctx)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		return nil, nil
	}
	return batch, err
}

// event delivers one event and reports whether the cursor is still held.
func (h *holding) event(e *buildcast.Event) bool {
	if !h.target.Load().Matches(e.Type) {
		h.Next = e.ID + 1 // stored with the next move
		return true
	}
	if !h.gate.enter(h.ctx) {
		h.leave()
		return false
	}
	o := h.attempt(h.target.Load(), e, 1)
	h.gate.leave()
	h.sent++
	switch {
	case o.ok:
		h.succeeded()
		h.Next = e.ID + 1
		return h.move(store.Move{})
	case o.cancelled || !h.failed(key{e.BuildID, e.ID}, o):
		h.leave() // the event stays where it is
		return false
	}
	return h.record(e, o)
}

// record stores that the event has failed and that the cursor is past it, and
// reports whether the cursor is still held.
func (h *holding) record(e *buildcast.Event, o outcome) bool {
	h.Next = e.ID + 1
	d := h.newDelivery(e, o)
	held := h.move(store.Move{Failed: &d, Block: h.target.Load().Ordering == buildcast.OrderingStrict})
	h.expect(d.RetryAt)
	return held
}

// skip passes over events that the endpoint does not want, and reports whether
// there is one that it wants. Otherwise the cursor is let go of.
func (h *holding) skip() bool {
	for {
		events, err := h.Log.Read(h.ctx, h.BuildID, h.Next-1, skipEvents)
		if err != nil {
			h.leaveUntil(time.Now().Add(pollTime))
			return false
		}
		for i := range events {
			if h.target.Load().Matches(events[i].Type) {
				h.head = &events[i]
				return true
			}
			h.Next = events[i].ID + 1
		}
		if len(events) == 0 && !h.move(store.Move{Park: true}) {
			return false
		}
	}
}

// move stores how far the cursor has come, and reports whether it is still held.
func (h *holding) move(m store.Move) bool {
	m.Cursor = h.Cursor
	if m.Park {
		h.mu.Lock()
		h.missed = false // what is committed from here on, the parking notices, or released does
		h.mu.Unlock()
	}
	moved, ok := h.moves.move(m)
	return ok && moved.Held && !moved.Parked
}

// leave lets go of the cursor where it stands.
func (h *holding) leave() { h.leaveUntil(time.Now()) }

func (h *holding) leaveUntil(due time.Time) { h.move(store.Move{Leave: &due}) }
