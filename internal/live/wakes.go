package live

import (
	"context"
	"sync"
)

// wakeQueue holds the feeds whose cursors are to be woken. A feed is in it once
// at most, so it is bounded by the builds that are watched.
type wakeQueue struct {
	filled chan struct{} // capacity 1: there is something for a worker that waits

	mu    sync.Mutex
	feeds []*feed
}

func (q *wakeQueue) push(f *feed) {
	q.mu.Lock()
	q.feeds = append(q.feeds, f)
	q.mu.Unlock()
	q.signal()
}

func (q *wakeQueue) signal() {
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// pop takes the feed that has waited longest, or nil if none waits.
func (q *wakeQueue) pop() (f *feed, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.feeds) == 0 {
		q.feeds = nil
		return nil, false
	}
	f = q.feeds[0]
	q.feeds = q.feeds[1:]
	return f, len(q.feeds) > 0
}

// run wakes feeds until ctx ends.
func (q *wakeQueue) run(ctx context.Context) {
	for {
		select {
		case <-q.filled:
		case <-ctx.Done():
			return
		}
		for f, more := q.pop(); f != nil; f, more = q.pop() {
			if more {
				q.signal() // another worker can help
			}
			f.wakeAll()
		}
	}
}
