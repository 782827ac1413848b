package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/backoff"
	"github.com/buildcast/buildcast/internal/egress"
	"github.com/buildcast/buildcast/internal/pipeline/cached"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/pipeline/workspace"
	"github.com/buildcast/buildcast/internal/runner"
)

// The environment variables that mark a build's processes.
const (
	envBuildID   = "BUILDCAST_BUILD_ID"
	envWorkspace = "BUILDCAST_WORKSPACE"
	envTask      = "BUILDCAST_TASK" // a task's name, or install or build
)

// work continues the build from the end of its log. It returns errOver when it has
// reported the last event, or the cause of ctx's end.
func (r *run) work(ctx context.Context) error {
	if err := r.whenPossible(ctx, func() error { return r.openSpace(ctx) }); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return r.end(buildcast.BuildFailed, report.BuildFailed{Failure: r.failureOf(err)})
	}
	r.journal.Report(buildcast.PlanStarted, r.started())
	if err := r.mayRun(); err != nil {
		return r.end(buildcast.BuildFailed, report.BuildFailed{Failure: report.Failure{Error: runner.Clean(err.Error())}.Of("the build")})
	}
	r.beginPlanning()
	if err := r.plan(ctx); err != nil {
		return err
	}
	r.journal.Report(buildcast.PlanGenerated, r.generated())
	r.reportTaken()
	if len(r.past.Completed) > 0 && !r.space.Kept {
		r.journal.Output(report.Source{}, []string{"[the build continues in a new workspace: completed tasks run again, without events]"})
	}
	if err := r.openSecrets(); err != nil {
		return r.end(buildcast.BuildFailed, report.BuildFailed{Failure: r.failureOf(err)})
	}
	if err := r.runTasks(ctx); err != nil {
		return err
	}
	return r.runDeploy(ctx)
}

// shortFor is how long a step waits for descriptors, processes or memory.
const shortFor = time.Minute

// whenPossible runs the step, and repeats it while the machine is short of
// descriptors, processes or memory: watchers use them too, and a build must not
// fail because of watchers.
func (r *run) whenPossible(ctx context.Context, step func() error) error {
	retry := backoff.Backoff{Min: 50 * time.Millisecond, Max: time.Second}
	for begun := time.Now(); ; {
		err := step()
		if !runner.Transient(err) || time.Since(begun) >= shortFor || ctx.Err() != nil {
			return err
		}
		if retry.Failures() == 0 {
			r.log.Warn("a step of the build waits: this machine is short of something", "for", shortFor, "error", err)
		}
		retry.Wait(ctx, err)
	}
}

// openSpace opens the workspace, and ends the processes of earlier runs in it.
func (r *run) openSpace(ctx context.Context) (err error) {
	p := r.pipeline
	owner := workspace.Owner{BuildID: r.build.ID, Created: r.build.CreatedAt}
	r.space, err = workspace.Open(p.config.Dir, p.config.Label(r.build.ID), owner, func(n *workspace.New) (workspace.Contents, error) {
		return r.fill(ctx, n)
	})
	if err != nil {
		return fmt.Errorf("make the workspace: %w", err)
	}
	r.results = cached.New(cached.Config{
		Build: &r.build, Root: r.space.Root(), Cache: p.config.Cache, Platform: p.platform,
		Sandbox: p.config.Runner.Sandbox(), Journal: r.journal, Log: r.log,
	})
	r.killStrays() // also if the workspace is new: its path may be the same
	return nil
}

// killStrays kills processes that left their command's process group, or that
// outlived a killed server.
func (r *run) killStrays() {
	if r.space == nil || r.build.Plan == nil || !hasCommands(r.build.Plan) {
		return
	}
	n, err := runner.KillMarked(envBuildID+"="+r.build.ID, envWorkspace+"="+r.space.Path())
	if n > 0 || err != nil {
		r.log.Warn("processes of the build were left over", "killed", n, "error", err)
	}
}

// mayRun returns why the build cannot run on this server. It asks before anything is
// done for the build, because a planner may cost money.
func (r *run) mayRun() error {
	if planned := r.build.Planned(); planned || r.build.Plan != nil && hasCommands(r.build.Plan) {
		return r.pipeline.config.Runner.May(planned)
	}
	return nil
}

func hasCommands(p *buildcast.Plan) bool {
	for _, t := range p.Tasks {
		if t.Run != "" {
			return true
		}
	}
	return p.Install != "" || p.Build != "" || p.Detect
}

// attempt runs the task once: it writes the files, then runs the command.
func (r *run) attempt(ctx context.Context, about report.Task, t *buildcast.Task) (done report.TaskCompleted, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{v, debug.Stack()}
		}
	}()
	began := time.Now()
	write := func() error { return r.space.WriteFiles(ctx, about.Index, t.Files) }
	if err := r.whenPossible(ctx, write); err != nil {
		return done, err
	}
	planned, err := r.writePlanned(ctx, about, t)
	if err != nil {
		return done, err
	}
	var reused report.Reused
	if t.Run != "" {
		c := r.command(t.Run, t.Name, report.Source{TaskName: t.Name})
		c.Timeout, c.TimeoutOf = time.Duration(t.Timeout), fmt.Sprintf("timeout of task %q in the plan", t.Name)
		if reused, err = r.results.Run(ctx, r.results.Task(ctx, t), func() error { return r.runCommand(ctx, c, taskAccess(t)) }); err != nil {
			return done, err
		}
	}
	return report.TaskCompleted{Task: about, Reused: reused, FilesCreated: len(t.Files) + planned, DurationMS: time.Since(began).Milliseconds()}, nil
}

// panicked carries a worker's panic to the goroutine that fails the build.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprint(p.value) }

// command returns a command in the build's workspace.
func (r *run) command(script, name string, from report.Source) runner.Spec {
	return runner.Spec{
		Script: script,
		Dir:    r.space.Path(), Home: r.space.Home(), Temp: r.space.Temp(),
		Env:     r.environment(name, from),
		Mask:    r.mask,
		Output:  func(lines []string) { r.journal.Output(from, lines) },
		Planned: r.build.Planned(),
	}
}

// runCommand runs the command, to which the network is open as far as access says.
// It waits while the machine is short of what the command needs to start.
func (r *run) runCommand(ctx context.Context, c runner.Spec, access egress.Access) error {
	return r.whenPossible(ctx, func() error {
		c := c // connect changes it, for each attempt
		end, err := r.connect(&c, access)
		if err != nil {
			return err
		}
		defer end()
		_, err = r.pipeline.config.Runner.Run(ctx, c)
		return r.explainOff(err, access)
	})
}

// failureOf describes an error to users. The cause may hold the server's own paths,
// so it goes only to the server's log.
func (r *run) failureOf(err error) report.Failure {
	if f, ok := errors.AsType[*runner.Failure](err); ok {
		return report.Failure{Error: runner.Clean(r.mask.String(f.Reason)), ExitCode: f.ExitCode, Output: f.Tail}
	}
	if f, ok := failurePlanning(err); ok {
		r.log.Info("a planner gave no answer", "error", err, "cause", errors.Unwrap(err))
		return f
	}
	r.log.Warn("a step of the build failed", "error", r.mask.String(err.Error()))
	if e, ok := errors.AsType[*buildcast.Error](err); ok {
		return report.Failure{Error: runner.Clean(r.mask.String(e.Message))}
	}
	return report.Failure{Error: "the server could not continue the build; the server's log has the reason"}
}
