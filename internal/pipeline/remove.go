package pipeline

import (
	"context"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/workspace"
)

// Remove stops a build that was deleted, and removes its workspace when it has
// stopped. It is called some time after the deletion: if a new build was created
// under the same id meanwhile, that build continues and keeps its workspace.
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
		// Stop the run only if it belongs to the deleted build: not if it began after the
		// store was read, and not if it is the run of the existing build.
		newer := r.number > asked || exists && (r.created.IsZero() || r.created.Equal(build.CreatedAt))
		r.remove = r.remove || !newer
		p.mu.Unlock()
		if !newer {
			r.stop(errOver)
		}
		return nil
	}
	if exists && workspace.OwnerOf(p.config.Dir, name).Created.Equal(build.CreatedAt) {
		p.mu.Unlock()
		return nil
	}
	// Hold the lock: a build that begins now creates its workspace afterwards.
	remove, err := workspace.Discard(p.config.Dir, name)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return remove()
}
