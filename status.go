package buildcast

import "encoding/json"

// Phase is the part of its life that a build is in.
type Phase string

// The phases, in the order a build goes through them; the last three are terminal.
const (
	Queued    Phase = "queued"
	Planning  Phase = "planning"
	Executing Phase = "executing"
	Deploying Phase = "deploying"
	Completed Phase = "completed"
	Failed    Phase = "failed"
	Cancelled Phase = "cancelled"
)

// Terminal reports whether a build in this phase is finished.
func (p Phase) Terminal() bool { return p == Completed || p == Failed || p == Cancelled }

// maxMessage bounds the texts that the status copies from events, in bytes.
const maxMessage = 1000

// Tasks counts a build's tasks.
type Tasks struct {
	Total     int `json:"total"`
	Started   int `json:"started"`
	Completed int `json:"completed"`
	Failed    int `json:"failed"`
}

// Status is what a build's log folds to: start from the status of a created
// build (see [NewStatus]) and Apply each event in order. Any split of the log
// into batches folds to the same status.
type Status struct {
	BuildID    string `json:"buildId"`
	Project    string `json:"project"`
	Phase      Phase  `json:"status"`
	Progress   int    `json:"progress"` // 0-100; never falls
	Message    string `json:"message"`
	Tasks      Tasks  `json:"tasks"`
	PreviewURL string `json:"previewUrl"`
	Error      string `json:"error"`
	CreatedAt  Time   `json:"createdAt"`
	StartedAt  *Time  `json:"startedAt"`  // of the first event
	UpdatedAt  Time   `json:"updatedAt"`  // of the last event, up to the terminal one
	FinishedAt *Time  `json:"finishedAt"` // of the terminal event
	// FirstEventID is the id of the first event that is kept: 1, unless the log was
	// cut from the front. If no event is kept it is LastEventID + 1.
	FirstEventID int64 `json:"firstEventId"`
	LastEventID  int64 `json:"lastEventId"`
}

// NewStatus returns the status of a build that has just been created.
func NewStatus(buildID, project string, created Time) Status {
	return Status{BuildID: buildID, Project: project, Phase: Queued, Message: "Queued", CreatedAt: created, UpdatedAt: created, FirstEventID: 1}
}

// eventData is what the fold reads of an event's data.
type eventData struct {
	Message    string   `json:"message"`
	TaskName   string   `json:"taskName"`
	TaskCount  int      `json:"taskCount"`
	Attempt    int      `json:"attempt"`
	WillRetry  bool     `json:"willRetry"`
	Percent    *float64 `json:"percent"`
	Progress   *float64 `json:"progress"`
	PreviewURL string   `json:"previewUrl"`
	Error      string   `json:"error"`
}

// Apply folds the event into the status and sets the event's Progress to the
// build's progress after it. After a terminal event only LastEventID moves.
func (s *Status) Apply(e *Event) {
	s.LastEventID = e.ID
	if !s.Phase.Terminal() {
		s.apply(e)
	}
	e.Progress = s.Progress
}

func (s *Status) apply(e *Event) {
	d := readData(e.Data)
	at := e.Timestamp
	if s.StartedAt == nil {
		s.StartedAt = &at
	}
	s.UpdatedAt = at
	switch e.Type {
	case PlanStarted:
		s.moveTo(Planning, 10)
	case PlanGenerated:
		s.Tasks.Total = max(d.TaskCount, 0)
		s.moveTo(Executing, 20)
	case TaskStarted:
		if d.Attempt <= 1 { // a task that is tried again counts once
			s.Tasks.Started++
		}
		s.moveTo(Executing, s.Tasks.progress())
	case TaskCompleted:
		s.Tasks.Completed++
		s.moveTo(Executing, s.Tasks.progress())
	case TaskFailed:
		if !d.WillRetry {
			s.Tasks.Failed++
			s.moveTo(Failed, 0)
		}
	case DeployStarted, BuildStarted, BuildProgress, DeployProgress:
		p := 80
		if d.Percent != nil {
			p += int(19 * min(max(*d.Percent, 0), 100) / 100) // 0-100 % of the deploy is 80-99 of the build
		}
		s.moveTo(Deploying, p)
	case DeployCompleted:
		s.PreviewURL = clip(d.PreviewURL, maxMessage)
		s.moveTo(Completed, 100)
	case BuildCompleted:
		s.moveTo(Completed, 100)
	case DeployFailed, BuildFailed:
		s.moveTo(Failed, 0)
	case BuildCancelled:
		s.moveTo(Cancelled, 0)
	default:
		if d.Progress != nil {
			s.moveTo(s.Phase, int(min(max(*d.Progress, 0), 100)))
		}
	}
	s.describe(e.Type, d)
	if s.Phase.Terminal() {
		s.FinishedAt = &at
	}
}

// moveTo sets the phase and raises the progress; it never lowers it.
func (s *Status) moveTo(p Phase, progress int) {
	s.Phase = p
	s.Progress = max(s.Progress, progress)
}

// progress returns 20 + 50·(started+completed)/2N, at most 70, or 20 if N is not
// known. It rounds up, to a multiple of ten if N <= 5 and to a whole percent otherwise.
func (t Tasks) progress() int {
	if t.Total == 0 {
		return 20
	}
	done := min(t.Started, t.Total) + min(t.Completed, t.Total)
	step := 1
	if t.Total <= 5 {
		step = 10
	}
	// ceil((20 + 25·done/N) / step) · step, in whole numbers
	div := t.Total * step
	return min((20*t.Total+25*done+div-1)/div*step, 70)
}

// describe sets the message, which tells people what the build is doing, and the
// error of a failed build.
func (s *Status) describe(typ string, d eventData) {
	if s.Phase == Failed {
		s.Error = clip(firstOf(d.Error, d.Message, "failed at "+typ), maxMessage)
	}
	switch {
	case d.Message != "":
		s.Message = clip(d.Message, maxMessage)
	case s.Phase == Failed:
		s.Message = s.Error
	case sentences[typ] != "":
		s.Message = sentences[typ]
		if d.TaskName != "" {
			s.Message = clip(s.Message+": "+d.TaskName, maxMessage)
		}
	}
}

var sentences = map[string]string{
	PlanStarted:     "Planning",
	PlanGenerated:   "Plan ready",
	TaskStarted:     "Task started",
	TaskCompleted:   "Task completed",
	TaskFailed:      "Task failed, trying again",
	DeployStarted:   "Deploying",
	BuildStarted:    "Building",
	BuildProgress:   "Building",
	DeployProgress:  "Deploying",
	DeployCompleted: "Deployed",
	BuildCompleted:  "Completed",
	BuildCancelled:  "Cancelled",
}

// readData reads what the fold needs. Data of another shape is not an error: a field
// of the wrong type counts as absent, because encoding/json continues after it.
func readData(data json.RawMessage) (d eventData) {
	if len(data) > len("{}") {
		_ = json.Unmarshal(data, &d)
	}
	return d
}
