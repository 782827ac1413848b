package pipeline

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deploy"
	"github.com/buildcast/buildcast/internal/pipeline/report"
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
		r.journal.Report(buildcast.DeployStarted, report.DeployStarted{Target: target})
	}
	r.journal.Report(buildcast.BuildStarted, report.Nothing{})
	built, err := r.runStages(ctx)
	if err != nil {
		return err
	}
	if target == buildcast.DeployNone {
		return r.end(buildcast.BuildCompleted, report.Nothing{})
	}
	output, err := r.outputDir(built)
	if err != nil {
		return r.end(buildcast.BuildFailed, report.BuildFailed{Failure: r.failureOf(err).Of("the search for the output")})
	}
	made, err := r.deployTo(ctx, target, output)
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case optional && errors.Is(err, fs.ErrNotExist):
		return r.end(buildcast.BuildCompleted, report.Nothing{})
	}
	r.journal.Report(buildcast.DeployStarted, report.DeployStarted{Target: target})
	if err == nil {
		return r.end(buildcast.DeployCompleted, report.DeployCompleted{Target: target, PreviewURL: runner.Clean(r.mask.String(made.URL)), Ref: r.mask.String(made.Ref)})
	}
	return r.end(buildcast.DeployFailed, report.DeployFailed{Target: target, Failure: r.failureOf(err).Of("the deploy")})
}

func (r *run) deployTo(ctx context.Context, name, output string) (made deploy.Deployment, err error) {
	target, ok := r.pipeline.config.Targets[name]
	if !ok {
		return made, buildcast.Errorf(buildcast.InvalidArgument, "deploy target %q is not set up on this server: use one of %s, or set it up (buildcast serve --help)", name, strings.Join(r.pipeline.targets(), ", ")).At("deploy")
	}
	progress := func(p deploy.Progress) {
		r.journal.Report(buildcast.DeployStarted, report.DeployStarted{Target: name})
		if len(p.Output) > 0 {
			r.journal.Output(report.Source{Stage: deployStage}, p.Output)
			return
		}
		e := report.DeployProgress{Message: runner.Clean(r.mask.String(p.Message)), Uploaded: p.Uploaded, Total: p.Total}
		if p.Percent > 0 {
			e.Percent = deployBegan + p.Percent*(100-deployBegan)/100
		}
		r.journal.Report(buildcast.DeployProgress, e)
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
