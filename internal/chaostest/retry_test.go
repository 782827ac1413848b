package chaostest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/pgtest"
)

// Retry of a failed 20-task build runs only the failed and the not-begun tasks, also if
// the server is killed in the middle of the retry.
func TestRetryKilledOnSQLite(t *testing.T) {
	runs := t.TempDir()
	n := newNode(t, "", "--tasks", "1")
	n.start()
	c := n.client()
	failTwenty(t, c, runs)
	completed := completedBy(t, c, "b1")
	if len(completed) != 12 {
		t.Fatalf("%d tasks completed before the failure: %v", len(completed), completed)
	}
	again, err := c.Retry(t.Context(), "b1", client.Retry{IdempotencyKey: "once"})
	if err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the retry is in its middle", func() bool { return slices.Contains(readRuns(t, runs), "t15") })
	n.kill()
	n.start()
	if same, err := c.Retry(t.Context(), "b1", client.Retry{IdempotencyKey: "once"}); err != nil || same.ID != again.ID {
		t.Errorf("the same request again: %s, %v", same.ID, err)
	}
	wantRetried(t, c, again.ID, completed)
	ran := map[string]int{}
	for _, name := range readRuns(t, runs) {
		ran[name]++
	}
	for name := range completed {
		if ran[name] != 1 {
			t.Errorf("%s ran %d times", name, ran[name])
		}
	}
	for i := 12; i < 20; i++ { // t15 was cut off, or completed just before
		if name := fmt.Sprintf("t%02d", i); ran[name] == 0 || ran[name] > 2 {
			t.Errorf("%s ran %d times", name, ran[name])
		}
	}
}

// The node that runs the retry does not have the workspace: it runs everything.
func TestRetryOnAnotherNode(t *testing.T) {
	runs, database := t.TempDir(), pgtest.URL(t)
	one := newNode(t, database, "--tasks", "4")
	one.start()
	failTwenty(t, one.client(), runs)
	one.kill()
	other := newNode(t, database, "--tasks", "4")
	other.start()
	c := other.client()
	before := len(readRuns(t, runs))
	again, err := c.Retry(t.Context(), "b1", client.Retry{})
	if err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the retry is in its middle", func() bool { return len(readRuns(t, runs)) > before+10 })
	other.kill()
	other.start()
	wantRetried(t, c, again.ID, map[string]bool{})
	ran := readRuns(t, runs)[before:]
	for i := range 20 {
		if name := fmt.Sprintf("t%02d", i); !slices.Contains(ran, name) {
			t.Errorf("%s did not run", name)
		}
	}
}

// failTwenty runs a build of 20 tasks in a row, each of which needs the file of the one
// before. The 13th fails when it is run for the first time.
func failTwenty(t *testing.T, c *client.Client, runs string) {
	t.Helper()
	plan := &buildcast.Plan{Name: "twenty", Deploy: buildcast.DeployNone, Build: "test $(ls | wc -l) = 20"}
	record := filepath.Join(runs, "ran")
	for i := range 20 {
		task := buildcast.Task{Name: fmt.Sprintf("t%02d", i), Run: fmt.Sprintf("echo t%02d >> %s; sleep 0.1; touch t%02d", i, record, i)}
		if i > 0 {
			task.Needs = []string{plan.Tasks[i-1].Name}
			task.Run = fmt.Sprintf("[ -e t%02d ] && ", i-1) + task.Run
		}
		if i == 12 {
			task.Run = fmt.Sprintf("[ -e %[1]s/tried ] || { touch %[1]s/tried; exit 1; }; ", runs) + task.Run
		}
		plan.Tasks = append(plan.Tasks, task)
	}
	if _, err := c.CreateBuild(t.Context(), client.CreateBuild{ID: "b1", Plan: plan}); err != nil {
		t.Fatal(err)
	}
	if st := followed(t, c, "b1"); st.Phase != buildcast.Failed {
		t.Fatalf("%+v", st)
	}
}

func followed(t *testing.T, c *client.Client, id string) buildcast.Status {
	t.Helper()
	for _, err := range c.Follow(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	st, err := c.Status(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// wantRetried waits for the end of the retry, whose log has these tasks as taken over
// from b1, and each task once.
func wantRetried(t *testing.T, c *client.Client, id string, old map[string]bool) {
	t.Helper()
	if st := followed(t, c, id); st.Phase != buildcast.Completed || st.Tasks.Completed != 20 {
		t.Fatalf("%+v", st)
	}
	if b, err := c.Build(t.Context(), id); err != nil || b.RetryOf != "b1" || b.RetryFrom != buildcast.RetryFailed {
		t.Errorf("%+v, %v", b.Options, err)
	}
	seen := map[string]bool{}
	for _, e := range readAll(t, c, id) {
		var d struct {
			TaskName, OriginBuildID string
			Cached                  bool
		}
		_ = json.Unmarshal(e.Data, &d)
		if e.Type != buildcast.TaskCompleted {
			continue
		}
		if seen[d.TaskName] || d.Cached != old[d.TaskName] || d.Cached && d.OriginBuildID != "b1" {
			t.Errorf("%s: %s", d.TaskName, e.Data)
		}
		seen[d.TaskName] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d tasks completed", len(seen))
	}
}

func completedBy(t *testing.T, c *client.Client, id string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, e := range readAll(t, c, id) {
		var d struct{ TaskName string }
		_ = json.Unmarshal(e.Data, &d)
		if e.Type == buildcast.TaskCompleted {
			names[d.TaskName] = true
		}
	}
	return names
}

// readRuns returns the names of the tasks that ran, in order.
func readRuns(t *testing.T, runs string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(runs, "ran"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}
