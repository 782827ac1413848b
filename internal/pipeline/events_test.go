package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/outbox"
)

// Different events never have the same key, and the log accepts every key.
func TestKeysTellEventsApart(t *testing.T) {
	long := strings.Repeat("n", 200)
	seen := map[string]string{}
	for _, e := range []struct {
		typ  string
		data any
	}{
		{buildcast.PlanStarted, planStarted{Sandbox: "bwrap"}},
		{buildcast.TaskStarted, task{TaskName: "a", Attempt: 1}},
		{buildcast.TaskStarted, task{TaskName: "a", Attempt: 2}},
		{buildcast.TaskStarted, task{TaskName: "2:a", Attempt: 1}},
		{buildcast.TaskStarted, task{TaskName: "1:a", Attempt: 1}},
		{buildcast.TaskStarted, task{TaskName: long, Attempt: 1}},
		{buildcast.TaskStarted, task{TaskName: long, Attempt: 2}},
		{buildcast.TaskStarted, task{TaskName: long[1:] + "m", Attempt: 1}},
		{buildcast.TaskFailed, taskFailed{task: task{TaskName: "a", Attempt: 1}}},
		{buildcast.TaskCompleted, taskCompleted{task: task{TaskName: "a", Attempt: 1}}},
		{buildcast.TaskCompleted, taskCompleted{task: task{TaskName: long, Attempt: 1}}},
		{buildcast.BuildProgress, buildProgress{Stage: "install"}},
		{buildcast.BuildProgress, buildProgress{Stage: "install", Done: true}},
		{buildcast.BuildProgress, buildProgress{Stage: "build"}},
		{buildcast.DeployProgress, deployProgress{Message: "one"}},
		{buildcast.DeployProgress, deployProgress{Message: "two"}},
		{buildcast.DeployProgress, deployProgress{Message: strings.Repeat("é", 5000)}},
	} {
		data, err := encode(e.data)
		if err != nil {
			t.Fatal(err)
		}
		key := keyOf(e.typ, data)
		ev := buildcast.NewEvent{Type: e.typ, Data: data, Key: eventKey(key)}
		if err := ev.Validate(); err != nil || key == "" || !strings.HasPrefix(ev.Key, buildcast.ReservedKeyPrefix) {
			t.Errorf("%s %s: key %q: %v", e.typ, data, key, err)
		}
		what := fmt.Sprintf("%s %s", e.typ, data)
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s have the key %s", what, other, key)
		}
		seen[key] = what
	}
	if key := keyOf(buildcast.BuildLog, json.RawMessage(`{"lines":[]}`)); key != "" {
		t.Errorf("output has the key %q: the same line could not come twice", key)
	}
}

// The log accepts the plan_generated of the largest valid plan.
func TestPlanOfManyLongNamesFits(t *testing.T) {
	tasks := make([]buildcast.Task, buildcast.MaxTasks)
	for i := range tasks {
		tasks[i].Name = fmt.Sprintf("%04d%s", i, strings.Repeat(`"`, 196))
	}
	data, err := encode(planGenerated{TaskCount: len(tasks), Tasks: namesOf(tasks)})
	if err != nil {
		t.Fatal(err)
	}
	e := buildcast.NewEvent{Type: buildcast.PlanGenerated, Data: data}
	if err := e.Validate(); err != nil {
		t.Error(err)
	}
	if got := read[planGenerated](&buildcast.Event{Data: data}); got.TaskCount != 1000 || len(got.Tasks) < 50 {
		t.Errorf("%d names of %d", len(got.Tasks), got.TaskCount)
	}
}

// Output that does not fit is counted. The number is reported with the next output
// that fits, or before the last event. Steps of the build are accepted even then.
func TestDroppedOutputIsTold(t *testing.T) {
	var stored []buildcast.NewEvent
	e := outbox.New(func(_ context.Context, events []buildcast.NewEvent) error {
		stored = append(stored, events...)
		return nil
	}, outbox.Options{MaxEvents: 2, Logger: quiet})
	j := newJournal(e, map[string]bool{}, quiet)
	j.report(buildcast.PlanStarted, planStarted{Sandbox: "none"})
	j.output(source{Stage: "build"}, []string{"fits"})
	j.output(source{Stage: "build"}, []string{"a", "b"})
	j.output(source{Stage: "build"}, []string{"c"})
	j.report(buildcast.PlanGenerated, planGenerated{})
	j.end(buildcast.BuildCompleted, nothing{})
	j.output(source{Stage: "build"}, []string{"after the end"})
	j.report(buildcast.BuildStarted, nothing{})

	sendAll(t, e)
	var types []string
	for _, ev := range stored {
		types = append(types, ev.Type)
	}
	want := "plan_started build_log plan_generated build_log build_completed"
	if got := strings.Join(types, " "); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	if log := read[buildLog](&buildcast.Event{Data: stored[3].Data}); log.Dropped != 3 {
		t.Errorf("%+v", log)
	}
}

// sendAll makes the emitter send its waiting events.
func sendAll(t *testing.T, e *outbox.Outbox) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	if err := e.Flush(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
