package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
)

// leftovers removes the files of deleted builds from this machine's disk. It misses
// some if the server ends, or if another node deletes the build; the sweeps of
// workspaces and previews remove those.
type leftovers struct {
	remove func(ctx context.Context, d deletion) error
	logger *slog.Logger
	work   chan struct{} // capacity 1: something waits

	mu      sync.Mutex
	waiting []deletion
}

// deletion is a deleted build and the time of its deletion.
type deletion struct {
	buildID string
	at      time.Time
}

func newLeftovers(logger *slog.Logger, remove func(context.Context, deletion) error) *leftovers {
	return &leftovers{remove: remove, logger: logger, work: make(chan struct{}, 1)}
}

// removeFiles removes the build's workspace and preview.
func (s *Server) removeFiles(ctx context.Context, d deletion) error {
	return errors.Join(s.pipeline.Remove(ctx, d.buildID), s.previews.Remove(d.buildID, d.at))
}

// buildExists reports whether a build with the id exists.
func (s *Server) buildExists(ctx context.Context, id string) (bool, error) {
	_, err := s.store.GetBuild(ctx, id)
	if buildcast.CodeOf(err) == buildcast.NotFound {
		return false, nil
	}
	return err == nil, err
}

// Changed is the subscription to commits; see eventlog.Log.Subscribe.
func (l *leftovers) Changed(c eventlog.Change) {
	if c.Kind != eventlog.Truncated || !c.Deleted {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, deletion{c.BuildID, time.Now()})
	select {
	case l.work <- struct{}{}:
	default:
	}
}

// run removes files of deleted builds until ctx ends.
func (l *leftovers) run(ctx context.Context) error {
	for {
		select {
		case <-l.work:
		case <-ctx.Done():
			return nil
		}
		l.mu.Lock()
		deletions := l.waiting
		l.waiting = nil
		l.mu.Unlock()
		for _, d := range deletions {
			if err := l.remove(ctx, d); err != nil {
				l.logger.Warn("a deleted build's files are not removed yet; the next sweep removes them", "build", d.buildID, "error", err)
			}
		}
	}
}
