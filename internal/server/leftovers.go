package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/buildcast/buildcast/internal/eventlog"
)

// leftovers removes what deleted builds left on this machine's disk.
type leftovers struct {
	remove []func(buildID string) error
	logger *slog.Logger
	work   chan struct{} // capacity 1: something waits

	mu      sync.Mutex
	waiting []string // build ids
}

func newLeftovers(logger *slog.Logger, remove ...func(buildID string) error) *leftovers {
	return &leftovers{remove: remove, logger: logger, work: make(chan struct{}, 1)}
}

// Changed is told of what has been committed; see eventlog.Log.Subscribe.
func (l *leftovers) Changed(c eventlog.Change) {
	if c.Kind != eventlog.Truncated || !c.Deleted {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, c.BuildID)
	select {
	case l.work <- struct{}{}:
	default:
	}
}

// run removes until ctx ends.
func (l *leftovers) run(ctx context.Context) error {
	for {
		select {
		case <-l.work:
		case <-ctx.Done():
			return nil
		}
		l.mu.Lock()
		ids := l.waiting
		l.waiting = nil
		l.mu.Unlock()
		for _, id := range ids {
			var errs []error
			for _, remove := range l.remove {
				errs = append(errs, remove(id))
			}
			if err := errors.Join(errs...); err != nil {
				l.logger.Warn("a deleted build's files are still there", "build", id, "error", err)
			}
		}
	}
}
