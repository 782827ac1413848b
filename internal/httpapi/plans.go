package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/openapi"
	"github.com/buildcast/buildcast/internal/httpapi/query"
)

// maxPlanning is how many plans are made at once for POST /api/plans. Those of builds
// are not among them.
const maxPlanning = 4

// PlanRequest is what a plan is made of, without a build.
type PlanRequest struct {
	Prompt  string   `json:"prompt" minLength:"1" doc:"What the plan is to build, at most 32 KiB"`
	Project string   `json:"project,omitempty" maxLength:"200"`
	Planner string   `json:"planner,omitempty" doc:"One of the planners of GET /api/server; absent means its defaultPlanner"`
	NoCache bool     `json:"noCache,omitempty" doc:"Ask the planner, also if it has answered the same prompt before"`
	_       struct{} `additionalProperties:"false"`
}

// Planned is a plan that a planner has made.
type Planned struct {
	Plan    *buildcast.Plan `json:"plan"`
	Planner string          `json:"planner"`
	Model   string          `json:"model,omitempty"`
}

func (a *api) planRoutes() {
	asked := openapi.Content[PlanRequest](a.doc, body.JSON)
	asked[body.JSON].Example = map[string]any{"prompt": "a landing page for a bakery"}
	a.handle(&huma.Operation{
		Method: http.MethodPost, Path: "/api/plans", OperationID: "createPlan", Tags: []string{"builds"}, Security: openapi.NeedsKey,
		Summary: "Make a plan from a prompt, and run nothing",
		Description: "The answer comes when the planner has made the plan, which may take minutes. What it costs counts in the budgets of the server. " +
			"The same prompt for the same project is answered with the same plan, at no cost, unless noCache is set.",
		RequestBody: openapi.Body(true, asked),
		Responses: a.doc.Answers(openapi.Answer[Planned](http.StatusOK, "The plan. Nothing of it is stored as a build."),
			openapi.Problems(buildcast.InvalidArgument, buildcast.NoPlanner, buildcast.PlanningFailed), openapi.WriteProblems),
	}, a.createPlan)
}

func (a *api) createPlan(w http.ResponseWriter, r *http.Request) error {
	var asked PlanRequest
	if err := a.bodies.Decode(w, r, &asked); err != nil {
		return err
	}
	if asked.Prompt == "" {
		return buildcast.Errorf(buildcast.InvalidArgument, "prompt is missing: say what the plan is to build").At("prompt")
	}
	if err := buildcast.ValidatePrompt(asked.Prompt); err != nil {
		return err
	}
	if err := query.ValidateText(asked.Project, buildcast.MaxProject, "project"); err != nil {
		return err
	}
	if err := a.Planners.Check(asked.Planner); err != nil {
		return err
	}
	select {
	case a.planning <- struct{}{}:
		defer func() { <-a.planning }()
	default:
		return buildcast.Errorf(buildcast.Overloaded, "%d plans are being made: try again shortly", maxPlanning).After(10 * time.Second)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(a.Stopping, cancel)() //nolint:contextcheck // the server's context, not the request's
	planned, err := a.Planners.Plan(ctx, asked)
	if err != nil {
		if a.Stopping.Err() != nil {
			return buildcast.Errorf(buildcast.StoreUnavailable, "this server takes no more work").After(time.Second).Because(err)
		}
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return body.SendJSON(w, http.StatusOK, planned)
}

// noPlanners stands for the planners of a server that has none.
type noPlanners struct{}

func (noPlanners) Names() []string { return nil }

func (noPlanners) Check(string) error {
	return buildcast.Errorf(buildcast.NoPlanner, "this server has no planner to make a plan from a prompt: send a plan").At("prompt")
}

func (p noPlanners) Plan(context.Context, PlanRequest) (Planned, error) {
	return Planned{}, p.Check("")
}
