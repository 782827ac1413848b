package pipeline

import (
	"cmp"
	"context"
	"fmt"

	"github.com/buildcast/buildcast"
)

// deploy runs the install and build commands and brings the output to its target.
func (r *run) deploy(ctx context.Context) {
	target := cmp.Or(r.build.Deploy, r.plan.Deploy, buildcast.DeployLocal)
	if target != buildcast.DeployNone {
		r.report.say(buildcast.DeployStarted, buildcast.DeployStarted, data{"target": target, "message": "Preparing the deploy"})
	}
	r.report.say(buildcast.BuildStarted, buildcast.BuildStarted, data{"message": "Building"})
	for _, stage := range []struct{ name, command string }{{"install", r.plan.Install}, {"build", r.plan.Build}} {
		if stage.command != "" && !r.stage(ctx, stage.name, stage.command) {
			return
		}
	}
	if target == buildcast.DeployNone {
		r.report.say(buildcast.BuildCompleted, buildcast.BuildCompleted, data{"message": "Completed"})
		return
	}
	url, err := r.publish(ctx, target)
	switch {
	case ctx.Err() != nil: // interrupted: it is deployed again, or not wanted
	case err != nil:
		d := explain(data{"target": target}, err)
		d["message"] = fmt.Sprintf("The deploy failed: %v", d["error"])
		r.fail(buildcast.DeployFailed, d)
	default:
		r.report.say(buildcast.DeployCompleted, buildcast.DeployCompleted, data{"previewUrl": url, "target": target, "message": "Deployed"})
	}
}

// stage runs one of the plan's own commands and reports whether the build goes on.
func (r *run) stage(ctx context.Context, name, text string) bool {
	say := func(what string) {
		r.report.say("build_progress/"+name+"/"+what, buildcast.BuildProgress, data{"stage": name, "message": fmt.Sprintf("%s %s", name, what)})
	}
	say("started")
	err := r.command(ctx, text, r.plan.Timeout, name, data{"stage": name})
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		d := explain(data{"stage": name}, err)
		d["message"] = fmt.Sprintf("The %s command failed: %v", name, d["error"])
		r.fail(buildcast.BuildFailed, d)
		return false
	}
	say("completed")
	return true
}

func (r *run) publish(ctx context.Context, name string) (string, error) {
	target, ok := r.Targets[name]
	if !ok {
		return "", buildcast.Errorf(buildcast.InvalidArgument, "this server has no deploy target %s", name).At("deploy")
	}
	dir, err := r.space.output(r.plan.Output)
	if err != nil {
		return "", err
	}
	n := 0
	return target.Deploy(ctx, r.build.ID, dir, func(message string) {
		n++
		r.report.say(fmt.Sprintf("deploy_progress/%d", n), buildcast.DeployProgress, data{"message": message, "target": name})
	})
}
