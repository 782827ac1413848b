package pipeline

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/store"
)

// retry queues the repetition of a build.
func (r *rig) retry(id, of, from string) {
	r.t.Helper()
	old, err := r.store.GetBuild(r.t.Context(), of)
	if err != nil {
		r.t.Fatal(err)
	}
	again := store.NewBuild{ID: id, Project: old.Project, Plan: old.Plan, Deploy: old.Deploy, Options: buildcast.Options{RetryOf: of, RetryFrom: from}}
	if _, _, err := r.store.CreateBuild(r.t.Context(), again); err != nil {
		r.t.Fatal(err)
	}
}

// twenty is a plan of 20 tasks in five chains. The second task of the third chain fails
// until the file repaired exists. Each task adds a line to a file of its chain.
func twenty(rec record, repaired string) *buildcast.Plan {
	plan := &buildcast.Plan{Name: "twenty", Build: rec.note("build") + "; cat chain* > all", Deploy: buildcast.DeployNone}
	for i := range 20 {
		name, script := fmt.Sprintf("t%02d", i), rec.note(fmt.Sprintf("t%02d", i))
		if i == 7 {
			script += "; [ -e " + repaired + " ]"
		}
		t := shell(name, script+fmt.Sprintf(" && echo %s >> chain%d", name, i%5))
		if i >= 5 {
			t.Needs = []string{plan.Tasks[i-5].Name}
		}
		plan.Tasks = append(plan.Tasks, t)
	}
	return plan
}

// taken returns the names of the tasks and stages that the log has as taken over, each
// with the build that ran it.
func taken(events []buildcast.Event) map[string]string {
	found := map[string]string{}
	for i := range events {
		if d := read[struct {
			report.TaskCompleted
			Stage string `json:"stage"`
		}](&events[i]); d.Cached {
			found[d.TaskName+d.Stage] = d.OriginBuildID
		}
	}
	return found
}

// wantRetried checks that the retry ran or took over each task once, that the origins
// are right, and that the files are those of one run.
func wantRetried(t *testing.T, r *rig, id string, old map[string]string, ran []string) {
	t.Helper()
	events := r.events(id)
	if last := events[len(events)-1]; last.Type != buildcast.BuildCompleted {
		t.Fatalf("%s", lines(events))
	}
	if d := cmp.Diff(old, taken(events)); d != "" {
		t.Errorf("taken over (-want +got):\n%s", d)
	}
	seen := map[string]int{}
	for _, name := range ran {
		seen[name]++
	}
	for i := range 20 {
		name := fmt.Sprintf("t%02d", i)
		if (old[name] != "") == (seen[name] == 1) {
			t.Errorf("%s: taken over from %q, and ran %d times", name, old[name], seen[name])
		}
	}
	if n := len(of(events, buildcast.TaskStarted)); n != 20 || len(of(events, buildcast.TaskCompleted)) != 20 {
		t.Errorf("%d tasks started, %d completed", n, len(of(events, buildcast.TaskCompleted)))
	}
	st := r.status(id)
	if st.Progress != 100 || st.Tasks.Completed != 20 {
		t.Errorf("%+v", st)
	}
}

// Retry of a failed 20-task build runs only the failed and the not-begun tasks; a retry
// of that one takes over what either has completed.
func TestRetryRunsWhatIsLeft(t *testing.T) {
	r := newRig(t)
	rec, repaired := r.record(), filepath.Join(r.dir, "repaired")
	r.build("b1", twenty(rec, repaired))
	p := r.pipeline("node", func(c *Config) { c.MaxTasks = 1 })
	r.start(p)
	r.end("b1")
	first := rec.lines(t)
	completed := map[string]string{}
	for _, e := range of(r.events("b1"), buildcast.TaskCompleted) {
		completed[read[report.Task](&e).TaskName] = "b1"
	}
	if len(completed) < 5 || len(completed) > 15 {
		t.Fatalf("%d tasks completed", len(completed))
	}
	r.retry("b2", "b1", buildcast.RetryFailed)
	p.Kick()
	r.end("b2") // it fails in the same way
	second := rec.lines(t)
	if d := cmp.Diff(completed, taken(r.events("b2"))); d != "" {
		t.Errorf("b2 has taken over (-want +got):\n%s", d)
	}
	for _, name := range second[len(first):] {
		if completed[name] != "" {
			t.Errorf("b2 ran %s again", name)
		}
	}
	for _, e := range of(r.events("b2"), buildcast.TaskCompleted) {
		if name := read[report.Task](&e).TaskName; completed[name] == "" {
			completed[name] = "b2"
		}
	}
	if err := os.WriteFile(repaired, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.retry("b3", "b2", buildcast.RetryFailed)
	p.Kick()
	r.end("b3")
	third := rec.lines(t)
	wantRetried(t, r, "b3", completed, third[len(second):])
	all, err := os.ReadFile(filepath.Join(p.config.Dir, "b3", "work", "all"))
	if err != nil || len(strings.Fields(string(all))) != 20 {
		t.Errorf("the files: %q, %v", all, err)
	}

	// All is completed: a retry runs nothing, from the start everything.
	r.retry("b4", "b3", buildcast.RetryFailed)
	p.Kick()
	r.end("b4")
	for i := range 20 {
		if name := fmt.Sprintf("t%02d", i); completed[name] == "" {
			completed[name] = "b3"
		}
	}
	completed[report.Build] = "b3"
	wantRetried(t, r, "b4", completed, rec.lines(t)[len(third):])
	if n := len(rec.lines(t)); n != len(third) {
		t.Errorf("%d commands ran again: %v", n-len(third), rec.lines(t)[len(third):])
	}
	r.retry("b5", "b4", buildcast.RetryStart)
	p.Kick()
	r.end("b5")
	wantRetried(t, r, "b5", map[string]string{}, rec.lines(t)[len(third):])
}

// A node that does not have the old workspace runs everything, and says so.
func TestRetryWithoutTheWorkspace(t *testing.T) {
	r := newRig(t)
	rec, repaired := r.record(), filepath.Join(r.dir, "repaired")
	r.build("b1", twenty(rec, repaired))
	stop := r.start(r.pipeline("node"))
	r.end("b1")
	stop()
	n := len(rec.lines(t))
	if err := os.WriteFile(repaired, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.retry("b2", "b1", buildcast.RetryFailed)
	r.start(r.pipeline("other"))
	r.end("b2")
	wantRetried(t, r, "b2", map[string]string{}, rec.lines(t)[n:])
	r.output("b2", "[nothing is taken over from build b1: its workspace is no longer on this machine]")
}

// The old build's id may be another build's by now, or nobody's.
func TestRetryOfABuildThatIsGone(t *testing.T) {
	r := newRig(t)
	rec, repaired := r.record(), filepath.Join(r.dir, "repaired")
	if err := os.WriteFile(repaired, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"b1", "c1"} {
		r.build(id, &buildcast.Plan{Name: "x", Build: "false", Deploy: buildcast.DeployNone})
	}
	p := r.pipeline("node")
	stop := r.start(p)
	r.end("b1")
	r.end("c1")
	stop()
	for id, reason := range map[string]string{"b1": "another build has its id now", "none": "it was deleted"} {
		again := "again-" + id
		in := store.NewBuild{ID: again, Plan: twenty(rec, repaired), Options: buildcast.Options{RetryOf: id, RetryFrom: buildcast.RetryFailed}}
		if _, _, err := r.store.CreateBuild(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		n := len(rec.lines(t))
		stop := r.start(r.pipeline("node"))
		r.end(again)
		stop()
		wantRetried(t, r, again, map[string]string{}, rec.lines(t)[n:])
		r.output(again, "[nothing is taken over from build "+id+": "+reason+"]")
	}
}

// A retry that was cut off at any point of its log, in the workspace that it has begun,
// goes on there: each event is reported once, and nothing runs twice.
func TestRetryResumesFromEachPrefix(t *testing.T) {
	r := newRig(t)
	rec, repaired := r.record(), filepath.Join(r.dir, "repaired")
	plan := twenty(rec, repaired)
	r.build("b1", plan)
	stop := r.start(r.pipeline("node"))
	r.end("b1")
	if err := os.WriteFile(repaired, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.retry("whole", "b1", buildcast.RetryFailed)
	r.end("whole")
	stop()
	whole := slices.DeleteFunc(r.events("whole"), func(e buildcast.Event) bool { return e.Type == buildcast.BuildLog })
	old := taken(whole)
	for n := 0; n < len(whole); n += 6 {
		id := fmt.Sprintf("cut%d", n)
		r.retry(id, "b1", buildcast.RetryFailed)
		// The workspace was made before the first event, and the files are those of b1:
		// what the retry itself has completed is in its log with higher ids.
		for _, e := range whole[:n] {
			in := buildcast.NewEvent{Type: e.Type, Data: e.Data, Key: report.Key(e.Type, e.Data)}
			if _, err := r.log.Append(t.Context(), id, 0, in); err != nil {
				t.Fatal(err)
			}
		}
		before := len(rec.lines(t))
		stop := r.start(r.pipeline("node"))
		r.end(id)
		stop()
		if d := cmp.Diff(old, taken(r.events(id))); d != "" {
			t.Errorf("%s: taken over (-want +got):\n%s", id, d)
		}
		got, want := keys(r.events(id)), keys(whole)
		slices.Sort(got)
		slices.Sort(want)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: events (-whole +resumed):\n%s", id, d)
		}
		// Its workspace is new, so what it had completed itself runs again; what b1 has
		// completed does not.
		for _, name := range rec.lines(t)[before:] {
			if old[name] != "" {
				t.Errorf("%s: %s ran again", id, name)
			}
		}
	}
}
