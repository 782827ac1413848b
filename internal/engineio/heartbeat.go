package engineio

import (
	"context"
	"sync"
	"time"
)

// heartbeat holds the time of each session's next ping, or the deadline for its
// pong. All sessions have the same intervals, so two queues in order of time are
// enough, and one goroutine with one timer serves all sessions.
type heartbeat struct {
	interval, timeout time.Duration
	start             time.Time     // times are durations since it
	added             chan struct{} // capacity 1: the queue of pings is no longer empty

	mu    sync.Mutex
	pings beatQueue // sessions to be pinged
	pongs beatQueue // sessions whose answer is awaited
}

// beat is a session's entry in one of the queues. heartbeat.mu guards it.
type beat struct {
	at         time.Duration
	in         *beatQueue // nil: in neither
	prev, next *Session
}

type beatQueue struct{ first, last *Session }

func newHeartbeat(interval, timeout time.Duration) *heartbeat {
	return &heartbeat{interval: interval, timeout: timeout, start: time.Now(), added: make(chan struct{}, 1)}
}

// renew schedules the next ping. It is called at the handshake and at each pong.
func (h *heartbeat) renew(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(s)
	if h.pings.first == nil {
		select {
		case h.added <- struct{}{}:
		default:
		}
	}
	h.pings.push(s, time.Since(h.start)+h.interval)
}

// remove removes a closed session.
func (h *heartbeat) remove(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(s)
}

// expired reports whether the session's deadline has passed, even if run has not
// closed it yet.
func (h *heartbeat) expired(s *Session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	deadline := s.beat.at
	if s.beat.in == &h.pings {
		deadline += h.timeout
	}
	return s.beat.in != nil && time.Since(h.start) >= deadline
}

// run pings sessions and closes those that do not answer, until ctx ends.
func (h *heartbeat) run(ctx context.Context) {
	// Beats that are due within one grain are handled together. A grain is a thousandth
	// of the interval: the delay does no harm, and it bounds how often this goroutine
	// wakes up.
	grain := h.interval / 1000
	timer := time.NewTimer(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.added:
		case <-timer.C:
		}
		ping, late, wait := h.due()
		for _, s := range ping {
			s.ping()
		}
		for _, s := range late {
			s.Close(PingTimeout)
		}
		if wait >= 0 {
			timer.Reset(max(wait, grain))
		}
	}
}

// due removes the beats that are due from the queues. A session to be pinged moves
// to the queue of awaited pongs; its deadline counts from the time when the ping was
// due. wait is the time until the next beat, negative if there is none.
func (h *heartbeat) due() (ping, late []*Session, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Since(h.start)
	for s := h.pongs.first; s != nil && s.beat.at <= now; s = h.pongs.first {
		h.drop(s)
		late = append(late, s)
	}
	for s := h.pings.first; s != nil && s.beat.at <= now; s = h.pings.first {
		h.drop(s)
		h.pongs.push(s, s.beat.at+h.timeout)
		ping = append(ping, s)
	}
	wait = -1
	for _, q := range []*beatQueue{&h.pings, &h.pongs} {
		if q.first != nil && (wait < 0 || q.first.beat.at-now < wait) {
			wait = max(0, q.first.beat.at-now)
		}
	}
	return ping, late, wait
}

func (h *heartbeat) drop(s *Session) {
	if q := s.beat.in; q != nil {
		q.remove(s)
	}
}

func (q *beatQueue) push(s *Session, at time.Duration) {
	s.beat = beat{at: at, in: q, prev: q.last}
	if q.last == nil {
		q.first = s
	} else {
		q.last.beat.next = s
	}
	q.last = s
}

func (q *beatQueue) remove(s *Session) {
	if s.beat.prev == nil {
		q.first = s.beat.next
	} else {
		s.beat.prev.beat.next = s.beat.next
	}
	if s.beat.next == nil {
		q.last = s.beat.prev
	} else {
		s.beat.next.beat.prev = s.beat.prev
	}
	s.beat.in, s.beat.prev, s.beat.next = nil, nil, nil
}
