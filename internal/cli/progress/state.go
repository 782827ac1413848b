// Package progress turns a build's events into text for people: rows and frames for a
// terminal, lines for a pipe.
//
// [State] is a fold like the build's status: it takes events and returns rows. It has
// neither a clock nor an output, so tests compare what a terminal shows as text.
// [Screen] is the only part that writes.
package progress

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
)

// tailLines is how many lines of output are kept of each running task.
const tailLines = 20

// State is the result of a build's events so far. The zero value is a build without events.
type State struct {
	Status buildcast.Status
	// Notice, if set, is shown above the bar. It is about the watching, not the build.
	Notice string
	// Absent means that there was no such build when watching began.
	Absent  bool
	running []*work // in the order they started
	output  []string
	failed  *work
	plan    planning
}

// work is a task, or a step after the tasks: the build or the deploy.
type work struct {
	name     string
	step     bool // a task may have the same name
	started  time.Time
	note     string   // the last message or output line
	attempt  int      // 0 or 1: the first
	attempts int      // how many there are at most; 0: not known
	output   []string // the last lines
	percent  *float64 // how much of it is done; nil: not known
	err      string
	request  string // the planner's provider's name of what failed
	// waiting is set between an attempt that failed and the next one, which begins
	// at again; the zero time means that it is not known when.
	waiting bool
	again   time.Time
}

// attemptOf says which attempt this is, such as "attempt 2 of 3".
func (w *work) attemptOf(n int) string {
	if w.attempts > 0 {
		return fmt.Sprintf("attempt %d of %d", n, w.attempts)
	}
	return fmt.Sprintf("attempt %d", n)
}

// The names of the steps after the tasks.
const (
	stepPlan   = "Plan"
	stepBuild  = "Build"
	stepDeploy = "Deploy"
)

// data holds the fields of an event's data that are shown.
type data struct {
	Message    string  `json:"message"`
	TaskName   string  `json:"taskName"`
	TaskCount  int     `json:"taskCount"`
	Attempt    int     `json:"attempt"`
	Attempts   int     `json:"attempts"`
	RetryInMS  float64 `json:"retryInMs"`
	WillRetry  bool    `json:"willRetry"`
	Error      string  `json:"error"`
	Output     string  `json:"output"`
	PreviewURL string  `json:"previewUrl"`
	DurationMS float64 `json:"durationMs"`
	// Percent is how much of a deploy or a stage is done.
	Percent *float64 `json:"percent"`
	// Cached: it was not run, and another build's result took its place.
	Cached  bool    `json:"cached"`
	SavedMS float64 `json:"savedMs"`
	Sandbox string  `json:"sandbox"` // of plan_started
	plannerData
	// of build_log
	Stage   string   `json:"stage"`
	Lines   []string `json:"lines"`
	Dropped int      `json:"dropped"` // lines that are left out
}

func read(e *buildcast.Event) (d data) {
	_ = json.Unmarshal(e.Data, &d) // fields of another type count as absent
	for _, text := range []*string{&d.Message, &d.TaskName, &d.Error, &d.Stage, &d.Sandbox, &d.Planner, &d.Model, &d.RequestID} {
		*text = oneLine(*text)
	}
	return d
}

func (d *data) lines() []string {
	text := strings.Join(append(slices.Clone(d.Lines), d.Output), "\n")
	var lines []string
	for line := range strings.Lines(text) {
		// A carriage return goes back to the line's start: only what a progress meter
		// drew last is kept.
		line = strings.TrimRight(line, "\r\n")
		line = Clean(line[strings.LastIndexByte(line, '\r')+1:])
		if strings.TrimSpace(line) != "" {
			lines = append(lines, line)
		}
	}
	if d.Dropped > 0 {
		lines = append(lines, "… "+count(d.Dropped, "line")+" left out")
	}
	return lines
}

// Apply folds the event in and returns the rows to print above the frame, where they
// stay.
func (s *State) Apply(e buildcast.Event) []Line {
	if s.Status.Phase == "" {
		s.Status = buildcast.NewStatus(e.BuildID, "", e.Timestamp)
	}
	if s.Status.Phase.Terminal() {
		return nil
	}
	s.Status.Apply(&e)
	d, at := read(&e), e.Timestamp.Std()
	switch e.Type {
	case buildcast.PlanStarted:
		return sandboxRows(d)
	case buildcast.PlanProgress:
		s.planProgress(at, d)
	case buildcast.PlannerUsage:
		s.plan.use(d)
	case buildcast.PlanGenerated:
		return s.planned(at, d)
	case buildcast.TaskStarted:
		w := s.start(name(d), false, at)
		w.attempt, w.attempts = d.Attempt, max(d.Attempts, w.attempts)
	case buildcast.TaskCompleted:
		return s.end(s.task(d), at, d)
	case buildcast.TaskFailed:
		return s.fail(s.task(d), at, d)
	case buildcast.BuildLog:
		if d.Stage == planningStage && s.Status.Phase == buildcast.Planning {
			s.step(stepPlan, s.planningSince(at), data{})
		}
		s.log(d)
	case buildcast.DeployStarted:
		s.step(stepDeploy, at, d)
	case buildcast.BuildStarted, buildcast.BuildProgress:
		s.step(stepBuild, at, d)
		return cachedStage(d)
	case buildcast.DeployProgress:
		rows := s.end(s.find(stepBuild, true), at, data{})
		s.step(stepDeploy, at, d)
		return rows
	case buildcast.DeployCompleted, buildcast.BuildCompleted:
		return s.endSteps(at, d)
	case buildcast.BuildFailed, buildcast.DeployFailed:
		return s.failStep(e.Type, at, d)
	case buildcast.BuildCancelled:
		s.running = nil
	}
	return nil
}

func (s *State) start(name string, step bool, at time.Time) *work {
	w := s.find(name, step)
	if w == nil {
		w = &work{name: name, step: step}
		s.running = append(s.running, w)
	}
	w.started = at
	if w.waiting {
		w.waiting, w.note, w.output = false, "", nil
	}
	return w
}

func (s *State) step(name string, at time.Time, d data) {
	w := s.find(name, true)
	if w == nil {
		w = s.start(name, true, at)
	}
	if d.Message != "" {
		w.note = d.Message
	}
	w.percent = d.Percent
}

func (s *State) task(d data) *work { return s.find(name(d), false) }

func (s *State) find(name string, step bool) *work {
	i := slices.IndexFunc(s.running, func(w *work) bool { return w.name == name && w.step == step })
	if i < 0 {
		return nil
	}
	return s.running[i]
}

func (s *State) remove(w *work) {
	s.running = slices.DeleteFunc(s.running, func(v *work) bool { return v == w })
}

func (s *State) end(w *work, at time.Time, d data) []Line {
	if w == nil {
		if d.TaskName == "" {
			return nil
		}
		w = &work{name: d.TaskName, started: at.Add(-time.Duration(d.DurationMS * float64(time.Millisecond)))}
	}
	s.remove(w)
	took := Duration(at.Sub(w.started))
	if d.Cached {
		took = saved(d)
	}
	return []Line{{
		Left:  []Span{{Good, " ✓ "}, {Plain, w.name}},
		Right: []Span{{Dim, took}},
	}}
}

// saved tells that something was not run, and how long that would have taken.
func saved(d data) string {
	if d.SavedMS < 1 {
		return "cached"
	}
	return "cached, saved " + Duration(milliseconds(d.SavedMS))
}

// cachedStage returns the row of a stage that was not run.
func cachedStage(d data) []Line {
	if !d.Cached || d.Stage == "" {
		return nil
	}
	return []Line{{Left: []Span{{Good, " ✓ "}, {Plain, d.Stage}}, Right: []Span{{Dim, saved(d)}}}}
}

// sandboxRows tells once what the build's commands run in.
func sandboxRows(d data) []Line {
	switch d.Sandbox {
	case "":
		return nil
	case "none":
		return []Line{{Left: []Span{{Dim, "   no sandbox: commands may do what the server's user may"}}}}
	}
	return []Line{{Left: []Span{{Dim, "   commands run in a sandbox: " + d.Sandbox}}}}
}

func (s *State) endSteps(at time.Time, d data) []Line {
	rows := s.end(s.find(stepBuild, true), at, data{})
	rows = append(rows, s.end(s.find(stepDeploy, true), at, data{})...)
	s.running = nil
	return rows
}

func (s *State) fail(w *work, at time.Time, d data) []Line {
	if w == nil {
		w = &work{name: name(d), started: at}
	}
	w.err = d.Error
	if w.err == "" {
		w.err = d.Message
	}
	if lines := d.lines(); len(lines) > 0 {
		w.output = lines
	}
	took := []Span{{Dim, Duration(at.Sub(w.started))}}
	if d.WillRetry {
		s.wait(w, at, d)
		text := "  " + w.attemptOf(max(w.attempt, 1)) + " failed"
		if w.err != "" {
			text += ": " + w.err
		}
		return []Line{{Left: []Span{{Warn, " ↻ "}, {Plain, w.name}, {Dim, text}}, Right: took}}
	}
	s.remove(w)
	if s.failed == nil {
		s.failed = w
	}
	return []Line{{Left: []Span{{Bad, " ✗ "}, {Plain, w.name}, {Bad, "  " + w.err}}, Right: took}}
}

// wait keeps the task in the frame until its next attempt begins.
func (s *State) wait(w *work, at time.Time, d data) {
	if s.find(w.name, w.step) == nil {
		s.running = append(s.running, w)
	}
	w.waiting, w.attempt, w.attempts = true, max(d.Attempt, w.attempt), max(d.Attempts, w.attempts)
	w.again = time.Time{}
	if d.RetryInMS > 0 {
		w.again = at.Add(milliseconds(d.RetryInMS))
	}
}

// milliseconds returns the duration that an event tells, at most a day.
func milliseconds(ms float64) time.Duration {
	return time.Duration(min(max(ms, 0), 24*60*60*1000) * float64(time.Millisecond))
}

// failStep ends the step that failed: the planning or the build step if the event is
// about it, otherwise the deploy.
func (s *State) failStep(typ string, at time.Time, d data) []Line {
	name, w, began := stepDeploy, s.find(stepDeploy, true), at
	if b := s.find(stepBuild, true); b != nil && typ == buildcast.BuildFailed {
		name, w = stepBuild, b
	}
	if d.Stage == planningStage {
		name, w, began = stepPlan, s.find(stepPlan, true), s.planningSince(at)
	}
	if w == nil {
		w = &work{name: name, started: began, output: s.output}
	}
	w.request = d.RequestID
	return s.fail(w, at, data{Error: d.Error, Message: d.Message, Output: d.Output, Lines: d.Lines, TaskName: name})
}

// log keeps the last lines of output, for the frame and for the report of a failure.
func (s *State) log(d data) {
	lines := d.lines()
	if len(lines) == 0 {
		return
	}
	w := s.find(d.TaskName, false)
	if w == nil && d.Stage == planningStage {
		w = s.find(stepPlan, true)
	}
	if w == nil && d.TaskName == "" {
		w = s.find(stepBuild, true)
	}
	if w == nil {
		s.output = tail(append(s.output, lines...))
		return
	}
	w.output = tail(append(w.output, lines...))
	w.note = lines[len(lines)-1]
}

func tail(lines []string) []string { return lines[max(0, len(lines)-tailLines):] }

// Result returns the rows to print when the build is over, and none before.
func (s *State) Result() []Line {
	st := &s.Status
	took := ""
	if st.FinishedAt != nil && st.StartedAt != nil {
		took = " in " + Duration(st.FinishedAt.Std().Sub(st.StartedAt.Std()))
	}
	switch st.Phase {
	case buildcast.Completed:
		rows := s.completed(took)
		if st.PreviewURL != "" {
			rows = append(rows, Line{Left: []Span{{Plain, "   "}, {Accent, Clean(st.PreviewURL)}}})
		}
		return append(rows, s.plan.rows()...)
	case buildcast.Cancelled:
		row := Line{Left: []Span{{Bad, " ⊘ "}, {Bold, "Cancelled"}, {Plain, took}}}
		return append([]Line{row}, s.plan.rows()...)
	case buildcast.Failed:
		return append(s.failure(took), s.plan.rows()...)
	}
	return nil
}

// completed returns rows that count the completed tasks and the open ones: whoever
// reports a build may end it while tasks are open.
func (s *State) completed(took string) []Line {
	tasks := s.Status.Tasks
	total := max(tasks.Total, tasks.Started, tasks.Completed)
	open := total - tasks.Completed
	switch {
	case total == 0:
		return []Line{{Left: []Span{{Good, " ✓ "}, {Bold, "Completed" + took}}}}
	case open == 0:
		return []Line{{Left: []Span{{Good, " ✓ "}, {Bold, "Completed " + count(total, "task") + took}}}}
	}
	left := count(open, "task") + " left open"
	if n := min(max(tasks.Started-tasks.Completed, 0), open); n > 0 {
		left += fmt.Sprintf(", %d of them started", n)
	}
	return []Line{
		{Left: []Span{{Good, " ✓ "}, {Bold, fmt.Sprintf("Completed %d of %s%s", tasks.Completed, count(total, "task"), took)}}},
		{Left: []Span{{Warn, " ! "}, {Plain, left}}},
	}
}

func (s *State) failure(took string) []Line {
	w := s.failed
	if w == nil {
		w = &work{err: oneLine(s.Status.Error), output: s.output}
	}
	head := Line{Left: []Span{{Bad, " ✗ "}, {Bold, "Failed" + took}}}
	if w.name != "" {
		head.Left = append(head.Left, Span{Plain, ": " + w.name})
	}
	rows := []Line{head}
	if w.err != "" {
		rows = append(rows, Line{Left: []Span{{Plain, "   "}, {Bad, w.err}}})
	}
	if w.request != "" {
		rows = append(rows, Line{Left: []Span{{Dim, "   the provider's request: " + w.request}}})
	}
	for _, line := range tail(w.output) {
		rows = append(rows, Line{Left: []Span{{Dim, "   │ "}, {Plain, line}}})
	}
	return rows
}

func name(d data) string {
	if d.TaskName != "" {
		return d.TaskName
	}
	return "task"
}

func oneLine(s string) string {
	return Clean(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " "))
}

func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return itoa(n) + " " + noun
}

func itoa(n int) string { return strconv.Itoa(n) }

func pad(n int) string { return fmt.Sprintf("%02d", n) }
