package webhook

import (
	"context"
	"sync"
	"time"

	"github.com/buildcast/buildcast/internal/store"
)

// maxMoves bounds one transaction of moves.
const maxMoves = 512

// mover stores the moves of all cursors together: while one transaction runs, the
// next ones gather. What waits is bounded by the cursors that are held.
type mover struct {
	work chan struct{} // capacity 1: something waits

	mu      sync.Mutex
	waiting []moving
}

type moving struct {
	store.Move
	answer chan moved // capacity 1
}

type moved struct {
	store.Moved
	ok bool // false: the mover has ended
}

func newMover() mover { return mover{work: make(chan struct{}, 1)} }

// move stores one move and answers when it is stored; false where the service
// ends first.
func (m *mover) move(v store.Move) (store.Moved, bool) {
	w := moving{v, make(chan moved, 1)}
	m.mu.Lock()
	m.waiting = append(m.waiting, w)
	m.mu.Unlock()
	select {
	case m.work <- struct{}{}:
	default:
	}
	a := <-w.answer
	return a.Moved, a.ok
}

// run stores moves until ctx ends and nobody can wait any more.
func (m *mover) run(ctx context.Context, s *Service) {
	for {
		select {
		case <-m.work:
		case <-ctx.Done():
			return
		}
		for group := m.take(); len(group) > 0; group = m.take() {
			m.store(ctx, s, group)
		}
	}
}

func (m *mover) take() []moving {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := min(len(m.waiting), maxMoves)
	group := m.waiting[:n:n]
	m.waiting = append([]moving(nil), m.waiting[n:]...)
	return group
}

func (m *mover) store(ctx context.Context, s *Service, group []moving) {
	moves := make([]store.Move, len(group))
	for i := range group {
		moves[i] = group[i].Move
	}
	// While the store is away the cursors wait here, and none goes on. Once the
	// service drains there is no time for that: the event is sent again.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.attempts, func() { time.AfterFunc(time.Second, cancel) })()
	var answers []store.Moved
	ok := s.persist(ctx, "how far deliveries have come", func(ctx context.Context) (err error) {
		answers, err = s.Store.MoveCursors(ctx, s.Owner, moves)
		return err
	})
	for i := range group {
		a := moved{ok: ok}
		if ok {
			a.Moved = answers[i]
		}
		group[i].answer <- a
	}
}
