package pipeline

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/pipeline/workspace"
)

// resumable is a plan with everything in it, whose commands note that they ran.
func resumable(rec record) *buildcast.Plan {
	flaky := shell("flaky", rec.note("flaky")+"; [ -e tried ] || { touch tried; exit 1; }", "files")
	flaky.Retries = 1
	return &buildcast.Plan{
		Name: "resumable",
		Tasks: []buildcast.Task{
			{Name: "files", Files: map[string]buildcast.File{"out/index.html": {Content: []byte("page")}}},
			shell("one", rec.note("one")), flaky, shell("two", rec.note("two"), "one", "flaky"),
		},
		Install: rec.note("install"), Build: rec.note("build"), Output: "out",
	}
}

// reference runs the plan without interruption and returns its log.
func reference(t *testing.T) []buildcast.Event {
	r := newRig(t)
	events := r.run("b", resumable(r.record()))
	if last := events[len(events)-1]; last.Type != buildcast.DeployCompleted {
		t.Fatalf("%s", lines(events))
	}
	return events
}

// cutOff makes a build whose log is the first n events of another.
func cutOff(r *rig, plan *buildcast.Plan, log []buildcast.Event) {
	cutOffWith(r, plan, log, func(e *buildcast.Event) string { return report.Key(e.Type, e.Data) })
}

// cutOffWith is cutOff with other keys.
func cutOffWith(r *rig, plan *buildcast.Plan, log []buildcast.Event, key func(*buildcast.Event) string) {
	r.build("b", plan)
	for _, e := range log {
		in := buildcast.NewEvent{Type: e.Type, Data: e.Data, Key: key(&e), Timestamp: e.Timestamp}
		if _, err := r.log.Append(r.t.Context(), "b", 0, in); err != nil {
			r.t.Fatal(err)
		}
	}
}

// checkResumed checks that the log continues where it was cut, and that it has each
// event once.
func checkResumed(t *testing.T, whole, cut, got []buildcast.Event) {
	t.Helper()
	for i := range cut {
		if got[i].Type != cut[i].Type || string(got[i].Data) != string(cut[i].Data) {
			t.Errorf("event %d has changed: %s", i+1, lines(got[i:i+1]))
		}
	}
	want, have := keys(whole), keys(got)
	slices.Sort(want)
	slices.Sort(have)
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("events (-whole +resumed):\n%s", d)
	}
	if last := got[len(got)-1]; last.Type != buildcast.DeployCompleted {
		t.Errorf("the last event is %s", lines(got[len(got)-1:]))
	}
}

// A build can resume at each point of its log: each event is reported once, and
// completed work is not repeated.
func TestResumeFromEachPrefix(t *testing.T) {
	whole := reference(t)
	for n := range len(whole) {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			r := newRig(t)
			rec := r.record()
			cutOff(r, resumable(rec), whole[:n])
			p := r.pipeline("node")
			done := leaveWorkspace(r, p, whole[:n])
			r.start(p)
			r.end("b")

			checkResumed(t, whole, whole[:n], r.events("b"))
			ran := rec.lines(t)
			for _, name := range []string{"one", "flaky", "two", "install", "build"} {
				if done[name] == slices.Contains(ran, name) {
					t.Errorf("%s: completed before: %v, ran now: %v", name, done[name], ran)
				}
			}
			if d := cmp.Diff([]string{"index.html"}, r.target.files["b"]); d != "" {
				t.Errorf("deployed (-want +got):\n%s", d)
			}
		})
	}
}

// A build that ran during the upgrade has a log whose keys have no prefix. It
// resumes like any other: an event in its log is not reported again. A user's event
// whose key looks like an old key of the pipeline suppresses nothing.
func TestResumeOfALogOfAnEarlierVersion(t *testing.T) {
	whole := reference(t)
	at := slices.IndexFunc(whole, func(e buildcast.Event) bool { return e.Type == buildcast.BuildStarted })
	r := newRig(t)
	plan := resumable(r.record())
	cutOffWith(r, plan, whole[:at], func(e *buildcast.Event) string {
		return strings.TrimPrefix(report.Key(e.Type, e.Data), buildcast.ReservedKeyPrefix)
	})
	notes := []buildcast.NewEvent{
		{Type: "note", Key: buildcast.DeployCompleted}, {Type: "note", Key: buildcast.BuildStarted}, {Type: "note", Key: "build_progress:build:true"},
	}
	if _, err := r.log.Append(t.Context(), "b", 0, notes...); err != nil {
		t.Fatal(err)
	}
	p := r.pipeline("node")
	leaveWorkspace(r, p, whole[:at])
	r.start(p)
	r.end("b")
	checkResumed(t, whole, whole[:at], r.events("b"))
}

// leaveWorkspace creates the workspace as the interrupted run left it, and returns
// the completed steps.
func leaveWorkspace(r *rig, p *Pipeline, log []buildcast.Event) map[string]bool {
	r.t.Helper()
	b, err := r.store.GetBuild(r.t.Context(), "b")
	if err != nil {
		r.t.Fatal(err)
	}
	w, err := workspace.Open(p.config.Dir, "b", workspace.Owner{BuildID: "b", Created: b.CreatedAt}, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer w.Close()
	done := map[string]bool{}
	for i := range log {
		d := read[struct {
			TaskName string
			Stage    string
			Done     bool
		}](&log[i])
		switch {
		case log[i].Type == buildcast.TaskCompleted:
			done[d.TaskName] = true
		case log[i].Type == buildcast.BuildProgress && d.Done:
			done[d.Stage] = true
		case log[i].Type == buildcast.TaskFailed:
			if err := os.WriteFile(filepath.Join(w.Path(), "tried"), nil, 0o600); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	if done["files"] {
		if err := w.WriteFiles(r.t.Context(), 1, b.Plan.Tasks[0].Files); err != nil {
			r.t.Fatal(err)
		}
	}
	return done
}

// If the workspace is lost, completed work is repeated without events.
func TestResumeWithoutTheWorkspace(t *testing.T) {
	whole := reference(t)
	at := slices.IndexFunc(whole, func(e buildcast.Event) bool { return e.Type == buildcast.DeployProgress })
	r := newRig(t)
	rec := r.record()
	plan := resumable(rec)
	plan.Tasks[2].Run = rec.note("flaky") // the file that made it fail is not in the new workspace either
	cutOff(r, plan, whole[:at])
	r.start(r.pipeline("other"))
	r.end("b")

	checkResumed(t, whole, whole[:at], r.events("b"))
	ran := rec.lines(t)
	slices.Sort(ran)
	if d := cmp.Diff([]string{"build", "flaky", "install", "one", "two"}, ran); d != "" {
		t.Errorf("ran (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"index.html"}, r.target.files["b"]); d != "" {
		t.Errorf("deployed (-want +got):\n%s", d)
	}
}

// A task that is repeated without events and now fails still ends the build.
func TestResumeWithoutTheWorkspaceFails(t *testing.T) {
	r := newRig(t)
	once := filepath.Join(t.TempDir(), "once")
	plan := &buildcast.Plan{Tasks: []buildcast.Task{shell("once", fmt.Sprintf("mkdir '%s'", once)), shell("then", "true", "once")}}
	whole := r.run("first", plan)
	completed := slices.IndexFunc(whole, func(e buildcast.Event) bool { return e.Type == buildcast.TaskCompleted })
	cutOff(r, plan, whole[:completed+1])
	r.start(r.pipeline("other"))
	if last := r.end("b"); last.Type != buildcast.TaskFailed || read[report.TaskFailed](&last).WillRetry {
		t.Errorf("%s", lines(r.events("b")))
	}
}

// A drained build reports nothing, and continues at once at the next start: its
// lease is released, however long it is.
func TestDrainAndGoOn(t *testing.T) {
	r := newRig(t)
	rec := r.record()
	long := func(c *Config) { c.LeaseTTL = time.Hour }
	r.build("b", &buildcast.Plan{Tasks: []buildcast.Task{
		shell("before", rec.note("before")),
		shell("cut", rec.note("cut")+`; [ -e second ] && exit 0; touch second; echo $$; echo ready; sleep 1000`, "before"),
		shell("after", rec.note("after"), "cut"),
	}})
	stop := r.start(r.pipeline("node", long))
	r.output("b", "ready")
	stop()
	if leases, err := r.store.ClaimBuilds(t.Context(), "other", time.Millisecond, 1, nil); err != nil || len(leases) != 1 {
		t.Errorf("another node cannot take it up: %v, %v", leases, err)
	}
	drained := r.events("b")
	checkGone(t, drained)
	for _, e := range drained {
		if e.Type == buildcast.TaskFailed || e.Type == buildcast.BuildFailed {
			t.Errorf("%s", lines([]buildcast.Event{e}))
		}
	}
	stop = r.start(r.pipeline("node", long))
	r.end("b")
	stop()
	if d := cmp.Diff([]string{"before", "cut", "cut", "after"}, rec.lines(t)); d != "" {
		t.Errorf("ran (-want +got):\n%s", d)
	}
	got := keys(r.events("b"))
	slices.Sort(got)
	if c := slices.Compact(slices.Clone(got)); len(c) != len(got) {
		t.Errorf("an event is reported twice: %v", got)
	}
}

// A killed server has released no lease. The next server on the same data directory
// continues the builds at once all the same.
func TestRestartGoesOnAtOnce(t *testing.T) {
	r := newRig(t)
	r.build("b", &buildcast.Plan{Deploy: "none", Build: "true"})
	if leases, err := r.store.ClaimBuilds(t.Context(), "node", time.Hour, 1, nil); err != nil || len(leases) != 1 {
		t.Fatalf("%v, %v", leases, err)
	}
	r.start(r.pipeline("node"))
	r.end("b")
}

// checkGone checks that the processes whose ids are in the output have ended.
func checkGone(t *testing.T, events []buildcast.Event) {
	t.Helper()
	found := 0
	for i := range events {
		for _, line := range read[report.BuildLog](&events[i]).Lines {
			if pid, err := strconv.Atoi(line); err == nil {
				found++
				eventually(t, "process "+line+" is gone", func() bool { return gone(pid) })
			}
		}
	}
	if found == 0 {
		t.Error("no process has printed its id")
	}
}

// gone reports whether the process has ended; a zombie counts as ended.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// Processes that a killed server left running are ended before its build continues.
func TestLeftoversOfAKilledServerAreEnded(t *testing.T) {
	r := newRig(t)
	p := r.pipeline("node")
	r.build("b", &buildcast.Plan{Tasks: []buildcast.Task{shell("t", "true")}})
	leaveWorkspace(r, p, nil)
	dir, err := filepath.EvalSymlinks(p.config.Dir)
	if err != nil {
		t.Fatal(err)
	}
	left := leftover(t, "BUILDCAST_BUILD_ID=b", "BUILDCAST_WORKSPACE="+filepath.Join(dir, "b", "work"))
	other := leftover(t, "BUILDCAST_BUILD_ID=b", "BUILDCAST_WORKSPACE="+filepath.Join(dir, "b2", "work"))
	r.start(p)
	r.end("b")
	select {
	case <-left:
	case <-time.After(patience):
		t.Error("the leftover process still runs")
	}
	select {
	case <-other:
		t.Error("another build's process was ended")
	default:
	}
}

// leftover starts a process with that environment; the channel is closed when it has ended.
func leftover(t *testing.T, env ...string) <-chan struct{} {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	return ended
}
