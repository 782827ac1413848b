package pipeline

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/planner"
)

// readLimit is how many events one read returns.
const readLimit = 1000

// history holds what a run must know of the build's log to resume the build. It
// trusts every event, also one that a user appended to report a task as completed:
// a user who may append events may run commands as well.
type history struct {
	status    buildcast.Status
	reported  map[string]bool // the keys of what was reported
	completed map[string]done // tasks, by their names
	stages    map[string]done // by their names
	failed    map[string]int  // attempts of a task that failed, by its name

	commands map[string]string // that were found for install and build, by the stage's name

	// What planners took. A task's worker may add to it.
	mu             sync.Mutex
	spent          planner.Spend
	planner, model string // that made the plan
}

// done is how a task or a stage was completed.
type done struct {
	event      int64  // its id
	origin     string // the build that ran it; empty: this one
	durationMS int64  // in that build
}

// readHistory folds the log.
func readHistory(ctx context.Context, log Log, b buildcast.Build) (*history, error) {
	h := &history{
		status:   buildcast.NewStatus(b.ID, b.Project, b.CreatedAt),
		reported: map[string]bool{}, completed: map[string]done{}, stages: map[string]done{}, failed: map[string]int{},
		commands: map[string]string{},
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
		h.completed[d.TaskName] = d.doneAt(e.ID)
	case buildcast.TaskFailed:
		h.failed[d.TaskName] = max(h.failed[d.TaskName], d.Attempt)
	case buildcast.PlannerUsage:
		var u plannerUsage
		_ = json.Unmarshal(e.Data, &u)
		h.answered(u)
	case buildcast.BuildProgress:
		if d.Done {
			h.stages[d.Stage] = d.doneAt(e.ID)
		} else {
			h.commands[d.Stage] = d.Command
		}
	}
}

// answered counts what an answer of a planner took.
func (h *history) answered(u plannerUsage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !u.Cached {
		h.spent = h.spent.Add(planner.SpendOf(&u.Usage))
	}
	if u.Purpose == string(planner.ForPlan) {
		h.planner, h.model = u.Planner, u.Model
	}
}

// words holds the data that distinguishes an event from others of its type.
type words struct {
	TaskName string `json:"taskName"`
	Attempt  int    `json:"attempt"`
	Stage    string `json:"stage"`
	Done     bool   `json:"done"`
	Message  string `json:"message"`
	Command  string `json:"command"`

	Request   string `json:"request"`
	RequestID string `json:"requestId"`

	DurationMS int64 `json:"durationMs"`
	reused
}

// doneAt returns how the step was completed that the event tells of.
func (w words) doneAt(event int64) done {
	return done{event: event, origin: w.OriginBuildID, durationMS: max(w.DurationMS, w.SavedMS)}
}

func readWords(data json.RawMessage) (w words) {
	_ = json.Unmarshal(data, &w) // data of another shape counts as absent
	return w
}
