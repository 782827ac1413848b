package server

import (
	"context"
	"math"
	"time"

	"github.com/buildcast/buildcast/internal/cleanup"
)

// newCleanup returns what removes what old builds left. The parts also clean by
// themselves while the server runs.
func (s *Server) newCleanup() *cleanup.Service {
	parts := []cleanup.Part{
		{Name: "previews", Clean: s.previews.Clean},
		{Name: "workspaces", Clean: s.pipeline.CleanWorkspaces},
	}
	if s.cloudflare != nil {
		parts = append([]cleanup.Part{{Name: "cloudflare", Clean: s.cloudflare.Clean}}, parts...)
	}
	if s.cache != nil {
		parts = append(parts, cleanup.Part{Name: "cache", Clean: s.cleanCache})
	}
	return cleanup.New(parts...)
}

// cleanCache removes what was not used since the time; without an age, only what does
// not fit. The cache belongs to no build.
func (s *Server) cleanCache(ctx context.Context, r cleanup.Request, _ func(done, total int)) (removed cleanup.Removed, err error) {
	before := r.Before(time.Now(), math.MaxInt64)
	switch {
	case !r.Every():
		return removed, nil
	case r.DryRun:
		usage, err := s.cache.List(ctx, math.MaxInt32)
		for _, e := range usage.Entries {
			if e.UsedAt.Std().Before(before) {
				removed.Count++ // its blobs may belong to others too, so their size says nothing
			}
		}
		return removed, err
	}
	swept, err := s.cache.Prune(ctx, before)
	return cleanup.Removed{Count: swept.Entries, Bytes: swept.RemovedBytes}, err
}

// Cleanup removes what old builds left, in a server that does not run.
func (s *Server) Cleanup(ctx context.Context, r cleanup.Request, report func(cleanup.Line)) error {
	return s.cleanup.Clean(ctx, r, report)
}
