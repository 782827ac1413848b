package server

import (
	"slices"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi"
	"github.com/buildcast/buildcast/internal/planner"
)

// abilities is what the server is set up for, as far as the API tells it.
func (s *Server) abilities() httpapi.Abilities {
	can := httpapi.Abilities{
		DefaultPlanner: s.planners.Default(),
		Targets:        []string{buildcast.DeployLocal, buildcast.DeployNone},
		Sandbox:        s.runner.Sandbox(),
		Cache:          s.cache != nil,
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
	if s.runner.May(false) != nil {
		can.Sandbox = "unavailable"
	}
	if can.DefaultPlanner == planner.Static {
		can.DefaultPlanner = ""
	}
	return can
}
