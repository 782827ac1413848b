package delivery

import (
	"context"
	"slices"
	"sync"
	"time"
)

// gate bounds how many requests are under way to one endpoint, and how many
// begin in a second. Callers that wait are let in in the order in which they came.
type gate struct {
	mu      sync.Mutex
	limit   int
	inside  int
	waiting []chan struct{}
	spacing time.Duration // between two requests; 0: no limit
	next    time.Time     // when the next one may begin
}

// set changes the bounds. rate is requests a second, 0 for no limit.
func (g *gate) set(limit, rate int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit, g.spacing = limit, 0
	if rate > 0 {
		g.spacing = time.Second / time.Duration(rate)
	}
	g.admit()
}

// pause lets no request begin before a time.
func (g *gate) pause(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.next) {
		g.next = until
	}
}

// resume ends a pause for callers that have not been let in yet.
func (g *gate) resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next = time.Time{}
}

// enter waits to be let in, and reports false if ctx ends first. A caller that is
// let in must leave.
func (g *gate) enter(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	g.mu.Lock()
	let := make(chan struct{})
	g.waiting = append(g.waiting, let)
	g.admit()
	g.mu.Unlock()
	select {
	case <-let:
	case <-ctx.Done():
		g.mu.Lock()
		i := slices.Index(g.waiting, let)
		if i >= 0 {
			g.waiting = slices.Delete(g.waiting, i, i+1)
		}
		g.mu.Unlock()
		if i < 0 { // let in meanwhile
			g.leave()
		}
		return false
	}
	if g.turn(ctx) {
		return true
	}
	g.leave()
	return false
}

// turn waits for the next time at which a request may begin.
func (g *gate) turn(ctx context.Context) bool {
	g.mu.Lock()
	now := time.Now()
	at := g.next
	if at.Before(now) {
		at = now
	}
	if g.spacing > 0 {
		g.next = at.Add(g.spacing)
	}
	g.mu.Unlock()
	if !at.After(now) {
		return true
	}
	timer := time.NewTimer(at.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.admit()
}

func (g *gate) admit() {
	for g.inside < g.limit && len(g.waiting) > 0 {
		g.inside++
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
	}
}
