package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

const (
	// opensAfter is how many events in a row have to fail until it is taken for
	// the endpoint's fault, and not theirs.
	opensAfter = 5

	// Probes begin after probeFirst, and come ever more rarely: some 60 in a day.
	probeFirst = 5 * time.Second
	probeMax   = 30 * time.Minute

	// pingEach is which of the failed probes is followed by a ping, as the event
	// may be one that this endpoint never takes.
	pingEach = 4
)

// broken is what a sender knows of its endpoint's failures.
type broken struct {
	failed   map[key]bool  // the events that failed since one was delivered
	since    time.Time     // when the first of them was sent
	last     time.Time     // when an event was last delivered
	stopping func(*target) // set: how the endpoint is to be changed; nothing is sent until it is
}

// key names an event.
type key struct {
	build string
	id    int64
}

// succeeded notes that an event was delivered.
func (n *sender) succeeded() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken.last = time.Now()
	if len(n.broken.failed) > 0 && n.broken.stopping == nil {
		clear(n.broken.failed)
		n.throttle(n.target.Load())
	}
}

// throttle sets how much may be under way: the more events have failed in a row
// the less, so that few fail until the breaker opens. It is called with the lock held.
func (n *sender) throttle(t *target) {
	n.gate.set(max(1, maxRequests>>len(n.broken.failed)), t.RateLimit)
}

// failed notes that sending an event has failed, and reports whether the failure
// is the event's. Otherwise it is the endpoint's: the event stays where it is.
func (n *sender) failed(e key, o outcome) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := &n.broken
	if b.stopping != nil || n.round == nil || n.round.ctx.Err() != nil {
		return false
	}
	if o.gone {
		n.halt(disabled("the receiver answered 410 Gone"))
		return false
	}
	if o.retryAfter > 0 {
		n.gate.pause(time.Now().Add(o.retryAfter))
	}
	if len(b.failed) == 0 {
		b.failed, b.since = map[key]bool{}, o.At.Std()
	}
	b.failed[e] = true
	n.throttle(n.target.Load())
	if len(b.failed) < opensAfter {
		return true
	}
	n.halt(opened(o))
	return false
}

// hopeless reports that an event has failed for the last time, and that it is the
// event's fault: something was delivered since its first attempt, or the
// endpoint takes a ping. Otherwise the breaker opens.
func (n *sender) hopeless(d buildcast.Delivery, o outcome) bool {
	n.mu.Lock()
	fine := n.broken.last.After(d.CreatedAt.Std())
	n.mu.Unlock()
	if fine || n.ping(n.target.Load()).ok {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken.stopping == nil {
		n.halt(opened(o))
	}
	return false
}

// halt ends the round and has the sender change the endpoint. It is called with
// the lock held.
func (n *sender) halt(change func(*target)) {
	n.broken.stopping = change
	if n.round != nil {
		n.round.cancel()
	}
	n.wake()
}

// stopped does what halt asked for. The work has ended.
func (n *sender) stopped(ctx context.Context, change func(*target)) {
	if !n.change(ctx, func(t *target) bool {
		if !sending(t) {
			return false // another node was first
		}
		change(t)
		return true
	}) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken.stopping = nil
	n.wake()
}

// recall puts the events that failed in a row back to the cursors once nothing is
// sent any more: it was not their fault, and they are to arrive in order.
func (n *sender) recall(ctx context.Context) {
	n.mu.Lock()
	some, since := len(n.broken.failed) > 0, n.broken.since
	n.mu.Unlock()
	if !some || !n.persist(ctx, "that events wait again", func(ctx context.Context) error {
		return n.Store.RecallDeliveries(ctx, n.id, since)
	}) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.broken.failed)
	n.throttle(n.target.Load())
}

// change changes the stored endpoint and goes on with what is stored now. The
// change says whether there is one to make. It reports false where ctx ended or
// the endpoint is gone.
func (n *sender) change(ctx context.Context, change func(*target) bool) bool {
	var t *target
	ok := n.persist(ctx, "the endpoint's breaker", func(ctx context.Context) (err error) {
		t, err = n.alter(ctx, n.id, func(t *target) error {
			if !change(t) {
				return errUnchanged
			}
			return nil
		})
		if errors.Is(err, errUnchanged) {
			err = nil
		}
		return err
	})
	if ok {
		n.update(t)
	}
	return ok
}

var errUnchanged = errors.New("nothing is to be changed")

func opened(o outcome) func(*target) {
	return func(t *target) {
		now := time.Now()
		opened, probe := buildcast.TimeOf(now), buildcast.TimeOf(now.Add(max(jitter(probeFirst), o.retryAfter)))
		t.Breaker = buildcast.Breaker{State: buildcast.BreakerOpen, OpenedAt: &opened, ProbeAt: &probe, Reason: reason(o)}
	}
}

func disabled(why string) func(*target) {
	return func(t *target) { t.Enabled, t.DisabledReason = false, why }
}

// reason is what a failed attempt is called in a line.
func reason(o outcome) string {
	switch {
	case o.Status == 0:
		return o.Error
	case o.Error != "":
		return fmt.Sprintf("status %d: %s", o.Status, o.Error)
	}
	return fmt.Sprintf("status %d", o.Status)
}

// probe tries one event that waits, and closes the breaker where it arrives.
func (n *sender) probe(ctx context.Context) {
	h, d := n.candidate(ctx)
	if h == nil && d == nil {
		return // nothing waits: the next event will be the probe
	}
	if h != nil {
		defer h.drop()
	}
	mine := false
	if !n.change(ctx, func(t *target) bool {
		b := &t.Breaker
		mine = t.Enabled && b.State != buildcast.BreakerClosed && !time.Now().Before(b.ProbeAt.Std())
		if mine {
			// Should this node end in the middle of it, another tries then.
			again := buildcast.TimeOf(time.Now().Add(maxTimeout + 15*time.Second))
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
		h.leave()
	case mine:
		n.probeDelivery(ctx, *d)
	default:
		n.giveBack(*d)
	}
}

// candidate claims what a probe can send: the cursor that has waited longest, with
// an event of the types wanted at its head, or a delivery that is due.
func (n *sender) candidate(ctx context.Context) (*holding, *buildcast.Delivery) {
	for {
		var cursors []store.Cursor
		if err := n.leased(ctx, func(ctx context.Context, now, until time.Time) (err error) {
			cursors, err = n.Store.ClaimCursors(ctx, n.Owner, n.id, nil, now, until, 1)
			return err
		}); err != nil {
			return nil, nil
		}
		if len(cursors) == 0 {
			break
		}
		h := n.hold(&round{ctx: ctx}, cursors[0])
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

// probeCursor sends the event at the cursor's head. The cursor is let go of
// whatever comes of it: a failed one goes behind the others.
func (n *sender) probeCursor(ctx context.Context, h *holding) {
	e := h.head
	o := n.attempt(n.target.Load(), e, 1)
	switch {
	case o.ok:
		h.Next = e.ID + 1
		h.leave()
		n.probed(ctx, o)
	case o.cancelled || !n.probed(ctx, o):
		h.leave()
	case h.record(e, o):
		h.leave()
	}
}

func (n *sender) probeDelivery(ctx context.Context, d buildcast.Delivery) {
	e, err := n.eventOf(d)
	if err != nil || e == nil {
		n.lost(d, err)
		return
	}
	o := n.attempt(n.target.Load(), e, d.Tries+1)
	switch {
	case o.ok:
		n.attempted(&d, o)
		d.State, d.RetryAt = buildcast.DeliveryDelivered, nil
		n.saveDelivery(d)
		n.probed(ctx, o)
	case o.cancelled || !n.probed(ctx, o):
		n.giveBack(d)
	default:
		n.tried(&d, o)
		n.saveDelivery(d)
	}
}

// probed notes what has become of a probe. It reports whether the breaker is
// closed now, so that a failure is the event's.
func (n *sender) probed(ctx context.Context, o outcome) bool {
	ok, failures := o.ok, n.target.Load().Breaker.Failures+1
	if !ok && !o.gone && failures%pingEach == 0 {
		ok = n.ping(n.target.Load()).ok
	}
	if ok {
		n.succeeded()
	}
	n.change(ctx, func(t *target) bool {
		switch {
		case t.Breaker.State == buildcast.BreakerClosed || !t.Enabled:
			return false // somebody closed it, or disabled the endpoint
		case ok:
			t.Breaker = buildcast.Breaker{State: buildcast.BreakerClosed}
		case o.gone:
			disabled("the receiver answered 410 Gone")(t)
			t.Breaker = buildcast.Breaker{State: buildcast.BreakerClosed}
		default:
			wait := max(jitter(min(probeFirst<<min(failures, 20), probeMax)), o.retryAfter)
			at := buildcast.TimeOf(time.Now().Add(wait))
			t.Breaker.State, t.Breaker.Failures, t.Breaker.ProbeAt, t.Breaker.Reason = buildcast.BreakerOpen, failures, &at, reason(o)
		}
		return true
	})
	return ok
}
