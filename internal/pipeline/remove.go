package pipeline

import (
	"context"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/workspace"
)

// Remove stops a build that was deleted, and removes its workspace when it has
// stopped. It is called some time after the deletion: a build that was created
// again under the id meanwhile goes on, and keeps its workspace.
func (p *Pipeline) Remove(ctx context.Context, buildID string) error {
	if err := buildcast.ValidateBuildID(buildID); err != nil {
		return err
	}
	p.mu.Lock()
	asked := p.begun
	p.mu.Unlock()
	build, err := p.config.Builds.GetBuild(ctx, buildID)
	exists := err == nil
	if !exists && buildcast.CodeOf(err) != buildcast.NotFound {
		return err // the sweep removes it later
	}
	name := p.config.Label(buildID)

	p.mu.Lock()
	if r := p.running[buildID]; r != nil {
		// The deleted build's run, unless it began after the store was asked or is of
		// the build that exists.
		mine := r.number > asked || exists && (r.created.IsZero() || r.created.Equal(build.CreatedAt))
		r.remove = r.remove || !mine
		p.mu.Unlock()
		if !mine {
			r.stop(errOver)
		}
		return nil
	}
	if exists && workspace.OwnerOf(p.config.Dir, name).Created.Equal(build.CreatedAt) {
		p.mu.Unlock()
		return nil
	}
	// Under the lock: a build that begins now makes its workspace afterwards.
	remove, err := workspace.Discard(p.config.Dir, name)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return remove()
}
