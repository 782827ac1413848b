package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/planner"
	"github.com/buildcast/buildcast/internal/runner"
)

// Planner makes plans, and files for tasks with a prompt; see planner.Service.
type Planner interface {
	Begin(b planner.Build) *planner.Build
	Plan(ctx context.Context, b *planner.Build, w planner.Watcher) (plan *buildcast.Plan, model string, err error)
	Files(ctx context.Context, b *planner.Build, plan *buildcast.Plan, task planner.Task, context []planner.File, w planner.Watcher) (map[string]buildcast.File, error)
}

const (
	// planningStage is the stage of a build that fails before it has a plan.
	planningStage = "planning"
	// analyzing is the first thing that people see of a build with a prompt.
	analyzing = "Analyzing requirements…"
	// progressEvery is the shortest time between two plan_progress events.
	progressEvery = 250 * time.Millisecond
)

// started is the data of the build's first event.
func (r *run) started() report.PlanStarted {
	e := report.PlanStarted{Sandbox: r.pipeline.config.Runner.Sandbox()}
	if r.build.Prompt != "" {
		e.Message = analyzing
	}
	return e
}

// beginPlanning prepares the build for questions to a planner, if it has any.
func (r *run) beginPlanning() {
	if r.pipeline.config.Planner == nil || !r.build.Planned() {
		return
	}
	r.planning = r.pipeline.config.Planner.Begin(planner.Build{
		ID: r.build.ID, Created: r.build.CreatedAt, Project: r.build.Project, Prompt: r.build.Prompt,
		Planner: r.build.Planner, Fresh: r.build.NoCache, Spent: r.past.Spent(),
	})
}

var errNoPlanner = buildcast.Errorf(buildcast.NoPlanner, "this server has no planner: send a plan without prompts, or start the server with ANTHROPIC_API_KEY or --planner-command")

// plan makes the build's plan, unless it has one. It returns the same errors as work.
//
// The plan is stored before plan_generated is reported, and what it cost before that:
// whoever continues after a crash finds the plan, and its price in the log.
func (r *run) plan(ctx context.Context) error {
	if r.build.Plan != nil {
		return nil
	}
	plan, err := r.askPlan(ctx)
	if err == nil {
		err = r.savePlan(ctx, plan)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case buildcast.CodeOf(err) == buildcast.Fenced:
		return err
	case err != nil:
		return r.end(buildcast.BuildFailed, report.BuildFailed{Stage: planningStage, Failure: r.failureOf(err).Of(planningStage)})
	}
	r.build.Plan = plan
	return nil
}

func (r *run) askPlan(ctx context.Context) (*buildcast.Plan, error) {
	if r.planning == nil {
		return nil, errNoPlanner
	}
	w := &planWatcher{run: r, from: report.Source{Stage: planningStage}}
	w.progress = &throttle{every: progressEvery, pass: r.reportProgress}
	defer w.progress.stop()
	plan, _, err := r.pipeline.config.Planner.Plan(ctx, r.planning, w) // the model is in its usage
	return plan, err
}

func (r *run) savePlan(ctx context.Context, plan *buildcast.Plan) error {
	if err := r.journal.Flush(ctx); err != nil {
		return err
	}
	return insist(ctx, func(ctx context.Context) error {
		return r.pipeline.config.Plans.SavePlan(ctx, r.lease, plan)
	})
}

// generated is the data of plan_generated. Who made the plan is in the log of its
// usage, also if an earlier run made it.
func (r *run) generated() report.PlanGenerated {
	e := report.PlanGenerated{TaskCount: len(r.build.Plan.Tasks), Tasks: report.Names(r.build.Plan.Tasks)}
	if r.build.Prompt != "" {
		e.Planner, e.Model = r.past.PlannedBy()
	}
	return e
}

func (r *run) reportProgress(p planner.Progress) {
	e := report.PlanProgress{Message: runner.Clean(p.Message), Tasks: []string{}, OutputTokens: p.OutputTokens}
	tasks := make([]buildcast.Task, 0, len(p.Tasks))
	for _, name := range p.Tasks {
		tasks = append(tasks, buildcast.Task{Name: runner.Clean(name)})
	}
	e.Tasks = report.Names(tasks)
	r.journal.Report(buildcast.PlanProgress, e)
}

// writePlanned asks the planner for the files of a task with a prompt, and writes
// them. It returns how many they are.
func (r *run) writePlanned(ctx context.Context, about report.Task, t *buildcast.Task) (int, error) {
	if t.Prompt == "" {
		return 0, nil
	}
	if r.planning == nil {
		return 0, errNoPlanner
	}
	context, err := r.contextOf(ctx)
	if err != nil {
		return 0, err
	}
	w := &planWatcher{run: r, from: report.Source{TaskName: t.Name}}
	asked := planner.Task{Name: t.Name, Prompt: t.Prompt}
	files, err := r.pipeline.config.Planner.Files(ctx, r.planning.ForAttempt(about.Attempt), r.build.Plan, asked, context, w)
	if err != nil {
		return 0, err
	}
	return len(files), r.whenPossible(ctx, func() error { return r.space.WriteFiles(ctx, about.Index, files) })
}

// contextOf lists the workspace's files for a planner.
func (r *run) contextOf(ctx context.Context) (files []planner.File, err error) {
	err = r.whenPossible(ctx, func() error {
		texts, err := r.space.Texts(ctx)
		files = make([]planner.File, 0, len(texts))
		for _, t := range texts {
			files = append(files, planner.File(t))
		}
		return err
	})
	return files, err
}

// planWatcher reports what a planner does.
type planWatcher struct {
	run      *run
	from     report.Source
	progress *throttle // nil: only output is reported
}

// Progress reports how far the planner is.
func (w *planWatcher) Progress(p planner.Progress) {
	switch {
	case len(p.Lines) > 0:
		w.run.journal.Output(w.from, p.Lines)
	case w.progress != nil:
		w.progress.put(p)
	}
}

// Answered reports what an answer took.
func (w *planWatcher) Answered(a planner.Answered) {
	e := report.PlannerUsage{
		Purpose: string(a.Purpose), Task: a.Task, Planner: a.Planner, Request: a.Request,
		Usage: a.Usage, Cached: a.Cached, Failed: a.Failed,
	}
	e.Model, e.RequestID = runner.Clean(a.Model), runner.Clean(a.RequestID)
	w.run.journal.Report(buildcast.PlannerUsage, e)
	w.run.past.Answered(e)
}

// failurePlanning describes an error of a planner to users.
func failurePlanning(err error) (report.Failure, bool) {
	e, ok := errors.AsType[*planner.Error](err)
	if !ok {
		return report.Failure{}, false
	}
	return report.Failure{Error: runner.Clean(e.Message), RequestID: runner.Clean(e.RequestID)}, true
}

// throttle passes on the latest progress, at most once each interval.
type throttle struct {
	every time.Duration
	pass  func(planner.Progress)

	mu      sync.Mutex
	passed  time.Time
	waiting planner.Progress
	timer   *time.Timer // runs while something waits
	stopped bool
}

func (t *throttle) put(p planner.Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = p
	if t.stopped || t.timer != nil {
		return
	}
	if wait := t.every - time.Since(t.passed); wait > 0 {
		t.timer = time.AfterFunc(wait, t.passLater)
		return
	}
	t.passNow()
}

func (t *throttle) passLater() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer = nil; !t.stopped {
		t.passNow()
	}
}

func (t *throttle) passNow() {
	t.passed = time.Now()
	t.pass(t.waiting)
}

// stop drops what waits. Nothing is passed on after it.
func (t *throttle) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped = true; t.timer != nil {
		t.timer.Stop()
	}
}
