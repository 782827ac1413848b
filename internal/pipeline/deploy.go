package pipeline

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deploy"
	"github.com/buildcast/buildcast/internal/runner"
)

// deployBegan is the percent of the deploying phase at which the target takes over.
const deployBegan = 80

// deployStage is the stage in a build_log that has the output of a deploy command.
const deployStage = "deploy"

// runDeploy runs the steps after the tasks. It returns the same errors as work.
//
// A plan with neither a target nor an output deploys the files that exist. If none
// exist, the build completes without a deploy: deploy_started is reported only
// when the target has found files.
func (r *run) runDeploy(ctx context.Context) error {
	asked := cmp.Or(r.build.Deploy, r.build.Plan.Deploy)
	target := cmp.Or(asked, buildcast.DeployLocal)
	optional := asked == "" && r.build.Plan.Output == ""
	if target != buildcast.DeployNone && !optional {
		r.journal.report(buildcast.DeployStarted, deployStarted{target})
	}
	r.journal.report(buildcast.BuildStarted, nothing{})
	built := false
	for _, which := range []func() (stage, error){r.installStage, r.buildStage} {
		s, err := which()
		if err != nil {
			return r.end(buildcast.BuildFailed, buildFailed{s.name, r.failureOf(err).of("the " + s.name)})
		}
		if err := r.runStage(ctx, s); err != nil {
			return err
		}
		built = s.script != ""
	}
	if target == buildcast.DeployNone {
		return r.end(buildcast.BuildCompleted, nothing{})
	}
	output, err := r.outputDir(built)
	if err != nil {
		return r.end(buildcast.BuildFailed, buildFailed{failure: r.failureOf(err).of("the search for the output")})
	}
	made, err := r.deployTo(ctx, target, output)
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case optional && errors.Is(err, fs.ErrNotExist):
		return r.end(buildcast.BuildCompleted, nothing{})
	}
	r.journal.report(buildcast.DeployStarted, deployStarted{target})
	if err == nil {
		return r.end(buildcast.DeployCompleted, deployCompleted{target, runner.Clean(made.URL), made.Ref})
	}
	return r.end(buildcast.DeployFailed, deployFailed{target, r.failureOf(err).of("the deploy")})
}

// runStage runs the stage's command, unless it has completed in this workspace.
func (r *run) runStage(ctx context.Context, s stage) error {
	done := buildProgress{Stage: s.name, Message: s.done, Percent: s.ended, Done: true}
	if s.script == "" || r.space.Kept && r.journal.has(buildcast.BuildProgress, done) {
		return nil
	}
	r.journal.report(buildcast.BuildProgress, buildProgress{Stage: s.name, Message: s.message(), Percent: s.began, Command: s.found.Script})
	began := time.Now()
	c := r.command(s.script, s.name, source{Stage: s.name})
	c.Timeout, c.TimeoutOf = time.Duration(r.build.Plan.Timeout), "timeout of the plan"
	err := r.runCommand(ctx, c, r.stageAccess(s.name))
	switch {
	case err == nil:
		done.DurationMS = time.Since(began).Milliseconds()
		r.journal.report(buildcast.BuildProgress, done)
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return r.end(buildcast.BuildFailed, buildFailed{s.name, s.explain(r.failureOf(err)).of("the " + s.name + " command")})
}

func (r *run) deployTo(ctx context.Context, name, output string) (made deploy.Deployment, err error) {
	target, ok := r.pipeline.config.Targets[name]
	if !ok {
		return made, buildcast.Errorf(buildcast.InvalidArgument, "deploy target %q is not set up on this server: use one of %s, or set it up (buildcast serve --help)", name, strings.Join(r.pipeline.targets(), ", ")).At("deploy")
	}
	progress := func(p deploy.Progress) {
		r.journal.report(buildcast.DeployStarted, deployStarted{name})
		if len(p.Output) > 0 {
			r.journal.output(source{Stage: deployStage}, p.Output)
			return
		}
		e := deployProgress{Message: runner.Clean(p.Message), Uploaded: p.Uploaded, Total: p.Total}
		if p.Percent > 0 {
			e.Percent = deployBegan + p.Percent*(100-deployBegan)/100
		}
		r.journal.report(buildcast.DeployProgress, e)
	}
	err = r.whenPossible(ctx, func() error {
		dir, err := r.space.Output(output)
		if err == nil {
			made, err = target.Deploy(ctx, deploy.Site{BuildID: r.build.ID, Project: r.build.Project, Dir: dir, Production: r.build.Plan.Production}, progress)
		}
		return err
	})
	return made, err
}
