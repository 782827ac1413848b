// Package report is how a run of a build tells what it does: the events that it reports,
// with their data and keys; the Journal that reports each of them once; and the History
// that the next run reads from the log.
package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/planner"
)

// The names of the stages after the tasks.
const (
	Install = "install"
	Build   = "build"
)

// The types below are the data of the events that a run reports. build_started and
// build_completed have Nothing.

// PlanStarted is in the build's first event.
type PlanStarted struct {
	Sandbox string `json:"sandbox"`           // of all commands: bwrap or none
	Message string `json:"message,omitempty"` // if the build has a prompt
}

// PlanGenerated reports the plan. Tasks has as many names as fit; TaskCount counts all.
type PlanGenerated struct {
	TaskCount int      `json:"taskCount"`
	Tasks     []string `json:"tasks"`
	// Planner and Model made the plan. They are empty if a person wrote it.
	Planner string `json:"planner,omitempty"`
	Model   string `json:"model,omitempty"`
}

// PlanProgress reports how far the planner is. Tasks has the names of the tasks so far.
type PlanProgress struct {
	Message      string   `json:"message"`
	Tasks        []string `json:"tasks"`
	OutputTokens int64    `json:"outputTokens"`
}

// PlannerUsage is what one answer of a planner took.
type PlannerUsage struct {
	Purpose string `json:"purpose"` // plan or files
	Task    string `json:"taskName,omitempty"`
	Planner string `json:"planner"`
	Request string `json:"request"` // names the question: the same one is not paid twice
	planner.Usage
	Cached bool `json:"cached"`           // another build has paid it
	Failed bool `json:"failed,omitempty"` // it was of no use
}

// Task is in the data of each event about a task; of task_started it is all.
type Task struct {
	TaskName string `json:"taskName"`
	Index    int    `json:"index"`   // in the plan, from 1
	Attempt  int    `json:"attempt"` // from 1
}

// Reused is in the event of a task or stage that did not run: its result was there.
type Reused struct {
	Cached        bool   `json:"cached,omitempty"`
	OriginBuildID string `json:"originBuildId,omitempty"` // the build that made it
	SavedMS       int64  `json:"savedMs,omitempty"`
}

// TaskCompleted is reported once, when the attempt that succeeded has ended.
type TaskCompleted struct {
	Task
	Reused
	FilesCreated int   `json:"filesCreated"`
	DurationMS   int64 `json:"durationMs"` // of the last attempt
}

// TaskFailed is reported of each attempt that fails.
type TaskFailed struct {
	Task
	Failure
	WillRetry bool  `json:"willRetry"`
	Attempts  int   `json:"attempts"`            // at most, the first one included
	RetryInMS int64 `json:"retryInMs,omitempty"` // until the next attempt begins
}

// Failure is what went wrong. Message is set in the build's last event and names
// the step that failed: the build's status shows it.
type Failure struct {
	Message  string `json:"message,omitempty"`
	Error    string `json:"error"`
	ExitCode *int   `json:"exitCode,omitempty"`
	Output   string `json:"output,omitempty"` // the last 4 KiB
	// RequestID is a planner's provider's name of the request that failed.
	RequestID string `json:"requestId,omitempty"`
}

// Of returns the failure with its Message.
func (f Failure) Of(what string) Failure {
	f.Message = what + " failed: " + f.Error
	return f
}

// DeployStarted is reported once, before any other event of the deploy.
type DeployStarted struct {
	Target string `json:"target"`
}

// BuildProgress is reported when a stage begins and, with Done, when it has ended.
type BuildProgress struct {
	Stage      string `json:"stage,omitempty"` // install or build; empty: what comes after them
	Message    string `json:"message"`
	Percent    int    `json:"percent"` // of the deploying phase, 0-100
	Done       bool   `json:"done,omitempty"`
	DurationMS int64  `json:"durationMs,omitempty"`
	Command    string `json:"command,omitempty"` // that was found; empty: it is the plan's
	Reused
}

// BuildFailed reports a failure outside of tasks. Stage is planning, install or build; empty if the build failed elsewhere.
type BuildFailed struct {
	Stage string `json:"stage,omitempty"`
	Failure
}

// DeployProgress is how far the target is.
type DeployProgress struct {
	Message  string `json:"message"`
	Percent  int    `json:"percent,omitempty"` // of the deploying phase, 0-100; 0: the target cannot tell
	Uploaded int    `json:"uploaded,omitempty"`
	Total    int    `json:"total,omitempty"` // files that are to be uploaded
}

// DeployCompleted is the last event of a build that was deployed.
type DeployCompleted struct {
	Target     string `json:"target"`
	PreviewURL string `json:"previewUrl"`
	Ref        string `json:"ref,omitempty"` // the target's own name of the deployment
}

// DeployFailed is the last event of a build whose deploy failed.
type DeployFailed struct {
	Target string `json:"target"`
	Failure
}

// Source names the step whose output a build_log has.
type Source struct {
	TaskName string `json:"taskName,omitempty"`
	Stage    string `json:"stage,omitempty"`
}

// BuildLog carries output. Dropped counts lines that were left out before these: they did not fit
// into the buffer while the store was unreachable.
type BuildLog struct {
	Source
	Lines   []string `json:"lines"`
	Dropped int      `json:"dropped,omitempty"`
	Cached  bool     `json:"cached,omitempty"` // another build's command has printed it
}

// Nothing is the data of an event without data.
type Nothing struct{}

// maxNames bounds the names in plan_generated, in bytes as JSON.
const maxNames = 48 << 10

// Names returns the tasks' names that fit.
func Names(tasks []buildcast.Task) []string {
	names := []string{}
	bytes := 0
	for _, t := range tasks {
		if bytes += 3*len(t.Name) + 3; bytes > maxNames { // 3: a byte may be escaped
			break
		}
		names = append(names, t.Name)
	}
	return names
}

// Event returns the event with its data and its key.
func Event(typ string, data any) (buildcast.NewEvent, error) {
	b, err := encode(data)
	return buildcast.NewEvent{Type: typ, Data: b, Key: Key(typ, b)}, err
}

// encode returns data as the log stores it. It does not escape < and >: the
// limits of output rely on that.
func encode(data any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(data)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Key is the idempotency key of an event: it names what the event reports. It is empty
// if an event of this type may be reported more than once. Reading a log does not return the events' keys,
// so a resumed run computes them from the events' data. A log of an earlier
// version, whose keys had no prefix, is resumed in the same way.
func Key(typ string, data json.RawMessage) string {
	w := readWords(data)
	switch typ {
	case buildcast.TaskStarted, buildcast.TaskFailed:
		// The attempt comes first: a task may be called 2:x.
		return key(typ, strconv.Itoa(max(w.Attempt, 1)), w.TaskName)
	case buildcast.TaskCompleted:
		return key(typ, w.TaskName)
	case buildcast.BuildProgress:
		return key(typ, w.Stage, strconv.FormatBool(w.Done))
	case buildcast.DeployProgress:
		return key(typ, w.Message)
	case buildcast.PlannerUsage:
		return key(typ, w.Request, w.RequestID)
	case buildcast.PlanStarted, buildcast.PlanGenerated, buildcast.DeployStarted, buildcast.BuildStarted,
		buildcast.DeployCompleted, buildcast.DeployFailed, buildcast.BuildCompleted, buildcast.BuildFailed:
		return buildcast.ReservedKeyPrefix + typ
	}
	return ""
}

func key(typ string, parts ...string) string {
	typ = buildcast.ReservedKeyPrefix + typ
	k := typ + ":" + strings.Join(parts, ":")
	if len(k) <= buildcast.MaxEventKey {
		return k
	}
	sum := sha256.Sum256([]byte(strings.TrimPrefix(k, buildcast.ReservedKeyPrefix)))
	return typ + ":sha256:" + hex.EncodeToString(sum[:])
}
