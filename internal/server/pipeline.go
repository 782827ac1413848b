package server

import (
	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deploy/cloudflare"
	"github.com/buildcast/buildcast/internal/deploy/local"
	"github.com/buildcast/buildcast/internal/deploy/program"
	"github.com/buildcast/buildcast/internal/pipeline"
	"github.com/buildcast/buildcast/internal/runner"
	"github.com/buildcast/buildcast/internal/secretdir"
)

// newPipeline returns the pipeline with its deploy targets.
func (s *Server) newPipeline() (*pipeline.Pipeline, error) {
	secrets, err := s.secrets()
	if err != nil {
		return nil, err
	}
	return pipeline.New(pipeline.Config{
		Owner: s.dir.owner, Dir: s.file("builds"), Label: local.HostLabel,
		Log: s.log, Builds: s.store, Leases: s.store, Plans: s.store,
		Watch:   s.hub.Watch,
		Cache:   s.cache,
		Planner: s.planners,
		Targets: s.targets(),
		Runner:  s.runner, Network: s.services,
		Secrets:   secrets,
		MaxBuilds: s.config.Builds, MaxTasks: s.config.Tasks, KeepFailed: s.config.KeepFailed, DrainTimeout: s.config.DrainTimeout, Logger: s.logger,
	}), nil
}

// secrets are those that plans may name; nil if there is no directory of them.
func (s *Server) secrets() (pipeline.Secrets, error) {
	if s.config.SecretsDir == "" {
		return nil, nil
	}
	return secretdir.Open(s.config.SecretsDir)
}

// targets are what builds may be deployed to.
func (s *Server) targets() map[string]pipeline.Target {
	targets := map[string]pipeline.Target{buildcast.DeployLocal: s.previews}
	if c := s.config.Cloudflare; c.APIToken != "" {
		s.cloudflare = cloudflare.New(cloudflare.Config{
			BaseURL: c.BaseURL, Token: c.APIToken, AccountID: c.AccountID, Project: c.Project, ProductionBranch: c.ProductionBranch,
			Retain: s.config.PreviewKeep, Logger: s.logger,
		})
		targets[buildcast.DeployCloudflare] = s.cloudflare
	}
	if c := s.config.Deploy; c.Command != "" {
		targets[buildcast.DeployCommand] = program.New(program.Config{
			Script: c.Command, Dir: s.file("deploys"), Variables: c.Variables, Timeout: c.Timeout, Runner: runner.Direct(), // the operator's program is trusted
		})
	}
	return targets
}
