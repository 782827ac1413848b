package pipeline

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cleanup"
	"github.com/buildcast/buildcast/internal/deploy"
	"github.com/buildcast/buildcast/internal/pipeline/workspace"
)

// sweepEvery is how often old workspaces are removed.
const sweepEvery = time.Hour

// sweepWorkspaces removes old workspaces, now and then each hour.
func (p *Pipeline) sweepWorkspaces(ctx context.Context) {
	for ctx.Err() == nil {
		if _, err := p.CleanWorkspaces(ctx, cleanup.Request{}, func(int, int) {}); err != nil && ctx.Err() == nil {
			p.log.Warn("old workspaces cannot be removed", "error", err)
		}
		wait(ctx, sweepEvery)
	}
}

// CleanWorkspaces removes the workspaces of finished builds that were last used
// KeepWorkspace or KeepFailed ago, and those of builds that no longer exist: the builds
// were deleted while this node did not run. See cleanup.Part.
func (p *Pipeline) CleanWorkspaces(ctx context.Context, r cleanup.Request, progress func(done, total int)) (removed cleanup.Removed, _ error) {
	entries, errs := workspace.List(p.config.Dir)
	for i, e := range entries {
		if ctx.Err() != nil {
			return removed, context.Cause(ctx)
		}
		if !r.Every() && !r.Matches(deploy.Branch(e.Owner.BuildID)) || !p.unused(ctx, e, r) {
			continue
		}
		bytes := cleanup.Size(filepath.Join(p.config.Dir, e.Name))
		gone := r.DryRun
		if !gone {
			var err error
			gone, err = p.discard(e)
			errs = errors.Join(errs, err)
		}
		if gone {
			removed.Add(bytes)
		}
		progress(i+1, len(entries))
	}
	return removed, errs
}

// unused reports whether no build needs the workspace any longer. It returns false
// if the store does not answer.
func (p *Pipeline) unused(ctx context.Context, e workspace.Entry, r cleanup.Request) bool {
	old := e.Changed.Before(r.Before(time.Now(), p.config.KeepWorkspace))
	if e.Owner.BuildID == "" { // incomplete: its build starts it over
		return old
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
	if b.Status.Phase != buildcast.Completed {
		old = e.Changed.Before(r.Before(time.Now(), p.config.KeepFailed))
	}
	return b.Status.Phase.Terminal() && (old || e.Changed.After(time.Now()))
}

// discard removes the workspace unless its build has begun to run meanwhile.
func (p *Pipeline) discard(e workspace.Entry) (removed bool, err error) {
	p.mu.Lock()
	if p.running[e.Owner.BuildID] != nil {
		p.mu.Unlock()
		return false, nil
	}
	remove, err := workspace.Discard(p.config.Dir, e.Name)
	p.mu.Unlock()
	if err == nil {
		err = remove()
	}
	if err != nil {
		p.log.Warn("an old workspace is not removed yet", "build", e.Owner.BuildID, "error", err)
	}
	return err == nil, err
}
