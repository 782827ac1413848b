package server

import (
	"context"
	"strings"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/runner"
)

// openRunner makes the runner of builds' commands, and tries its sandbox out.
func (s *Server) openRunner(ctx context.Context) (err error) {
	c := &s.config
	s.runner, err = runner.New(ctx, runner.Config{
		Sandbox: c.Sandbox, Exposed: c.Exposed(), Read: c.SandboxRead, Hidden: []string{s.dir.path}, Dir: s.dir.path,
		Limits: runner.Limits{
			Memory: int64(c.Limits.Memory), Processes: c.Limits.Processes,
			FileSize: int64(c.Limits.FileSize), Disk: int64(c.Limits.Disk), CPU: c.Limits.CPU,
		},
	})
	if err != nil {
		return buildcast.Errorf(buildcast.InvalidArgument, "--sandbox: %v", err).At("--sandbox")
	}
	if problem := s.runner.Problem(); problem != nil {
		s.logger.Warn("commands have no sandbox", "because", problem)
		s.warning = strings.TrimPrefix(s.warning+"; "+s.Sandbox(), "; ")
	}
	return nil
}

// Sandbox says in one line what confines commands.
func (s *Server) Sandbox() string {
	switch may, problem := s.runner.May(false), s.runner.Problem(); {
	case may != nil:
		return may.Error()
	case problem != nil:
		return "none: " + problem.Error()
	case s.runner.Sandbox() == "none":
		return "none: --sandbox is off, commands may do what this user may"
	}
	return s.runner.Sandbox()
}
