package delivery

import (
	"context"
	"time"

	"github.com/buildcast/buildcast"
)

// probe sends one event that waits. If it arrives the breaker closes.
func (n *sender) probe(ctx context.Context) {
	h, d := n.candidate(ctx)
	if h == nil && d == nil {
		return // nothing waits: the next event is the probe
	}
	if h != nil {
		defer h.drop()
	}
	mine := false // no other node probes
	if !n.change(ctx, func(ep *Endpoint) bool {
		b := &ep.Breaker
		mine = ep.Enabled && b.State != buildcast.BreakerClosed && !time.Now().Before(b.ProbeAt.Std())
		if mine {
			// If this node ends in the middle of the probe, another node probes at that time.
			again := buildcast.TimeOf(time.Now().Add(MaxTimeout + 15*time.Second))
			b.State, b.ProbeAt = buildcast.BreakerHalfOpen, &again
		}
		return mine
	}) {
		return
	}
	switch {
	case h != nil && mine:
		n.probeCursor(ctx, h)
	case h != nil:
		h.leave(time.Now())
	case mine:
		n.probeDelivery(ctx, *d)
	default:
		n.giveBack(*d)
	}
}

// candidate claims what a probe can send: the cursor that has waited longest and has
// an event that the endpoint wants, or a delivery that is due.
func (n *sender) candidate(ctx context.Context) (*heldCursor, *buildcast.Delivery) {
	for {
		cursors, err := n.lease(ctx, nil, 1)
		if err != nil {
			return nil, nil
		}
		if len(cursors) == 0 {
			break
		}
		h := n.hold(ctx, cursors[0])
		if h.skip() {
			return h, nil
		}
		h.drop()
		if ctx.Err() != nil {
			return nil, nil
		}
	}
	if due := n.dueDeliveries(ctx, 1); len(due) > 0 {
		return nil, &due[0]
	}
	return nil, nil
}

// probeCursor sends the event at the cursor's head, and lets go of the cursor whatever
// the outcome: after a failure the cursor waits behind the others.
func (n *sender) probeCursor(ctx context.Context, h *heldCursor) {
	e := h.head
	o := n.attempt(n.endpoint.Load(), e, 1)
	switch {
	case o.ok:
		h.cursor.Next = e.ID + 1
		h.leave(time.Now())
		n.probed(ctx, o)
	case o.cancelled || !n.probed(ctx, o):
		h.leave(time.Now())
	case h.recordFailure(e, o):
		h.leave(time.Now())
	}
}

func (n *sender) probeDelivery(ctx context.Context, d buildcast.Delivery) {
	claimed := d
	e, err := n.eventOf(d)
	if err != nil || e == nil {
		n.lost(d, err)
		return
	}
	o := n.attempt(n.endpoint.Load(), e, d.Tries+1)
	switch {
	case o.ok:
		n.attempted(&d, o)
		d.State, d.RetryAt = buildcast.DeliveryDelivered, nil
		n.saveDelivery(d, claimed)
		n.probed(ctx, o)
	case o.cancelled || !n.probed(ctx, o):
		n.giveBack(d)
	default:
		n.tried(&d, o)
		n.saveDelivery(d, claimed)
	}
}

// probed notes the outcome of a probe. It reports whether the endpoint works, in which
// case the breaker closes and a failure is the event's.
func (n *sender) probed(ctx context.Context, o outcome) bool {
	ok, failures := o.ok, n.endpoint.Load().Breaker.Failures+1
	if !ok && !o.gone && failures%pingEach == 0 {
		ok = n.pinged()
	}
	if ok {
		n.succeeded()
	}
	n.change(ctx, func(ep *Endpoint) bool {
		switch {
		case ep.Breaker.State == buildcast.BreakerClosed || !ep.Enabled:
			return false // somebody closed it, or disabled the endpoint
		case ok:
			ep.Breaker = buildcast.Breaker{State: buildcast.BreakerClosed}
		case o.gone:
			disabled("the receiver answered 410 Gone")(ep)
			ep.Breaker = buildcast.Breaker{State: buildcast.BreakerClosed}
		default:
			wait := max(jitter(min(probeFirst<<min(failures, 20), probeMax)), o.retryAfter)
			at := buildcast.TimeOf(time.Now().Add(wait))
			ep.Breaker.State, ep.Breaker.Failures, ep.Breaker.ProbeAt, ep.Breaker.Reason = buildcast.BreakerOpen, failures, &at, reason(o)
		}
		return true
	})
	return ok
}
