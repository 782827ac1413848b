package pipeline

import (
	"errors"
	"slices"
	"strings"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/egress"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/runner"
	"github.com/buildcast/buildcast/internal/services"
)

// Network opens the services that a command may use; see services.Services.
type Network interface {
	Open(c services.Command) (*services.Way, error)
}

// taskAccess is how far the network is open to the task's command.
func taskAccess(t *buildcast.Task) egress.Access {
	if t.Network {
		return egress.Listed
	}
	return egress.Off
}

// stageAccess is how far the network is open to the stage's command. Only install may
// use all of it: what it runs is fixed by a lock file.
func (r *run) stageAccess(name string) egress.Access {
	switch {
	case name == report.Install:
		return egress.Open
	case r.build.Plan.Network:
		return egress.Listed
	}
	return egress.Off
}

// connect opens the services for the command, and returns how they are closed. The
// plan's variables come after theirs, and win.
func (r *run) connect(c *runner.Spec, access egress.Access) (end func(), err error) {
	network := r.pipeline.config.Network
	if network == nil {
		return func() {}, nil
	}
	way, err := network.Open(services.Command{Build: &r.build, Access: access, Tell: func(line string) { c.Output([]string{c.Mask.String(line)}) }})
	if err != nil {
		return nil, err
	}
	c.Env = slices.Concat(way.Env, c.Env)
	c.Bridges = append(c.Bridges, way.Bridges...)
	return way.Close, nil
}

// unreachable are the texts of programs that want the network and do not have it.
var unreachable = []string{"ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ENETUNREACH", "Could not resolve host", "Temporary failure in name resolution", "Network is unreachable"}

// explainOff adds the likely reason to a failure if the command looks for the network,
// which is off for it.
func (r *run) explainOff(err error, access egress.Access) error {
	f, ok := errors.AsType[*runner.Failure](err)
	if !ok || access != egress.Off || r.pipeline.config.Network == nil {
		return err
	}
	if !slices.ContainsFunc(unreachable, func(text string) bool { return strings.Contains(f.Tail, text) }) {
		return err
	}
	explained := *f
	explained.Reason += "; the network is off for this command: if it needs it, set network to true in the plan"
	return &explained
}
