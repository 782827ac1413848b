package delivery

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/webhook/counts"
)

const (
	// maxRequests is how many requests are under way to one endpoint at most.
	maxRequests = 32

	// maxBusy bounds the cursors of one endpoint that this node delivers from at
	// the same time, and so the memory for its backlog (256 KB each). maxHeld also
	// counts the cursors that wait at the end of their logs.
	maxBusy = 128
	maxHeld = 2048

	// maxRetries bounds the retries of one endpoint that are claimed together.
	maxRetries = 32

	// maxFresh bounds the builds of one endpoint that this node was told of and has
	// not claimed yet. The poll finds the others.
	maxFresh = 4096
)

// sender delivers to one endpoint.
type sender struct {
	dispatcher *Dispatcher
	store      Store
	logger     *slog.Logger
	id         string
	endpoint   atomic.Pointer[Endpoint]
	gate       gate
	counts     *counts.Endpoint
	stop       context.CancelFunc
	kick       chan struct{} // capacity 1: there may be something to do

	mu      sync.Mutex
	fresh   map[string]bool        // builds with new events whose cursors are not held here
	held    map[string]*heldCursor // by build
	busy    int                    // held cursors that are not at the end of their log
	broken  broken                 // what the breaker knows
	round   *round                 // the work under way; nil while nothing is sent
	more    bool                   // the last claim took as many cursors as it could: others wait
	retries times                  // when the retries known here are due
}

// round is the work between two openings of the breaker. Its context ends when the
// breaker opens, the endpoint is disabled, or the dispatcher stops.
type round struct {
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

func newSender(d *Dispatcher, ep *Endpoint) *sender {
	n := &sender{
		dispatcher: d, store: d.config.Store, logger: d.config.Logger.With("endpoint", ep.ID), id: ep.ID, counts: d.config.Counts.Of(ep.ID),
		kick: make(chan struct{}, 1), fresh: map[string]bool{}, held: map[string]*heldCursor{},
	}
	n.endpoint.Store(ep)
	return n
}

// update takes over what has changed of the endpoint.
func (n *sender) update(ep *Endpoint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.endpoint.Load()
	if before.Version > ep.Version {
		return
	}
	n.endpoint.Store(ep)
	moved := before.URL != ep.URL
	n.throttle(ep)
	if moved || !before.sending() && ep.sending() {
		n.gate.resume() // the receiver that asked for a pause is healthy again, or no longer the receiver
	}
	if n.round != nil && (moved || !ep.sending()) {
		n.round.cancel()
	}
	n.wake()
}

func (n *sender) wake() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// committed notes that the build's log has grown. The log's writer calls it, so it
// waits for nothing.
func (n *sender) committed(buildID, project string, events []buildcast.Event) {
	ep := n.endpoint.Load()
	if !ep.Follows(buildID, project) || !ep.sending() && !ep.probeDue() {
		return
	}
	if len(ep.Types) > 0 && !slices.ContainsFunc(events, func(e buildcast.Event) bool { return ep.Matches(e.Type) }) {
		return // the cursor passes them over when it is claimed for another reason
	}
	n.hint(buildID)
}

// hint notes that the build's cursor may have something to deliver.
func (n *sender) hint(buildID string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.held[buildID]; h != nil {
		h.missed = true // its feed wakes it; missed is for the case that it is about to end
		return
	}
	if len(n.fresh) < maxFresh {
		n.fresh[buildID] = true
	}
	n.wake()
}

// truncated notes that the build's log was cut from the front, or deleted: a cursor
// that is held is claimed anew, from the store, if it still exists.
func (n *sender) truncated(buildID string) {
	n.mu.Lock()
	h := n.held[buildID]
	n.mu.Unlock()
	if h != nil {
		n.rewound(buildID)
	}
}

// rewound has a held cursor claimed anew: it was put somewhere else.
func (n *sender) rewound(buildID string) {
	n.hint(buildID)
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.held[buildID]; h != nil {
		h.drop()
	}
}

// run works until ctx ends, and returns when all that it started has ended.
func (n *sender) run(ctx context.Context) {
	defer n.endRound()
	var polled time.Time
	for {
		n.mu.Lock()
		stopping := n.broken.stopping
		n.mu.Unlock()
		ep, now := n.endpoint.Load(), time.Now()
		switch {
		case ctx.Err() != nil:
			return
		case stopping != nil:
			n.endRound()
			n.stopped(ctx, stopping)
		case !ep.sending():
			n.endRound()
			n.recall(ctx)
			if ep.probeDue() {
				n.probe(ctx)
			}
		default:
			if n.over() {
				n.endRound()
			}
			poll := now.Sub(polled) >= pollTime
			if poll {
				polled = now
			}
			n.claim(ctx, poll)
		}
		n.wait(ctx, polled)
	}
}

// wait waits for a reason to go on.
func (n *sender) wait(ctx context.Context, polled time.Time) {
	ep, now := n.endpoint.Load(), time.Now()
	until := polled.Add(pollTime)
	if !ep.sending() {
		until = now.Add(pollTime)
		if at := ep.Breaker.ProbeAt; ep.Enabled && at != nil && at.Std().After(now) {
			until = at.Std()
		}
	}
	n.mu.Lock()
	switch {
	case n.broken.stopping != nil: // it could not be stored, and is tried again later
		until = now.Add(pollTime)
	case ep.sending():
		until = n.retries.before(until)
	}
	n.mu.Unlock()
	timer := time.NewTimer(max(time.Until(until), 0))
	defer timer.Stop()
	select {
	case <-n.kick:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// over reports whether the round has ended although the endpoint is sent to: what
// ended the round is undone already.
func (n *sender) over() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.round != nil && n.round.ctx.Err() != nil
}

// endRound ends the work under way and waits for it, no longer than an attempt takes.
func (n *sender) endRound() {
	n.mu.Lock()
	r := n.round
	n.round = nil
	clear(n.fresh) // the poll finds their cursors
	n.mu.Unlock()
	if r != nil {
		r.cancel()
		r.work.Wait()
	}
}
