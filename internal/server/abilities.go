package server

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi"
	"github.com/buildcast/buildcast/internal/planner"
)

// abilities is what the server is set up for, as far as the API tells it.
func (s *Server) abilities() httpapi.Abilities {
	can := httpapi.Abilities{
		DefaultPlanner: s.planners.Default(),
		Targets:        []string{buildcast.DeployLocal, buildcast.DeployNone},
		Sandbox:        "none",
	}
	if s.config.Cloudflare.APIToken != "" {
		can.Targets = append(can.Targets, buildcast.DeployCloudflare)
	}
	if s.config.Deploy.Command != "" {
		can.Targets = append(can.Targets, buildcast.DeployCommand)
	}
	slices.Sort(can.Targets)
	for _, name := range s.planners.Names() {
		switch name {
		case planner.Static: // it answers no prompts
		case planner.Anthropic:
			can.Planners = append(can.Planners, httpapi.Planner{Name: name, Model: s.config.Model})
		default:
			can.Planners = append(can.Planners, httpapi.Planner{Name: name})
		}
	}
	if can.DefaultPlanner == planner.Static {
		can.DefaultPlanner = ""
	}
	return can
}

// plans lets the API make plans that no build asked for.
type plans struct{ *planner.Service }

// Plan asks the planner as a build of its own would: within the budgets, and for
// nothing if the answer is kept.
func (p plans) Plan(ctx context.Context, asked httpapi.PlanRequest) (httpapi.Planned, error) {
	b := p.Begin(planner.Build{
		ID: ulid.Make().String(), Created: buildcast.Now(), Project: asked.Project,
		Prompt: asked.Prompt, Planner: asked.Planner, Fresh: asked.NoCache,
	})
	plan, model, err := p.Service.Plan(ctx, b, unwatched{})
	if failed, ok := errors.AsType[*planner.Error](err); ok {
		text := failed.Message
		if failed.RequestID != "" {
			text += " (request " + failed.RequestID + ")"
		}
		return httpapi.Planned{}, buildcast.Errorf(buildcast.PlanningFailed, "%s", text).Because(failed.Err)
	}
	if err != nil {
		return httpapi.Planned{}, err
	}
	return httpapi.Planned{Plan: plan, Planner: cmp.Or(asked.Planner, p.Default()), Model: model}, nil
}

// unwatched is for plans whose making nobody follows.
type unwatched struct{}

func (unwatched) Progress(planner.Progress) {}
func (unwatched) Answered(planner.Answered) {}
