package report

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
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
		{buildcast.PlanStarted, PlanStarted{Sandbox: "bwrap"}},
		{buildcast.TaskStarted, Task{TaskName: "a", Attempt: 1}},
		{buildcast.TaskStarted, Task{TaskName: "a", Attempt: 2}},
		{buildcast.TaskStarted, Task{TaskName: "2:a", Attempt: 1}},
		{buildcast.TaskStarted, Task{TaskName: "1:a", Attempt: 1}},
		{buildcast.TaskStarted, Task{TaskName: long, Attempt: 1}},
		{buildcast.TaskStarted, Task{TaskName: long, Attempt: 2}},
		{buildcast.TaskStarted, Task{TaskName: long[1:] + "m", Attempt: 1}},
		{buildcast.TaskFailed, TaskFailed{Task: Task{TaskName: "a", Attempt: 1}}},
		{buildcast.TaskCompleted, TaskCompleted{Task: Task{TaskName: "a", Attempt: 1}}},
		{buildcast.TaskCompleted, TaskCompleted{Task: Task{TaskName: long, Attempt: 1}}},
		{buildcast.BuildProgress, BuildProgress{Stage: "install"}},
		{buildcast.BuildProgress, BuildProgress{Stage: "install", Done: true}},
		{buildcast.BuildProgress, BuildProgress{Stage: "build"}},
		{buildcast.DeployProgress, DeployProgress{Message: "one"}},
		{buildcast.DeployProgress, DeployProgress{Message: "two"}},
		{buildcast.DeployProgress, DeployProgress{Message: strings.Repeat("é", 5000)}},
	} {
		ev, err := Event(e.typ, e.data)
		if err != nil {
			t.Fatal(err)
		}
		data, key := ev.Data, ev.Key
		if err := ev.Validate(); err != nil || key == "" || !strings.HasPrefix(key, buildcast.ReservedKeyPrefix) {
			t.Errorf("%s %s: key %q: %v", e.typ, data, key, err)
		}
		what := fmt.Sprintf("%s %s", e.typ, data)
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s have the key %s", what, other, key)
		}
		seen[key] = what
	}
	if key := Key(buildcast.BuildLog, json.RawMessage(`{"lines":[]}`)); key != "" {
		t.Errorf("output has the key %q: the same line could not come twice", key)
	}
}

// The log accepts the plan_generated of the largest valid plan.
func TestPlanOfManyLongNamesFits(t *testing.T) {
	tasks := make([]buildcast.Task, buildcast.MaxTasks)
	for i := range tasks {
		tasks[i].Name = fmt.Sprintf("%04d%s", i, strings.Repeat(`"`, 196))
	}
	e, err := Event(buildcast.PlanGenerated, PlanGenerated{TaskCount: len(tasks), Tasks: Names(tasks)})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(); err != nil {
		t.Error(err)
	}
	if got := read[PlanGenerated](t, e.Data); got.TaskCount != 1000 || len(got.Tasks) < 50 {
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
	}, outbox.Options{MaxEvents: 2, Logger: slog.New(slog.DiscardHandler)})
	j := NewJournal(e, &History{reported: map[string]bool{}}, slog.New(slog.DiscardHandler))
	j.Report(buildcast.PlanStarted, PlanStarted{Sandbox: "none"})
	j.Output(Source{Stage: "build"}, []string{"fits"})
	j.Output(Source{Stage: "build"}, []string{"a", "b"})
	j.Output(Source{Stage: "build"}, []string{"c"})
	j.Report(buildcast.PlanGenerated, PlanGenerated{})
	j.End(buildcast.BuildCompleted, Nothing{})
	j.Output(Source{Stage: "build"}, []string{"after the end"})
	j.Report(buildcast.BuildStarted, Nothing{})

	sendAll(t, e)
	var types []string
	for _, ev := range stored {
		types = append(types, ev.Type)
	}
	want := "plan_started build_log plan_generated build_log build_completed"
	if got := strings.Join(types, " "); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	if log := read[BuildLog](t, stored[3].Data); log.Dropped != 3 {
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

func read[T any](t *testing.T, data json.RawMessage) (read T) {
	t.Helper()
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	return read
}
