package progress

import (
	"fmt"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
)

// Lines returns the event as lines for a pipe or a log file: the time since the
// build's start, the progress, and the event in words. The event must be the one that
// was applied last.
func (s *State) Lines(e buildcast.Event) []string {
	d := read(&e)
	since := time.Duration(0)
	if s.Status.StartedAt != nil {
		since = e.Timestamp.Std().Sub(s.Status.StartedAt.Std())
	}
	prefix := fmt.Sprintf("[%6s %3d%%] ", Duration(since), e.Progress)
	if e.Type == buildcast.BuildLog {
		return logLines(prefix, d)
	}
	return []string{prefix + sentence(e.Type, d)}
}

func logLines(prefix string, d data) []string {
	if of := d.TaskName + d.Stage; of != "" {
		prefix += of + " "
	}
	var out []string
	for _, line := range d.lines() {
		out = append(out, prefix+"| "+line)
	}
	return out
}

// sentence describes an event: the type's words, then what it is about.
func sentence(typ string, d data) string {
	words := strings.NewReplacer("_", " ", ".", " ").Replace(typ)
	if typ == buildcast.TaskFailed && d.WillRetry {
		words = "task attempt failed" // the task itself may still succeed
	}
	switch {
	case typ == buildcast.PlannerUsage:
		return usageSentence(words, d)
	case typ == buildcast.PlanGenerated && d.TaskCount > 0:
		return words + ": " + count(d.TaskCount, "task")
	case d.TaskName != "":
		words += ": " + d.TaskName
	case d.Stage != "" && (typ == buildcast.BuildStarted || typ == buildcast.BuildProgress):
		words += ": " + d.Stage
	}
	var more []string
	switch {
	case d.Attempts > 1:
		more = append(more, fmt.Sprintf("attempt %d of %d", d.Attempt, d.Attempts))
	case d.Attempt > 1:
		more = append(more, fmt.Sprintf("attempt %d", d.Attempt))
	}
	switch {
	case d.Cached:
		more = append(more, saved(d))
	case d.DurationMS > 0:
		more = append(more, Duration(milliseconds(d.DurationMS)))
	}
	if d.Sandbox != "" {
		more = append(more, "sandbox: "+d.Sandbox)
	}
	if n := len(d.Tasks); n > 0 && typ == buildcast.PlanProgress {
		more = append(more, count(n, "task")+", the last is "+oneLine(d.Tasks[n-1]))
	}
	if d.Percent != nil {
		more = append(more, fmt.Sprintf("%.0f%%", min(max(*d.Percent, 0), 100)))
	}
	if len(more) > 0 {
		words += " (" + strings.Join(more, ", ") + ")"
	}
	switch url := oneLine(d.PreviewURL); {
	case d.Error != "":
		words += ": " + d.Error
	case url != "":
		words += ": " + url
	case d.Message != "" && d.TaskName == "": // a task's message repeats its name
		words += ": " + d.Message
	}
	if d.WillRetry {
		words += "; the next attempt follows"
		if d.RetryInMS > 0 {
			words += " in " + Duration(milliseconds(d.RetryInMS))
		}
	}
	return words
}

// usageSentence tells what one answer of a planner took.
func usageSentence(words string, d data) string {
	if d.TaskName != "" {
		words += ": " + d.TaskName
	}
	var p planning
	p.use(d)
	return words + ": " + strings.TrimPrefix(strings.TrimSpace(p.rows()[0].Left[0].Text), "planner ")
}
