package live

import (
	"context"
	"sync"
)

// wakeQueue holds the feeds whose cursors are to be woken. A feed is in it at most
// once, so the watched builds bound its length.
type wakeQueue struct {
	filled chan struct{} // capacity 1: there is a feed for a worker that waits

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

// pop removes the feed that has waited longest; nil if there is none.
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
