package pipeline

import (
	"context"
	"encoding/json"
	"time"

	"github.com/buildcast/buildcast"
)

// state is what a build's log says about how far it has come.
type state struct {
	status    buildcast.Status
	completed map[string]bool // tasks, by name
	failures  map[string]int  // failed attempts of tasks that are tried again
}

// readState folds the build's log.
func (p *Pipeline) readState(ctx context.Context, b *buildcast.Build) (state, error) {
	s := state{
		status:    buildcast.NewStatus(b.ID, b.Project, b.CreatedAt),
		completed: make(map[string]bool),
		failures:  make(map[string]int),
	}
	for {
		events, err := p.Log.Read(ctx, b.ID, s.status.LastEventID, readEvents)
		if err != nil || len(events) == 0 {
			return s, err
		}
		for i := range events {
			s.apply(&events[i])
		}
	}
}

func (s *state) apply(e *buildcast.Event) {
	s.status.Apply(e)
	var d struct {
		TaskName  string `json:"taskName"`
		WillRetry bool   `json:"willRetry"`
	}
	switch e.Type {
	case buildcast.TaskCompleted:
		_ = json.Unmarshal(e.Data, &d) // of another shape: not from here
		s.completed[d.TaskName] = true
	case buildcast.TaskFailed:
		_ = json.Unmarshal(e.Data, &d)
		if d.WillRetry {
			s.failures[d.TaskName]++
		}
	}
}

// retryDelay is the pause before the next attempt: 1 s, doubling, 30 s at most.
func retryDelay(failures int) time.Duration {
	return min(time.Second<<min(failures-1, 5), 30*time.Second)
}
