package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/buildcast/buildcast"
)

const (
	// opensAfter is how many events in a row have to fail until the endpoint is
	// blamed, and not the events.
	opensAfter = 5

	// The first probe comes after probeFirst. The wait doubles with each probe that
	// fails, up to probeMax: some 60 probes in a day.
	probeFirst = 5 * time.Second
	probeMax   = 30 * time.Minute

	// pingEach is how many probes fail until a ping follows: the probes' event may be
	// one that this endpoint never accepts.
	pingEach = 4
)

// broken is what a sender knows of its endpoint's failures.
type broken struct {
	failed   map[eventKey]bool // the events that failed since one was delivered
	since    time.Time         // when the first of them was sent
	last     time.Time         // when an event was last delivered
	stopping func(*Endpoint)   // how the endpoint is to be changed; while it is set nothing is sent
}

// eventKey names an event.
type eventKey struct {
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
		n.throttle(n.endpoint.Load())
	}
}

// throttle sets how many requests may be under way. Each event that fails in a row
// halves them, so that few fail until the breaker opens. The caller holds the lock.
func (n *sender) throttle(ep *Endpoint) {
	n.gate.set(max(1, maxRequests>>len(n.broken.failed)), ep.RateLimit)
}

// failed notes that sending an event failed, and reports whether the failure is the
// event's. Otherwise it is the endpoint's, and the event stays where it is.
func (n *sender) failed(e eventKey, o outcome) bool {
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
		b.failed, b.since = map[eventKey]bool{}, o.At.Std()
	}
	b.failed[e] = true
	n.throttle(n.endpoint.Load())
	if len(b.failed) < opensAfter {
		return true
	}
	n.halt(opened(o))
	return false
}

// hopeless reports whether an event that failed for the last time is itself to blame:
// another event was delivered since its first attempt, or the endpoint accepts a
// ping. Otherwise the breaker opens.
func (n *sender) hopeless(d buildcast.Delivery, o outcome) bool {
	n.mu.Lock()
	fine := n.broken.last.After(d.CreatedAt.Std())
	n.mu.Unlock()
	if fine || n.pinged() {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken.stopping == nil {
		n.halt(opened(o))
	}
	return false
}

// halt ends the round and has the sender change the endpoint. The caller holds the
// lock.
func (n *sender) halt(change func(*Endpoint)) {
	n.broken.stopping = change
	if n.round != nil {
		n.round.cancel()
	}
	n.wake()
}

// stopped changes the endpoint as halt asked. The round's work has ended.
func (n *sender) stopped(ctx context.Context, change func(*Endpoint)) {
	if !n.change(ctx, func(ep *Endpoint) bool {
		if !ep.sending() {
			return false // another node changed it first
		}
		change(ep)
		return true
	}) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken.stopping = nil
	n.wake()
}

// recall puts the cursors back to the first of the events that failed in a row: the
// endpoint was to blame, and the events are to arrive in order. Nothing is sent now.
func (n *sender) recall(ctx context.Context) {
	n.mu.Lock()
	some, since := len(n.broken.failed) > 0, n.broken.since
	n.mu.Unlock()
	if !some {
		return
	}
	if err := n.dispatcher.persist(ctx, "that failed events wait again", func(ctx context.Context) error {
		return n.store.RecallDeliveries(ctx, n.id, since)
	}); err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.broken.failed)
	n.throttle(n.endpoint.Load())
}

// change changes the stored endpoint and goes on with what is stored then. It stores
// nothing if the given function reports that there is nothing to change. It reports
// false if ctx ended or the endpoint no longer exists.
func (n *sender) change(ctx context.Context, change func(*Endpoint) bool) bool {
	var ep *Endpoint
	err := n.dispatcher.persist(ctx, "the endpoint's breaker", func(ctx context.Context) (err error) {
		ep, err = n.dispatcher.config.Endpoints.Alter(ctx, n.id, func(ep *Endpoint) error {
			if !change(ep) {
				return errUnchanged
			}
			return nil
		})
		if errors.Is(err, errUnchanged) {
			err = nil
		}
		return err
	})
	if err == nil {
		n.update(ep)
	}
	return err == nil
}

var errUnchanged = errors.New("nothing is to be changed")

func opened(o outcome) func(*Endpoint) {
	return func(ep *Endpoint) {
		now := time.Now()
		opened, probe := buildcast.TimeOf(now), buildcast.TimeOf(now.Add(max(jitter(probeFirst), o.retryAfter)))
		ep.Breaker = buildcast.Breaker{State: buildcast.BreakerOpen, OpenedAt: &opened, ProbeAt: &probe, Reason: reason(o)}
	}
}

func disabled(why string) func(*Endpoint) {
	return func(ep *Endpoint) { ep.Enabled, ep.DisabledReason = false, why }
}

// reason describes a failed attempt in a line.
func reason(o outcome) string {
	switch {
	case o.Status == 0:
		return o.Error
	case o.Error != "":
		return fmt.Sprintf("status %d: %s", o.Status, o.Error)
	}
	return fmt.Sprintf("status %d", o.Status)
}
