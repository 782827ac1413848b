package pipeline

import (
	"context"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/workspace"
)

// sweepEvery is how often old workspaces are removed.
const sweepEvery = time.Hour

// sweepWorkspaces removes the workspaces of finished builds that were last used
// KeepWorkspace ago, and those of builds that no longer exist: the builds were
// deleted while this node did not run.
func (p *Pipeline) sweepWorkspaces(ctx context.Context) {
	for ctx.Err() == nil {
		entries, err := workspace.List(p.config.Dir)
		if err != nil {
			p.log.Warn("old workspaces cannot be removed", "error", err)
		}
		for _, e := range entries {
			if ctx.Err() == nil && p.unused(ctx, e) {
				p.discard(e)
			}
		}
		wait(ctx, sweepEvery)
	}
}

// unused reports whether no build needs the workspace any longer. It returns false
// if the store does not answer.
func (p *Pipeline) unused(ctx context.Context, e workspace.Entry) bool {
	if e.Owner.BuildID == "" { // incomplete: its build starts it over
		return time.Since(e.Changed) > p.config.KeepWorkspace
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	b, err := p.config.Builds.GetBuild(ctx, e.Owner.BuildID)
	if err != nil {
		return buildcast.CodeOf(err) == buildcast.NotFound
	}
	if !b.CreatedAt.Equal(e.Owner.Created) {
		return true // it belongs to a deleted build; a new build has the same id
	}
	// FinishedAt is not used: it is the client's time. A command may have set a time in
	// the future, and the server may have been killed before it corrected that.
	age := time.Since(e.Changed)
	return b.Status.Phase.Terminal() && (age > p.config.KeepWorkspace || age < 0)
}

// discard removes the workspace unless its build has begun to run meanwhile.
func (p *Pipeline) discard(e workspace.Entry) {
	p.mu.Lock()
	if p.running[e.Owner.BuildID] != nil {
		p.mu.Unlock()
		return
	}
	remove, err := workspace.Discard(p.config.Dir, e.Name)
	p.mu.Unlock()
	if err == nil {
		err = remove()
	}
	if err != nil {
		p.log.Warn("an old workspace is not removed yet", "build", e.Owner.BuildID, "error", err)
	}
}
