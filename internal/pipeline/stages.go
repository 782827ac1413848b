package pipeline

import (
	"cmp"
	"context"
	"os"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/detect"
	"github.com/buildcast/buildcast/internal/pipeline/cached"
	"github.com/buildcast/buildcast/internal/pipeline/report"
)

// stage is install or build: a command after the tasks. began and ended are the
// percent of the deploying phase at its two ends.
type stage struct {
	name, doing, done string
	script            string         // empty: there is nothing to do
	found             detect.Command // how script was found; zero: it is the plan's
	began, ended      int
}

// installStage returns the install stage. It is called after the tasks.
func (r *run) installStage() (stage, error) {
	s := stage{name: report.Install, doing: "Installing", done: "Installed", script: r.build.Plan.Install, began: 0, ended: 40}
	if s.script != "" || !r.build.Plan.Detect {
		return s, nil
	}
	if b, err := r.buildStage(); err != nil || b.script == "" {
		return s, err // nothing needs what would be installed
	}
	return r.find(s, detect.Install)
}

// buildStage returns the build stage. It is called after the install stage, which may
// have brought the files that decide it.
func (r *run) buildStage() (stage, error) {
	s := stage{name: report.Build, doing: "Building", done: "Built", script: r.build.Plan.Build, began: 40, ended: deployBegan}
	if s.script != "" || !r.build.Plan.Detect {
		return s, nil
	}
	return r.find(s, detect.Build)
}

// find finds the stage's command in the workspace. What an earlier run began stays:
// an install that was cut off may have written a lock file already.
func (r *run) find(s stage, look func(*os.Root) (detect.Command, error)) (_ stage, err error) {
	command := r.space.Commands[s.name]
	if r.space.Kept {
		command = cmp.Or(r.past.Commands[s.name], command)
	}
	found, ok := detect.Known(command)
	if !ok {
		found, err = look(r.space.Root())
	}
	s.script, s.found = found.Script, found
	return s, err
}

// runStages runs install and build, or restores what they made. built reports whether
// there is a build command. It returns the same errors as work.
func (r *run) runStages(ctx context.Context) (built bool, err error) {
	var steps cached.Stages
	defer func() { steps.Release() }()
	for _, which := range []func() (stage, error){r.installStage, r.buildStage} {
		s, err := which()
		if err != nil {
			return false, r.end(buildcast.BuildFailed, report.BuildFailed{Stage: s.name, Failure: r.failureOf(err).Of("the " + s.name)})
		}
		if s.name == report.Install {
			steps = r.stageSteps(ctx, s)
			if restored, err := r.restoreStages(ctx, s, steps); restored || err != nil {
				return restored, err
			}
		}
		if err := r.runStage(ctx, s, steps); err != nil {
			return false, err
		}
		built = s.script != ""
	}
	return built, nil
}

// stageSteps returns the stages that are to run, as the cache knows them.
func (r *run) stageSteps(ctx context.Context, install stage) (none cached.Stages) {
	build, err := r.buildStage()
	if err != nil || r.over(build) && r.over(install) {
		return none // runStages finds the error again
	}
	return r.results.Stages(ctx, install.script, build.script)
}

// restoreStages restores what the build stage made. Then install is not needed either.
func (r *run) restoreStages(ctx context.Context, install stage, steps cached.Stages) (bool, error) {
	build, err := r.buildStage()
	if err != nil || r.over(build) {
		return false, nil //nolint:nilerr // runStages finds it again
	}
	began := time.Now()
	built, installed, err := r.results.Restore(ctx, steps)
	if err != nil || !built.Cached {
		return false, err
	}
	if installed.Cached {
		r.journal.Report(buildcast.BuildProgress, install.ending(installed, 0))
	}
	r.journal.Report(buildcast.BuildProgress, build.ending(built, time.Since(began).Milliseconds()))
	return true, nil
}

// doneEvent is what is reported when the stage has ended.
func (s stage) doneEvent() report.BuildProgress {
	return report.BuildProgress{Stage: s.name, Message: s.done, Percent: s.ended, Done: true}
}

// over reports whether there is nothing to do for the stage: it has no command, or it
// has completed in this workspace.
func (r *run) over(s stage) bool {
	return s.script == "" || r.stageHere(s.name)
}

// runStage runs the stage's command, unless it is over.
func (r *run) runStage(ctx context.Context, s stage, steps cached.Stages) error {
	if r.over(s) {
		r.reportTakenStage(s)
		return nil
	}
	r.journal.Report(buildcast.BuildProgress, report.BuildProgress{Stage: s.name, Message: s.message(), Percent: s.began, Command: s.found.Script})
	began := time.Now()
	c := r.command(s.script, s.name, report.Source{Stage: s.name})
	c.Timeout, c.TimeoutOf = time.Duration(r.build.Plan.Timeout), "timeout of the plan"
	found, err := r.results.Run(ctx, steps.Of(s.name, s.script), func() error {
		if s.name == report.Install {
			r.fillPackages(ctx)
		}
		return r.runCommand(ctx, c, r.stageAccess(s.name))
	})
	switch {
	case err == nil:
		took := time.Since(began)
		if s.name == report.Install {
			steps.InstallTook(took)
			if !found.Cached {
				r.givePackages(ctx)
			}
		}
		r.journal.Report(buildcast.BuildProgress, s.ending(found, took.Milliseconds()))
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return r.end(buildcast.BuildFailed, report.BuildFailed{Stage: s.name, Failure: s.explain(r.failureOf(err)).Of("the " + s.name + " command")})
}

// ending is what is reported when the stage has run, or its result was found.
func (s stage) ending(found report.Reused, took int64) report.BuildProgress {
	e := s.doneEvent()
	e.DurationMS, e.Reused = took, found
	if found.Cached {
		e.Message += ", from the cache"
	}
	return e
}

// message tells what the stage does.
func (s stage) message() string {
	if s.found.Found != "" {
		return "Found " + s.found.Found + ": " + s.script
	}
	return s.doing
}

// explain adds the fix to a failure if the command's tool is not installed.
func (s stage) explain(f report.Failure) report.Failure {
	if f.ExitCode != nil {
		if fix, ok := s.found.Missing(*f.ExitCode, f.Output); ok {
			f.Error = fix
		}
	}
	return f
}

// outputDir returns the directory to deploy. built reports whether the build stage
// has run.
func (r *run) outputDir(built bool) (string, error) {
	if r.build.Plan.Output != "" || !r.build.Plan.Detect {
		return r.build.Plan.Output, nil
	}
	dir, err := detect.Output(r.space.Root(), built)
	if err == nil {
		r.journal.Report(buildcast.BuildProgress, report.BuildProgress{
			Message: "Found the site in " + cmp.Or(map[string]string{".": "the workspace itself"}[dir], dir), Percent: deployBegan,
		})
	}
	return dir, err
}
