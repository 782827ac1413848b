package pipeline

import (
	"errors"
	"strings"
	"testing"

	"github.com/buildcast/buildcast/internal/egress"
	"github.com/buildcast/buildcast/internal/runner"
	"github.com/buildcast/buildcast/internal/services"
)

type noWay struct{}

func (noWay) Open(services.Command) (*services.Way, error) { return nil, errors.New("not here") }

func TestNetworkIsOffHint(t *testing.T) {
	const hint = "the network is off for this command"
	failed := func(tail string) error { return &runner.Failure{Reason: "exit code 1", Tail: tail} }
	for name, c := range map[string]struct {
		err     error
		access  egress.Access
		network Network
		want    bool
	}{
		"off":            {failed("getaddrinfo ENOTFOUND fonts.example.com"), egress.Off, noWay{}, true},
		"refused":        {failed("connect ECONNREFUSED 127.0.0.1:443"), egress.Off, noWay{}, true},
		"listed":         {failed("getaddrinfo ENOTFOUND fonts.example.com"), egress.Listed, noWay{}, false},
		"other failure":  {failed("syntax error"), egress.Off, noWay{}, false},
		"never confined": {failed("getaddrinfo ENOTFOUND fonts.example.com"), egress.Off, nil, false},
		"no failure":     {errors.New("ENOTFOUND"), egress.Off, noWay{}, false},
	} {
		r := &run{pipeline: &Pipeline{config: Config{Network: c.network}}}
		if got := strings.Contains(r.explainOff(c.err, c.access).Error(), hint); got != c.want {
			t.Errorf("%s: the hint is given: %v", name, got)
		}
	}
}
