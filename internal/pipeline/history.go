package pipeline

import (
	"context"
	"encoding/json"

	"github.com/buildcast/buildcast"
)

// readLimit is how many events are read at once.
const readLimit = 1000

// history is what a build's log reports, as a run needs it to go on. It goes by
// the events' data, whoever appended them: whoever may append may also run
// commands, so an event of a user that reports a task as completed is believed.
type history struct {
	status    buildcast.Status
	reported  map[string]bool // the keys of what was reported
	completed map[string]bool // names of tasks
	failed    map[string]int  // attempts of a task that failed, by its name
}

// readHistory folds the log.
func readHistory(ctx context.Context, log Log, b buildcast.Build) (*history, error) {
	h := &history{
		status:   buildcast.NewStatus(b.ID, b.Project, b.CreatedAt),
		reported: map[string]bool{}, completed: map[string]bool{}, failed: map[string]int{},
	}
	for {
		events, err := log.Read(ctx, b.ID, h.status.LastEventID, readLimit)
		if err != nil || len(events) == 0 {
			return h, err
		}
		for i := range events {
			h.apply(&events[i])
		}
	}
}

func (h *history) apply(e *buildcast.Event) {
	h.status.Apply(e)
	if key := keyOf(e.Type, e.Data); key != "" {
		h.reported[key] = true
	}
	d := readWords(e.Data)
	switch e.Type {
	case buildcast.TaskCompleted:
		h.completed[d.TaskName] = true
	case buildcast.TaskFailed:
		h.failed[d.TaskName] = max(h.failed[d.TaskName], d.Attempt)
	}
}

// words is what tells an event from others of its type.
type words struct {
	TaskName string `json:"taskName"`
	Attempt  int    `json:"attempt"`
	Stage    string `json:"stage"`
	Done     bool   `json:"done"`
	Message  string `json:"message"`
}

func readWords(data json.RawMessage) (w words) {
	_ = json.Unmarshal(data, &w) // data of another shape counts as absent
	return w
}
