package delivery

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/buildcast/buildcast/internal/store"
)

const (
	// maxMoves bounds one transaction of moves.
	maxMoves = 512

	// refusedWait is how long a cursor rests whose move the store refused.
	refusedWait = time.Minute
)

// mover stores the moves of all cursors together: while one transaction runs, the
// next moves gather. The held cursors bound how many wait.
type mover struct {
	store  Cursors
	owner  string
	logger *slog.Logger
	work   chan struct{} // capacity 1: something waits

	mu      sync.Mutex
	waiting []waitingMove
	// refused are the cursors whose moves the store refused, until it has released
	// them: their leases are renewed with all others.
	refused []store.Cursor
}

type waitingMove struct {
	move   store.Move
	answer chan moveAnswer // capacity 1
}

type moveAnswer struct {
	moved store.Moved
	ok    bool // false: the move is not stored
}

func newMover(s Cursors, owner string, logger *slog.Logger) *mover {
	return &mover{store: s, owner: owner, logger: logger, work: make(chan struct{}, 1)}
}

// move stores one move. It reports false if the store refuses the move or the
// mover ends first: the cursor is then no longer the caller's.
func (m *mover) move(v store.Move) (store.Moved, bool) {
	w := waitingMove{v, make(chan moveAnswer, 1)}
	m.mu.Lock()
	m.waiting = append(m.waiting, w)
	m.mu.Unlock()
	select {
	case m.work <- struct{}{}:
	default:
	}
	a := <-w.answer
	return a.moved, a.ok
}

// run stores moves until idle is closed: nobody moves a cursor any more. After ctx
// has ended it answers that moves are not stored.
func (m *mover) run(ctx context.Context, idle <-chan struct{}) {
	for {
		select {
		case <-m.work:
		case <-idle:
			return
		}
		for group := m.take(); len(group) > 0; group = m.take() {
			m.storeAll(ctx, group)
		}
	}
}

func (m *mover) take() []waitingMove {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := min(len(m.waiting), maxMoves)
	group := m.waiting[:n:n]
	m.waiting = append([]waitingMove(nil), m.waiting[n:]...)
	return group
}

// storeAll stores the moves of the group, and answers each. While the store is away
// the cursors wait here. If the store refuses the group, each half is stored by
// itself, so that a move which can never be stored fails alone.
func (m *mover) storeAll(ctx context.Context, group []waitingMove) {
	moves := make([]store.Move, len(group))
	for i := range group {
		moves[i] = group[i].move
	}
	answers, err := m.try(ctx, moves)
	switch {
	case err == nil:
		for i := range group {
			group[i].answer <- moveAnswer{answers[i], true}
		}
	case ctx.Err() == nil && len(group) > 1:
		half := len(group) / 2
		m.storeAll(ctx, group[:half])
		m.storeAll(ctx, group[half:])
	default:
		if ctx.Err() == nil {
			m.refuse(ctx, moves[0], err)
		}
		for i := range group {
			group[i].answer <- moveAnswer{}
		}
	}
}

func (m *mover) try(ctx context.Context, moves []store.Move) (answers []store.Moved, err error) {
	err = Persist(ctx, m.logger, "how far deliveries have come", func(ctx context.Context) (err error) {
		answers, err = m.store.MoveCursors(ctx, m.owner, moves)
		return err
	})
	return answers, err
}

// refuse lets go of a cursor whose move the store refuses. If the move would have
// stored a failure, the event that failed is sent again.
func (m *mover) refuse(ctx context.Context, v store.Move, cause error) {
	m.logger.Error("webhooks: the store refuses to move a cursor; its build goes on later",
		"endpoint", v.EndpointID, "build", v.BuildID, "next", v.Next, "wait", refusedWait, "error", cause)
	c := v.Cursor
	if v.Failed != nil {
		c.Next = v.Failed.EventID
	}
	m.mu.Lock()
	m.refused = append(m.refused, c)
	m.mu.Unlock()
	m.release(ctx)
}

// release lets go of the cursors whose moves were refused. Those that the store
// still holds on to are tried again by the next call.
func (m *mover) release(ctx context.Context) {
	m.mu.Lock()
	refused := m.refused
	m.refused = nil
	m.mu.Unlock()
	var left []store.Cursor
	for _, c := range refused {
		due := time.Now().Add(refusedWait)
		if err := Bounded(ctx, func(ctx context.Context) error {
			_, err := m.store.MoveCursors(ctx, m.owner, []store.Move{{Cursor: c, Leave: &due}})
			return err
		}); err != nil {
			m.logger.Warn("webhooks: a cursor cannot be released; trying again", "endpoint", c.EndpointID, "build", c.BuildID, "error", err)
			left = append(left, c)
		}
	}
	m.mu.Lock()
	m.refused = append(m.refused, left...)
	m.mu.Unlock()
}
