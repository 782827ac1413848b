package buildcast

import (
	"encoding/json"
	"os"
	"path/filepath"
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

// The tests of the JavaScript fold read the vectors too (js/test/fold.test.js). The
// events of a vector are one second apart, and the first is one second after the
// build's creation.
func TestFoldVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/fold/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files of vectors, %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var vectors []struct {
			Name   string
			Events []Event
			Status Status
		}
		if err := json.Unmarshal(b, &vectors); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, v := range vectors {
			t.Run(v.Name, func(t *testing.T) {
				s := NewStatus("27", "site", start)
				for i, e := range v.Events {
					want := e.Progress
					e.ID, e.Timestamp = int64(i+1), TimeOf(start.Std().Add(time.Duration(i+1)*time.Second))
					if s.Apply(&e); e.Progress != want {
						t.Errorf("progress after event %d (%s) is %d, want %d", e.ID, e.Type, e.Progress, want)
					}
				}
				if diff := cmp.Diff(v.Status, s, cmp.Comparer(Time.Equal)); diff != "" {
					t.Errorf("status (-want +got):\n%s", diff)
				}
			})
		}
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
				t.Fatalf("%s: progress %d -> %d, in the event %d", e.Type, before.Progress, s.Progress, e.Progress)
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
