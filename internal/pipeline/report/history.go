package report

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/planner"
)

// readLimit is how many events one read returns.
const readLimit = 1000

// History holds what a run must know of the build's log to resume the build. It
// trusts every event, also one that a user appended to report a task as completed:
// a user who may append events may run commands as well.
type History struct {
	Status    buildcast.Status
	Completed map[string]Done // tasks, by their names
	Stages    map[string]Done // by their names
	Failed    map[string]int  // attempts of a task that failed, by its name

	Commands map[string]string // that were found for install and build, by the stage's name

	reported map[string]bool // the keys of what was reported

	// What planners took. A task's worker may add to it.
	mu             sync.Mutex
	spent          planner.Spend
	planner, model string // that made the plan
}

// Done is how a task or a stage was completed.
type Done struct {
	Event      int64  // its id
	Origin     string // the build that ran it; empty: this one
	DurationMS int64  // in that build
}

// Log returns the events of a build after an id, at most limit of them; see eventlog.Log.
type Log interface {
	Read(ctx context.Context, buildID string, after int64, limit int) ([]buildcast.Event, error)
}

// ReadHistory folds the log.
func ReadHistory(ctx context.Context, log Log, b buildcast.Build) (*History, error) {
	h := &History{
		Status:   buildcast.NewStatus(b.ID, b.Project, b.CreatedAt),
		reported: map[string]bool{}, Completed: map[string]Done{}, Stages: map[string]Done{}, Failed: map[string]int{},
		Commands: map[string]string{},
	}
	for {
		events, err := log.Read(ctx, b.ID, h.Status.LastEventID, readLimit)
		if err != nil || len(events) == 0 {
			return h, err
		}
		for i := range events {
			h.apply(&events[i])
		}
	}
}

func (h *History) apply(e *buildcast.Event) {
	h.Status.Apply(e)
	if key := Key(e.Type, e.Data); key != "" {
		h.reported[key] = true
	}
	d := readWords(e.Data)
	switch e.Type {
	case buildcast.TaskCompleted:
		h.Completed[d.TaskName] = d.doneAt(e.ID)
	case buildcast.TaskFailed:
		h.Failed[d.TaskName] = max(h.Failed[d.TaskName], d.Attempt)
	case buildcast.PlannerUsage:
		var u PlannerUsage
		_ = json.Unmarshal(e.Data, &u)
		h.Answered(u)
	case buildcast.BuildProgress:
		if d.Done {
			h.Stages[d.Stage] = d.doneAt(e.ID)
		} else {
			h.Commands[d.Stage] = d.Command
		}
	}
}

// Answered counts what an answer of a planner took.
func (h *History) Answered(u PlannerUsage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !u.Cached {
		h.spent = h.spent.Add(planner.SpendOf(&u.Usage))
	}
	if u.Purpose == string(planner.ForPlan) {
		h.planner, h.model = u.Planner, u.Model
	}
}

// Spent returns what the planners of the build have taken.
func (h *History) Spent() planner.Spend {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.spent
}

// PlannedBy returns the planner and the model that made the plan, also if an earlier run
// had it made.
func (h *History) PlannedBy() (planner, model string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.planner, h.model
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
	Reused
}

// doneAt returns how the step was completed that the event tells of.
func (w words) doneAt(event int64) Done {
	return Done{Event: event, Origin: w.OriginBuildID, DurationMS: max(w.DurationMS, w.SavedMS)}
}

func readWords(data json.RawMessage) (w words) {
	_ = json.Unmarshal(data, &w) // data of another shape counts as absent
	return w
}
