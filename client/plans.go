package client

import (
	"bytes"
	"context"
	"net/http"

	"github.com/buildcast/buildcast"
)

// PlanRequest is what a plan is made of, without a build.
type PlanRequest struct {
	Prompt  string `json:"prompt"`
	Project string `json:"project,omitempty"`
	Planner string `json:"planner,omitempty"` // empty: the server's default
	NoCache bool   `json:"noCache,omitempty"` // ask, also if the planner has answered the same prompt before
}

// Planned is a plan that a planner has made.
type Planned struct {
	Plan    *buildcast.Plan `json:"plan"`
	Planner string          `json:"planner"`
	Model   string          `json:"model"` // empty: the planner names none
}

// Plan has a planner of the server make a plan, which may take minutes. Nothing is run.
// Errors: InvalidArgument, TooLarge, NoPlanner, PlanningFailed.
func (c *Client) Plan(ctx context.Context, r PlanRequest) (Planned, error) {
	var body bytes.Buffer
	if err := encoder(&body).Encode(r); err != nil {
		return Planned{}, err
	}
	var p Planned
	err := c.do(ctx, request{method: http.MethodPost, path: "plans", header: http.Header{"Content-Type": {jsonType}}, body: &body, wait: -1}, &p)
	return p, err
}

// Abilities is what a server is set up for.
type Abilities struct {
	Version        string    `json:"version"`
	Planners       []Planner `json:"planners"`       // who can be asked with a prompt
	DefaultPlanner string    `json:"defaultPlanner"` // empty: a build with a prompt must name one
	Targets        []string  `json:"targets"`        // of deploys
	Sandbox        string    `json:"sandbox"`        // bwrap, none or unavailable
	Cache          bool      `json:"cache"`
}

// Planner is one planner of a server.
type Planner struct {
	Name  string `json:"name"`
	Model string `json:"model"` // empty: it asks none, or names none
}

// Abilities returns what the server is set up for.
func (c *Client) Abilities(ctx context.Context) (Abilities, error) {
	var a Abilities
	return a, c.do(ctx, request{method: http.MethodGet, path: "server"}, &a)
}
