package pipeline

import (
	"context"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/workspace"
)

// sweepEvery is how often workspaces that are over are looked for.
const sweepEvery = time.Hour

// sweepWorkspaces removes workspaces of builds that ended KeepWorkspace ago, or
// are not there any more.
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

// unused reports whether no build will ask for the workspace. Where the store
// cannot say, it stays.
func (p *Pipeline) unused(ctx context.Context, e workspace.Entry) bool {
	if e.Owner.BuildID == "" { // not whole: its build makes it anew
		return time.Since(e.Changed) > p.config.KeepWorkspace
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	b, err := p.config.Builds.GetBuild(ctx, e.Owner.BuildID)
	if err != nil {
		return buildcast.CodeOf(err) == buildcast.NotFound
	}
	end := b.Status.FinishedAt
	return !b.CreatedAt.Equal(e.Owner.Created) || end != nil && time.Since(end.Std()) > p.config.KeepWorkspace
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
