package buildcast

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var start = TimeOf(time.Date(2026, 11, 23, 7, 13, 50, 0, time.UTC))

func fold(events []Event) Status {
	s := NewStatus("27", "site", start)
	for i := range events {
		events[i].ID = int64(i + 1)
		s.Apply(&events[i])
	}
	return s
}

func event(typ, data string) Event {
	return Event{BuildID: "27", Type: typ, Data: json.RawMessage(data), Timestamp: start}
}

func TestReferenceBuild(t *testing.T) {
	events := []Event{
		event("plan_started", `{"message":"Analyzing requirements..."}`),
		event("plan_generated", `{"taskCount":3}`),
		event("task_started", `{"taskName":"Create HTML Test Page"}`),
		event("task_started", `{"taskName":"Create CSS Styles"}`),
		event("task_started", `{"taskName":"Create JavaScript File"}`),
		event("task_completed", `{"filesCreated":1}`),
		event("task_completed", `{"filesCreated":1}`),
		event("task_completed", `{"filesCreated":1}`),
		event("deploy_started", `{}`),
		event("build_started", `{}`),
		event("deploy_progress", `{"message":"Uploading..."}`),
		event("deploy_completed", `{"previewUrl":"https://e05f45e2.sheenapps-preview.pages.dev"}`),
	}
	s := fold(events)
	var progress []int
	for _, e := range events {
		progress = append(progress, e.Progress)
	}
	if want := []int{10, 20, 30, 40, 50, 60, 70, 70, 80, 80, 80, 100}; !slices.Equal(progress, want) {
		t.Errorf("progress = %v, want %v", progress, want)
	}
	want := Status{
		BuildID: "27", Project: "site", Phase: Completed, Progress: 100, Message: "Deployed",
		Tasks: Tasks{Total: 3, Started: 3, Completed: 3}, PreviewURL: "https://e05f45e2.sheenapps-preview.pages.dev",
		CreatedAt: start, StartedAt: &start, UpdatedAt: start, FinishedAt: &start, FirstEventID: 1, LastEventID: 12,
	}
	if diff := cmp.Diff(want, s, cmp.Comparer(Time.Equal)); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestFoldTable(t *testing.T) {
	planned := func(n int, more ...Event) []Event {
		return append([]Event{event("plan_generated", fmt.Sprintf(`{"taskCount":%d}`, n))}, more...)
	}
	started, completed := event("task_started", `{}`), event("task_completed", `{}`)
	tests := []struct {
		name     string
		events   []Event
		phase    Phase
		progress int
	}{
		{"created", nil, Queued, 0},
		{"planning", []Event{event("plan_started", "{}")}, Planning, 10},
		{"up to the next ten for five tasks", planned(5, started), Executing, 30},
		{"up to the next percent for six", planned(6, started), Executing, 25},
		{"seven of ten steps", planned(5, started, started, started, completed), Executing, 40},
		{"not above 70", planned(1, started, completed, started, completed), Executing, 70},
		{"more started than planned", planned(2, started, started, started), Executing, 50},
		{"a task without a plan", []Event{started}, Executing, 20},
		{"a retried task counts once", planned(2, started, event("task_failed", `{"willRetry":true}`), event("task_started", `{"attempt":2}`)), Executing, 40},
		{"failed for good", planned(2, started, event("task_failed", `{"willRetry":false}`)), Failed, 40},
		{"a failure that announces no retry is final", planned(2, started, event("task_failed", `{}`)), Failed, 40},
		{"deploy", []Event{event("deploy_started", `{}`)}, Deploying, 80},
		{"half of the deploy", []Event{event("deploy_progress", `{"percent":50}`)}, Deploying, 89},
		{"all of the deploy", []Event{event("deploy_progress", `{"percent":250}`)}, Deploying, 99},
		{"percent below zero", []Event{event("build_progress", `{"percent":-5}`)}, Deploying, 80},
		{"deployed", []Event{event("deploy_completed", `{}`)}, Completed, 100},
		{"built", []Event{event("build_completed", `{}`)}, Completed, 100},
		{"deploy failed", []Event{event("deploy_started", `{}`), event("deploy_failed", `{}`)}, Failed, 80},
		{"build failed", []Event{event("plan_started", `{}`), event("build_failed", `{}`)}, Failed, 10},
		{"cancelled", []Event{event("plan_started", `{}`), event("build_cancelled", `{}`)}, Cancelled, 10},
		{"own type with progress", []Event{event("crawl.page", `{"progress":42.9}`)}, Queued, 42},
		{"own type cannot lower it", []Event{event("deploy_started", `{}`), event("x", `{"progress":5}`)}, Deploying, 80},
		{"own type within 100", []Event{event("x", `{"progress":1e9}`)}, Queued, 100},
		{"wrong types count as absent", []Event{event("plan_generated", `{"taskCount":"3","message":7}`), event("x", `{"progress":"9"}`), event("x", `[1]`)}, Executing, 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := fold(tt.events)
			if s.Phase != tt.phase || s.Progress != tt.progress {
				t.Errorf("got %s %d, want %s %d", s.Phase, s.Progress, tt.phase, tt.progress)
			}
		})
	}
}

func TestFailureTellsWhy(t *testing.T) {
	s := fold([]Event{event("task_failed", `{"taskName":"a","error":"exit status 2"}`)})
	if s.Error != "exit status 2" || s.Message != "exit status 2" {
		t.Errorf("error %q, message %q", s.Error, s.Message)
	}
	long := fold([]Event{event("build_failed", fmt.Sprintf(`{"error":%q}`, fmt.Sprintf("%02000d", 1)))})
	if len(long.Error) > maxMessage+len("…") {
		t.Errorf("the error has %d bytes", len(long.Error))
	}
}

func eventGen() *rapid.Generator[Event] {
	types := rapid.SampledFrom([]string{
		PlanStarted, PlanGenerated, TaskStarted, TaskCompleted, TaskFailed, DeployStarted, DeployProgress,
		BuildStarted, BuildProgress, BuildLog, "own.type", DeployCompleted, DeployFailed, BuildCompleted, BuildFailed, BuildCancelled,
	})
	data := rapid.SampledFrom([]string{
		`{}`, `{"taskCount":3}`, `{"taskCount":40}`, `{"taskCount":-1}`, `{"willRetry":true}`, `{"willRetry":false}`,
		`{"percent":37}`, `{"progress":61}`, `{"message":"m"}`, `{"taskName":"a","attempt":2}`, `[]`, `"text"`, `{"percent":"x"}`,
	})
	return rapid.Custom(func(t *rapid.T) Event {
		at := TimeOf(start.Std().Add(time.Duration(rapid.IntRange(0, 1e6).Draw(t, "ms")) * time.Millisecond))
		return Event{BuildID: "27", Type: types.Draw(t, "type"), Data: json.RawMessage(data.Draw(t, "data")), Timestamp: at}
	})
}

// The stores keep the status as JSON between batches, so a split of the log
// must not change what it folds to.
func TestAnySplitFoldsToTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(eventGen(), 0, 40).Draw(t, "events")
		whole := fold(slices.Clone(events))

		s := NewStatus("27", "site", start)
		for i := range events {
			if rapid.Bool().Draw(t, "cut") {
				b, err := json.Marshal(s)
				if err != nil {
					t.Fatal(err)
				}
				s = Status{}
				if err := json.Unmarshal(b, &s); err != nil {
					t.Fatal(err)
				}
			}
			events[i].ID = int64(i + 1)
			s.Apply(&events[i])
		}
		if diff := cmp.Diff(whole, s, cmp.Comparer(Time.Equal)); diff != "" {
			t.Fatalf("split (-whole +split):\n%s", diff)
		}
	})
}

func TestProgressNeverFallsAndTheEndIsFinal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewStatus("27", "site", start)
		for i, e := range rapid.SliceOfN(eventGen(), 0, 60).Draw(t, "events") {
			before := s
			e.ID = int64(i + 1)
			s.Apply(&e)
			if e.Progress != s.Progress || s.Progress < before.Progress || s.Progress > 100 {
				t.Fatalf("%s: progress %d -> %d, event says %d", e.Type, before.Progress, s.Progress, e.Progress)
			}
			if s.LastEventID != e.ID {
				t.Fatalf("last event id %d after event %d", s.LastEventID, e.ID)
			}
			if before.Phase.Terminal() {
				before.LastEventID = e.ID
				if diff := cmp.Diff(before, s, cmp.Comparer(Time.Equal)); diff != "" {
					t.Fatalf("%s changed a finished build:\n%s", e.Type, diff)
				}
			}
		}
	})
}
