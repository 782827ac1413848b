package webhook

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

const (
	// maxRequests is how many requests are under way to one endpoint at most.
	maxRequests = 32

	// maxBusy bounds the cursors of one endpoint that this node delivers from at
	// once, and with them the memory for its backlog (256 KB each). Those that wait
	// at the end of their logs come beside: maxHeld bounds both.
	maxBusy = 128
	maxHeld = 2048

	// maxRetries bounds the retries of one endpoint that are claimed at once.
	maxRetries = 32

	// maxFresh bounds the builds of one endpoint that this node has been told of
	// and has not claimed yet; what is beyond is found by the poll.
	maxFresh = 4096
)

// sender delivers to one endpoint.
type sender struct {
	*Service
	id     string
	target atomic.Pointer[target]
	gate   gate
	counts *endpointCounts
	stop   context.CancelFunc
	kick   chan struct{} // capacity 1: there may be something to do

	mu      sync.Mutex
	fresh   map[string]bool     // builds with something new that nobody here holds
	held    map[string]*holding // by build
	busy    int                 // how many of them are not at the end of their log
	broken  broken              // what the breaker knows
	round   *round              // the work that goes on; nil while nothing is sent
	more    bool                // the last claim took all it could: others wait
	retries times               // when retries known here are due
}

// round is the work of one time between two openings of the breaker. Its context
// ends when the breaker opens, the endpoint is disabled, or the service stops.
type round struct {
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

func newSender(s *Service, t *target) *sender {
	n := &sender{Service: s, id: t.ID, counts: s.counts.of(t.ID), kick: make(chan struct{}, 1), fresh: map[string]bool{}, held: map[string]*holding{}}
	n.target.Store(t)
	return n
}

// update takes over what has changed of the endpoint.
func (n *sender) update(t *target) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.target.Load()
	if before.Version > t.Version {
		return
	}
	n.target.Store(t)
	moved := before.URL != t.URL
	n.throttle(t)
	if moved || !sending(before) && sending(t) {
		n.gate.resume() // who asked for a pause is healthy again, or not asked any more
	}
	if n.round != nil && (moved || !sending(t)) {
		n.round.cancel()
	}
	n.wake()
}

// sending reports whether events go out to the endpoint as they come.
func sending(t *target) bool {
	return t.Enabled && t.Breaker.State == buildcast.BreakerClosed
}

// probeDue reports whether the next event will be a probe.
func probeDue(t *target) bool {
	return t.Enabled && t.Breaker.ProbeAt != nil && !time.Now().Before(t.Breaker.ProbeAt.Std())
}

func (n *sender) wake() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// committed notes that the build's log has grown. It is called by the log's
// writer and waits for nothing.
func (n *sender) committed(buildID, project string, events []buildcast.Event) {
	t := n.target.Load()
	if !t.Follows(buildID, project) || !sending(t) && !probeDue(t) {
		return
	}
	if len(t.Types) > 0 && !slices.ContainsFunc(events, func(e buildcast.Event) bool { return t.Matches(e.Type) }) {
		return // whoever comes to its cursor passes them over
	}
	n.hint(buildID)
}

// hint notes that the build's cursor may have something to deliver.
func (n *sender) hint(buildID string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.held[buildID]; h != nil {
		h.missed = true // its own cursor wakes it, unless it is about to end
		return
	}
	if len(n.fresh) < maxFresh {
		n.fresh[buildID] = true
	}
	n.wake()
}

// run works until ctx ends, and ends with all it has started.
func (n *sender) run(ctx context.Context) {
	defer n.endRound()
	var polled time.Time
	for {
		n.mu.Lock()
		stopping := n.broken.stopping
		n.mu.Unlock()
		t, now := n.target.Load(), time.Now()
		switch {
		case ctx.Err() != nil:
			return
		case stopping != nil:
			n.endRound()
			n.stopped(ctx, stopping)
		case !sending(t):
			n.endRound()
			n.recall(ctx)
			if probeDue(t) {
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
	t, now := n.target.Load(), time.Now()
	until := polled.Add(pollTime)
	if !sending(t) {
		until = now.Add(pollTime)
		if at := t.Breaker.ProbeAt; t.Enabled && at != nil && at.Std().After(now) {
			until = at.Std()
		}
	}
	n.mu.Lock()
	switch {
	case n.broken.stopping != nil: // it could not be stored: not again at once
		until = now.Add(pollTime)
	case sending(t):
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

// over reports whether the round has ended for a while only: what stopped it is
// undone already.
func (n *sender) over() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.round != nil && n.round.ctx.Err() != nil
}

// endRound ends the work under way and waits for it: no longer than an attempt takes.
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

// claim takes what there is to do, and starts it.
func (n *sender) claim(ctx context.Context, poll bool) {
	n.mu.Lock()
	if n.round == nil {
		n.round = &round{}
		n.round.ctx, n.round.cancel = context.WithCancel(ctx)
		poll = true
	}
	r := n.round
	room := max(min(maxBusy-n.busy, maxHeld-len(n.held)), 0)
	fresh := make([]string, 0, min(len(n.fresh), room))
	for id := range n.fresh {
		if len(fresh) == room {
			break
		}
		fresh = append(fresh, id)
		delete(n.fresh, id)
	}
	any := poll || n.more
	n.more = any && room == len(fresh) // what has no place now has it later
	retries := n.retries.take(time.Now()) || poll
	n.mu.Unlock()

	if len(fresh) > 0 {
		n.claimCursors(r, fresh, len(fresh))
		room -= len(fresh)
	}
	if any && room > 0 {
		claimed := n.claimCursors(r, nil, room)
		n.mu.Lock()
		n.more = n.more || claimed == room
		n.mu.Unlock()
	}
	if retries {
		n.claimRetries(r)
	}
}

// claimCursors claims those of the builds, or any that are due, and works on each.
func (n *sender) claimCursors(r *round, builds []string, limit int) int {
	var cursors []store.Cursor
	err := n.leased(r.ctx, func(ctx context.Context, now, until time.Time) (err error) {
		cursors, err = n.Store.ClaimCursors(ctx, n.Owner, n.id, builds, now, until, limit)
		return err
	})
	if err != nil {
		if r.ctx.Err() == nil {
			n.Logger.Warn("webhooks: cursors cannot be claimed; trying again", "endpoint", n.id, "error", err)
		}
		return 0
	}
	for _, c := range cursors {
		h := n.hold(r, c)
		n.mu.Lock()
		n.held[c.BuildID] = h
		n.busy++
		n.mu.Unlock()
		r.work.Go(func() {
			h.run()
			n.released(h)
		})
	}
	return len(cursors)
}

func (n *sender) hold(r *round, c store.Cursor) *holding {
	h := &holding{sender: n, round: r, Cursor: c}
	h.ctx, h.drop = context.WithCancel(r.ctx)
	return h
}

// rewound has a held cursor looked at anew: it is somewhere else now.
func (n *sender) rewound(buildID string) {
	n.hint(buildID)
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.held[buildID]; h != nil {
		h.drop()
	}
}

// released notes that a cursor is held no more. What was committed while it
// ended may have a new one.
func (n *sender) released(h *holding) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held[h.BuildID] == h { // else it was taken away, and claimed here again
		delete(n.held, h.BuildID)
	}
	n.busy--
	if h.missed {
		n.fresh[h.BuildID] = true
	}
	n.more = n.more || h.gaveWay
	if n.othersWait() {
		n.wake()
	}
}

// idle notes that a held cursor waits at the end of its log, and gives how long
// it may: the more there are the shorter.
func (n *sender) idle() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy--
	if n.othersWait() {
		n.wake()
	}
	if len(n.held) > maxHeld/2 {
		return idleTime / 10
	}
	return idleTime
}

// awake notes that it goes on.
func (n *sender) awake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy++
}

// crowded reports whether others wait for the place of a held cursor.
func (n *sender) crowded() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.othersWait()
}

func (n *sender) othersWait() bool { return n.more || len(n.fresh) > 0 }
