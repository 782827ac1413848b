package delivery

import (
	"context"
	"time"

	"github.com/buildcast/buildcast/internal/store"
)

// claim claims cursors and retries that are due, and starts the work on them.
func (n *sender) claim(ctx context.Context, poll bool) {
	r, begun := n.currentRound(ctx)
	poll = poll || begun
	n.mu.Lock()
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
	n.more = any && room == len(fresh) // without room for any, cursors that are due wait for the next claim
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

// currentRound returns the round under way, and begins one if there is none.
func (n *sender) currentRound(ctx context.Context) (r *round, begun bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.round == nil {
		begun = true
		n.round = &round{}
		n.round.ctx, n.round.cancel = context.WithCancel(ctx)
	}
	return n.round, begun
}

// claimCursors claims the builds' cursors, or any if builds is nil, and starts the
// work on each. It returns how many it claimed.
func (n *sender) claimCursors(r *round, builds []string, limit int) int {
	cursors, err := n.lease(r.ctx, builds, limit)
	if err != nil {
		if r.ctx.Err() == nil {
			n.logger.Warn("webhooks: cursors cannot be claimed; trying again", "error", err)
		}
		return 0
	}
	for _, c := range cursors {
		h := n.hold(r.ctx, c)
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

func (n *sender) lease(ctx context.Context, builds []string, limit int) (cursors []store.Cursor, err error) {
	err = n.dispatcher.leased(ctx, func(ctx context.Context, now, until time.Time) (err error) {
		cursors, err = n.store.ClaimCursors(ctx, n.dispatcher.config.Owner, n.id, builds, now, until, limit)
		return err
	})
	return cursors, err
}

// released notes that a cursor is no longer held. An event committed while it ended
// may have made a new one.
func (n *sender) released(h *heldCursor) {
	n.mu.Lock()
	defer n.mu.Unlock()
	build := h.cursor.BuildID
	if n.held[build] == h { // otherwise it was taken away, and claimed here again
		delete(n.held, build)
	}
	n.busy--
	if h.missed {
		n.fresh[build] = true
	}
	n.more = n.more || h.gaveWay
	if n.othersWait() {
		n.wake()
	}
}

// resting notes that a held cursor waits at the end of its log. It returns how long
// it may: the more cursors are held, the shorter.
func (n *sender) resting() time.Duration {
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

// working notes that a held cursor goes on.
func (n *sender) working() {
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
