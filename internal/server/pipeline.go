package server

import (
	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deploy/local"
	"github.com/buildcast/buildcast/internal/pipeline"
)

// newPipeline makes the part that runs builds, with the targets it deploys to.
func (s *Server) newPipeline() *pipeline.Pipeline {
	return pipeline.New(pipeline.Config{
		Owner: s.dir.owner, Dir: s.file("builds"), Label: local.HostLabel,
		Log: s.log, Builds: s.store, Leases: s.store,
		Watch:     s.hub.Watch,
		Targets:   map[string]pipeline.Target{buildcast.DeployLocal: s.previews},
		MaxBuilds: s.config.Builds, MaxTasks: s.config.Tasks, DrainTimeout: s.config.DrainTimeout, Logger: s.logger,
	})
}
