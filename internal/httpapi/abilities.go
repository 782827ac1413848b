package httpapi

import (
	"net/http"

	"github.com/buildcast/buildcast/internal/httpapi/body"
)

// Abilities is what the server is set up for. Pages and programs that start builds
// read it.
type Abilities struct {
	Version        string    `json:"version"`
	Planners       []Planner `json:"planners" doc:"Who can be asked with a prompt; empty: prompts are refused"`
	DefaultPlanner string    `json:"defaultPlanner" doc:"Who is asked if a build names no planner; empty: a build with a prompt must name one"`
	Targets        []string  `json:"targets" doc:"Where builds may be deployed to"`
	Sandbox        string    `json:"sandbox" enum:"bwrap,none,unavailable" doc:"What commands of plans run in. none: as the server's user, in no sandbox. unavailable: no sandbox works here, and commands are refused"`
	Cache          bool      `json:"cache" doc:"Whether results of tasks and stages are cached"`
}

// Planner is one planner of the server.
type Planner struct {
	Name  string `json:"name" example:"anthropic"`
	Model string `json:"model,omitempty" doc:"The model that it asks, if it asks one"`
}

// getServer answers with what may change when the server is started again.
func (a *api) getServer(w http.ResponseWriter, _ *http.Request) error {
	can := a.Abilities
	can.Version = a.Version
	can.Planners = append([]Planner{}, can.Planners...) // [] and not null
	can.Targets = append([]string{}, can.Targets...)
	w.Header().Set("Cache-Control", "no-cache")
	return body.SendJSON(w, http.StatusOK, can)
}
