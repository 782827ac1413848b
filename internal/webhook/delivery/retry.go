package delivery

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/buildcast/buildcast"
)

// maxAttempts bounds the attempts that are kept of a delivery.
const maxAttempts = 20

// maxRetryAfter bounds what a receiver can ask for.
const maxRetryAfter = 24 * time.Hour

// newDelivery makes the delivery of an event whose first attempt failed.
func (n *sender) newDelivery(e *buildcast.Event, o outcome) buildcast.Delivery {
	now := buildcast.Now()
	d := buildcast.Delivery{
		EndpointID: n.id, BuildID: e.BuildID, EventID: e.ID, EventType: e.Type, State: buildcast.DeliveryRetrying, CreatedAt: now,
	}
	n.tried(&d, o)
	return d
}

// tried notes a failed attempt in the delivery: it is due again as the schedule
// says, or dead after the last attempt.
func (n *sender) tried(d *buildcast.Delivery, o outcome) {
	n.attempted(d, o)
	if d.Tries > len(n.dispatcher.config.Schedule) {
		d.State, d.RetryAt = buildcast.DeliveryDead, nil
		return
	}
	wait := max(jitter(n.dispatcher.config.Schedule[d.Tries-1]), min(o.retryAfter, maxRetryAfter))
	at := buildcast.TimeOf(time.Now().Add(wait))
	d.RetryAt = &at
}

func (n *sender) attempted(d *buildcast.Delivery, o outcome) {
	d.Tries++
	if d.Attempts = append(d.Attempts, o.Attempt); len(d.Attempts) > maxAttempts {
		d.Attempts = d.Attempts[len(d.Attempts)-maxAttempts:]
	}
	d.UpdatedAt = buildcast.Now()
}

// jitter is d ±10 %, so that the retries after an outage do not all come together.
func jitter(d time.Duration) time.Duration {
	return time.Duration((0.9 + 0.2*rand.Float64()) * float64(d)) //nolint:gosec // not a secret
}

// expect has the sender look for retries at a time, if not earlier.
func (n *sender) expect(at *buildcast.Time) {
	if at == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.retries.add(at.Std()) {
		n.wake()
	}
}

// maxTimes bounds the times that a sender keeps. The poll finds retries beyond it.
const maxTimes = 1024

// times are those at which retries are due, the earliest first.
type times []time.Time

// add keeps a time, and reports whether it is the earliest.
func (t *times) add(at time.Time) bool {
	i, found := slices.BinarySearchFunc(*t, at, time.Time.Compare)
	if !found && len(*t) < maxTimes {
		*t = slices.Insert(*t, i, at)
	}
	return i == 0
}

// take removes the times that have come, and reports whether there were any.
func (t *times) take(now time.Time) bool {
	i := 0
	for i < len(*t) && !(*t)[i].After(now) {
		i++
	}
	*t = slices.Delete(*t, 0, i)
	return i > 0
}

// before returns the earliest time, or until if that comes first.
func (t times) before(until time.Time) time.Time {
	if len(t) > 0 && t[0].Before(until) {
		return t[0]
	}
	return until
}

// claimRetries claims retries that are due and makes them.
func (n *sender) claimRetries(r *round) {
	for _, d := range n.dueDeliveries(r.ctx, maxRetries) {
		r.work.Go(func() {
			if !n.gate.enter(r.ctx) {
				n.giveBack(d)
				return
			}
			defer n.gate.leave()
			n.redeliver(d)
		})
	}
}

func (n *sender) dueDeliveries(ctx context.Context, limit int) (due []buildcast.Delivery) {
	err := n.dispatcher.leased(ctx, func(ctx context.Context, now, until time.Time) (err error) {
		due, err = n.store.ClaimDeliveries(ctx, n.dispatcher.config.Owner, n.id, now, until, limit)
		return err
	})
	if err != nil && ctx.Err() == nil {
		n.logger.Warn("webhooks: retries cannot be claimed; trying again", "error", err)
	}
	if len(due) == limit {
		soon := buildcast.Now() // there may be more
		n.expect(&soon)
	}
	return due
}

// redeliver tries a delivery again.
func (n *sender) redeliver(d buildcast.Delivery) {
	claimed := d
	e, err := n.eventOf(d)
	if err != nil || e == nil {
		n.lost(d, err)
		return
	}
	o := n.attempt(n.endpoint.Load(), e, d.Tries+1)
	switch {
	case o.ok:
		n.succeeded()
		n.attempted(&d, o)
		d.State, d.RetryAt = buildcast.DeliveryDelivered, nil
	case o.cancelled, !n.failed(eventKey{d.BuildID, d.EventID}, o), d.Tries >= len(n.dispatcher.config.Schedule) && !n.hopeless(d, o):
		n.giveBack(d) // the endpoint's failure is not the event's
		return
	default:
		n.tried(&d, o)
	}
	n.saveDelivery(d, claimed)
}

// lost deals with a delivery whose event cannot be read, or no longer exists.
func (n *sender) lost(d buildcast.Delivery, err error) {
	if err != nil {
		n.logger.Warn("webhooks: a log cannot be read; trying again", "build", d.BuildID, "error", err)
		d.RetryAt = new(buildcast.TimeOf(time.Now().Add(pollTime))) // without a wait it would be tried as fast as the store fails
		n.giveBack(d)
		return
	}
	claimed := d
	d.State, d.RetryAt = buildcast.DeliveryDead, nil
	n.saveDelivery(d, claimed)
}

// eventOf reads the event of a delivery; nil if it no longer exists.
func (n *sender) eventOf(d buildcast.Delivery) (*buildcast.Event, error) {
	var events []buildcast.Event
	err := Bounded(n.dispatcher.attempts, func(ctx context.Context) (err error) {
		events, err = n.dispatcher.config.Log.Read(ctx, d.BuildID, d.EventID-1, 1)
		return err
	})
	if code := buildcast.CodeOf(err); code == buildcast.CursorGone || code == buildcast.CursorAhead {
		return nil, nil
	}
	if err != nil || len(events) == 0 || events[0].ID != d.EventID {
		return nil, err
	}
	return &events[0], nil
}

// giveBack ends the claim of a delivery that was not tried.
func (n *sender) giveBack(d buildcast.Delivery) { n.saveDelivery(d, d) }

// saveDelivery stores what became of the delivery. If the store refuses that, the
// delivery is stored as it was claimed, due again later: its lease would be renewed
// for ever.
func (n *sender) saveDelivery(d, claimed buildcast.Delivery) {
	save := func(d buildcast.Delivery) error {
		return n.dispatcher.persist(n.dispatcher.attempts, "what became of a retry", func(ctx context.Context) error {
			return n.store.SaveDelivery(ctx, n.dispatcher.config.Owner, d)
		})
	}
	if err := save(d); err != nil && n.dispatcher.attempts.Err() == nil {
		d = claimed
		d.RetryAt = new(buildcast.TimeOf(time.Now().Add(refusedWait)))
		_ = save(d) // logged
	}
	if d.State == buildcast.DeliveryRetrying {
		n.expect(d.RetryAt)
		return
	}
	if d.State == buildcast.DeliveryDead {
		n.dispatcher.config.Reports.dead(d)
	}
	n.hint(d.BuildID) // the cursor that it may have blocked goes on
}
