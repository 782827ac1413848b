package cache

import (
	"context"
	"sync"
)

// turns makes callers with the same key work one after the other.
type turns struct {
	mu   sync.Mutex
	held map[ID]*turn
}

type turn struct {
	holder string
	ended  chan struct{}
}

// Turn waits until nobody else has the key's turn, and takes it: of several builds
// with the same work, one does it and the others find it done. waiting is called
// each time the caller has to wait, with the name that the other one gave. The error
// is the cause of ctx's end. The caller calls done when the work is stored, or will
// not be.
func (c *Cache) Turn(ctx context.Context, id ID, name string, waiting func(holder string)) (done func(), err error) {
	for {
		mine, other := c.turns.take(id, name)
		if other == nil {
			return sync.OnceFunc(func() { c.turns.end(id, mine) }), nil
		}
		waiting(other.holder)
		select {
		case <-other.ended:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// take returns the turn that the caller now has, or the one that another has.
func (t *turns) take(id ID, name string) (mine, other *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if other := t.held[id]; other != nil {
		return nil, other
	}
	mine = &turn{holder: name, ended: make(chan struct{})}
	t.held[id] = mine
	return mine, nil
}

func (t *turns) end(id ID, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.held, id)
	close(mine.ended)
}
