package pipeline

import (
	"context"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/workspace"
)

// sweepEvery is how often workspaces that are over are looked for.
const sweepEvery = time.Hour

// sweepWorkspaces removes the workspaces of finished builds that were last used
// KeepWorkspace ago, and of builds that no longer exist: those were deleted while
// this node did not run.
func (p *Pipeline) sweepWorkspaces(ctx context.Context) {
	for ctx.Err() == nil {
		entries, err := workspace.List(p.config.Dir)
		if err != nil {
			p.log.Warn("old workspaces are not removed", "error", err)
		}
		for _, e := range entries {
			if ctx.Err() == nil && p.unused(ctx, e) {
				p.discard(e)
			}
		}
		wait(ctx, sweepEvery)
	}
}

// unused reports whether no build will ask for the workspace. It stays if the
// store does not answer.
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
		return true // of a build that was deleted, and created again under its id
	}
	// Not FinishedAt: events carry the time of whoever reports them. A time to come
	// was set by a command, and the server was killed before it could correct it.
	age := time.Since(e.Changed)
	return b.Status.Phase.Terminal() && (age > p.config.KeepWorkspace || age < 0)
}

// discard removes the workspace unless its build has begun meanwhile.
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
