package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/pipeline/workspace"
	"github.com/buildcast/buildcast/internal/runner"
	"github.com/buildcast/buildcast/internal/store"
)

// errNothing is why a retry takes nothing over, in words for its users.
type errNothing struct{ reason string }

func (e errNothing) Error() string { return e.reason }

// fill says what the build's new workspace begins with. That of a retry begins with
// what the other build has completed, if its workspace is still on this machine;
// otherwise the retry runs everything.
func (r *run) fill(ctx context.Context, space *workspace.New) (workspace.Contents, error) {
	empty := workspace.Contents{After: r.past.Status.LastEventID}
	r.nothing = ""
	if r.build.RetryOf == "" || r.build.RetryFrom != buildcast.RetryFailed {
		return empty, nil
	}
	contents, err := r.takeOver(ctx, space)
	if ctx.Err() != nil {
		return empty, context.Cause(ctx)
	}
	why, known := errors.AsType[errNothing](err)
	switch {
	case err == nil:
		contents.After = empty.After
		return contents, nil
	case known:
		r.nothing = why.reason
	case errors.Is(err, workspace.ErrGone):
		r.nothing = "its workspace is no longer on this machine"
	case runner.Transient(err):
		return empty, err // whenPossible repeats it
	default:
		r.nothing = "its workspace cannot be copied; the server's log has the reason"
		r.log.Warn("a retry takes nothing over", "of", r.build.RetryOf, "error", err)
	}
	return empty, nil
}

// takeOver copies the workspace of the build that this one repeats, and returns what
// that build has completed in it.
func (r *run) takeOver(ctx context.Context, space *workspace.New) (none workspace.Contents, err error) {
	p := r.pipeline
	old, past, err := r.readOld(ctx)
	if err != nil {
		return none, err
	}
	if err := p.awaitEnd(ctx, old.ID); err != nil {
		return none, err
	}
	name, owner := p.config.Label(old.ID), workspace.Owner{BuildID: old.ID, Created: old.CreatedAt}
	kept, err := workspace.Look(p.config.Dir, name, owner)
	if err != nil {
		return none, err
	}
	contents := workspace.Contents{Taken: completedIn(kept, past, old.ID), Commands: commandsIn(kept, past)}
	if len(contents.Taken) == 0 {
		return none, nil // an empty workspace is as good
	}
	return contents, space.Copy(ctx, name, owner)
}

// readOld reads the build that this one repeats, and its log.
func (r *run) readOld(ctx context.Context) (old buildcast.Build, past *report.History, err error) {
	err = insist(ctx, func(ctx context.Context) (err error) {
		if old, err = r.pipeline.config.Builds.GetBuild(ctx, r.build.RetryOf); err != nil {
			return err
		}
		past, err = report.ReadHistory(ctx, r.pipeline.config.Log, old)
		return err
	})
	switch code := buildcast.CodeOf(err); {
	case code == buildcast.NotFound:
		return old, nil, errNothing{"it was deleted"}
	case code == buildcast.CursorGone:
		return old, nil, errNothing{"its log is no longer complete"}
	case err != nil:
		return old, nil, err
	}
	if same, err := samePlan(old.Plan, r.build.Plan); err != nil || !same || !old.Status.Phase.Terminal() {
		return old, nil, errors.Join(err, errNothing{"another build has its id now"})
	}
	return old, past, nil
}

func samePlan(a, b *buildcast.Plan) (bool, error) {
	one, err := store.Encode(a)
	if err != nil {
		return false, err
	}
	other, err := store.Encode(b)
	return bytes.Equal(one, other), err
}

// awaitEnd waits until no process of the build is left on this node: a build that was
// cancelled is over before its commands are.
func (p *Pipeline) awaitEnd(ctx context.Context, buildID string) error {
	p.mu.Lock()
	r := p.running[buildID]
	p.mu.Unlock()
	if r == nil {
		return nil
	}
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// completedIn returns the tasks and stages whose files the build's workspace has. A
// stage begins when all tasks have completed: those that ran again without events, too.
func completedIn(kept workspace.Contents, past *report.History, buildID string) []workspace.Step {
	after := kept.After
	for _, d := range past.Stages {
		if d.Event > kept.After {
			after = 0
		}
	}
	steps := append([]workspace.Step{}, kept.Taken...)
	has := map[workspace.Step]bool{}
	for _, s := range steps {
		has[workspace.Step{Task: s.Task, Stage: s.Stage}] = true
	}
	add := func(s workspace.Step, d report.Done) {
		if d.Event <= after || has[s] {
			return
		}
		s.BuildID, s.DurationMS = cmp.Or(d.Origin, buildID), d.DurationMS
		steps = append(steps, s)
	}
	for name, d := range past.Completed {
		add(workspace.Step{Task: name}, d)
	}
	for name, d := range past.Stages {
		add(workspace.Step{Stage: name}, d)
	}
	return steps
}

func commandsIn(kept workspace.Contents, past *report.History) map[string]string {
	found := map[string]string{}
	for _, from := range []map[string]string{kept.Commands, past.Commands} {
		for stage, command := range from {
			if command != "" {
				found[stage] = command
			}
		}
	}
	return found
}

// completedHere returns the tasks whose files this build's workspace has.
func (r *run) completedHere() map[string]bool {
	here := map[string]bool{}
	for _, s := range completedIn(r.space.Contents, r.past, r.build.ID) {
		here[s.Task] = true
	}
	return here
}

// stageHere reports whether this build's workspace has what the stage makes.
func (r *run) stageHere(name string) bool {
	_, ok := r.takenStage(name)
	return ok || r.past.Stages[name].Event > r.space.After
}

// takenStage returns the stage that was taken over from another build.
func (r *run) takenStage(name string) (workspace.Step, bool) {
	for _, s := range r.space.Taken {
		if s.Stage == name {
			return s, true
		}
	}
	return workspace.Step{}, false
}

// reportTakenStage reports the stage as over if it was taken over from another build.
func (r *run) reportTakenStage(s stage) {
	if taken, ok := r.takenStage(s.name); ok {
		e := s.doneEvent()
		e.Reused = reusedFrom(taken)
		r.journal.Report(buildcast.BuildProgress, e)
	}
}

func reusedFrom(s workspace.Step) report.Reused {
	return report.Reused{Cached: true, OriginBuildID: s.BuildID, SavedMS: s.DurationMS}
}

// reportTaken reports the tasks that were taken over, in the plan's order, or why
// nothing was.
func (r *run) reportTaken() {
	if r.nothing != "" {
		r.journal.Output(report.Source{}, []string{fmt.Sprintf("[nothing is taken over from build %s: %s]", r.build.RetryOf, r.nothing)})
	}
	taken := map[string]workspace.Step{}
	for _, s := range r.space.Taken {
		taken[s.Task] = s
	}
	for i, t := range r.build.Plan.Tasks {
		if s, ok := taken[t.Name]; ok {
			about := report.Task{TaskName: t.Name, Index: i + 1, Attempt: 1}
			r.journal.Report(buildcast.TaskStarted, about)
			r.journal.Report(buildcast.TaskCompleted, report.TaskCompleted{Task: about, Reused: reusedFrom(s)})
		}
	}
}
