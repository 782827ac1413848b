package pipeline

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cleanup"
	"github.com/buildcast/buildcast/internal/deploy/local"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/pipeline/workspace"
	"github.com/buildcast/buildcast/internal/planfile"
)

// Build 27 is the reference: it has 12 events and a page.
func TestBuild27(t *testing.T) {
	plan, err := planfile.Read("../../examples/hello-site/plan.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	previews := local.New(local.Config{Dir: t.TempDir(), Logger: quiet})
	r.build("27", plan)
	stop := r.start(r.pipeline("node", func(c *Config) { c.Targets[buildcast.DeployLocal] = previews }))
	last := r.end("27")
	stop()

	events := r.events("27")
	var types []string
	var progress []int
	for _, e := range events {
		types = append(types, e.Type)
		progress = append(progress, e.Progress)
	}
	want := []string{
		"plan_started", "plan_generated", "task_started", "task_started", "task_started",
		"task_completed", "task_completed", "task_completed",
		"deploy_started", "build_started", "deploy_progress", "deploy_completed",
	}
	if d := cmp.Diff(want, types); d != "" {
		t.Errorf("types (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]int{10, 20, 30, 40, 50, 60, 70, 70, 80, 80, 80, 100}, progress); d != "" {
		t.Errorf("progress (-want +got):\n%s", d)
	}
	if d := cmp.Diff(report.PlanGenerated{TaskCount: 3, Tasks: []string{"Create HTML Test Page", "Create CSS Styles", "Create JavaScript File"}}, read[report.PlanGenerated](&events[1])); d != "" {
		t.Errorf("plan_generated (-want +got):\n%s", d)
	}
	for i, e := range of(events, buildcast.TaskStarted) {
		if d := cmp.Diff(report.Task{TaskName: plan.Tasks[i].Name, Index: i + 1, Attempt: 1}, read[report.Task](&e)); d != "" {
			t.Errorf("task_started (-want +got):\n%s", d)
		}
	}
	for _, e := range of(events, buildcast.TaskCompleted) {
		if read[report.TaskCompleted](&e).FilesCreated != 1 {
			t.Errorf("task_completed: %s", e.Data)
		}
	}
	if url := read[report.DeployCompleted](&last).PreviewURL; url != previews.URL("27") {
		t.Errorf("previewUrl %q, want %q", url, previews.URL("27"))
	}
}

func TestTasksRunAsTheirNeedsAllow(t *testing.T) {
	r := newRig(t)
	rec := r.record()
	step := func(name string, needs ...string) buildcast.Task {
		return shell(name, rec.note("+"+name)+"; "+rec.note("-"+name), needs...)
	}
	r.build("b", &buildcast.Plan{Tasks: []buildcast.Task{
		step("e", "c", "d"), step("a"), step("b"), step("c", "a"), step("d", "a", "b"), step("f"), step("g"),
	}})
	stop := r.start(r.pipeline("node", func(c *Config) { c.MaxTasks = 2 }))
	r.end("b")
	stop()

	running := 0
	for i, e := range r.events("b") {
		switch e.Type {
		case buildcast.TaskStarted:
			running++
		case buildcast.TaskCompleted:
			running--
		}
		if running > 2 {
			t.Errorf("event %d: %d tasks run at once", i+1, running)
		}
	}
	got := rec.lines(t)
	for _, want := range [][2]string{{"-a", "+c"}, {"-a", "+d"}, {"-b", "+d"}, {"-c", "+e"}, {"-d", "+e"}} {
		if before, after := slices.Index(got, want[0]), slices.Index(got, want[1]); before < 0 || before > after {
			t.Errorf("%s is not before %s in %v", want[0], want[1], got)
		}
	}
	started := of(r.events("b"), buildcast.TaskStarted)
	if a, b := read[report.Task](&started[0]).TaskName, read[report.Task](&started[1]).TaskName; a != "a" || b != "b" {
		t.Errorf("%s and %s start first, not the first two that are ready", a, b)
	}
}

func TestFailedTaskIsTriedAgain(t *testing.T) {
	r := newRig(t)
	flaky := shell("flaky", `[ -e tried ] || { touch tried; echo broken; exit 3; }`)
	flaky.Retries = 2
	events := r.run("b", &buildcast.Plan{Tasks: []buildcast.Task{flaky}})
	tasks := slices.DeleteFunc(keys(events), func(k string) bool { return !strings.HasPrefix(k, "task_") })
	if d := cmp.Diff([]string{"task_started:1:flaky", "task_failed:1:flaky", "task_started:2:flaky", "task_completed:flaky"}, tasks); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	failed := read[report.TaskFailed](&of(events, buildcast.TaskFailed)[0])
	if !failed.WillRetry || failed.ExitCode == nil || *failed.ExitCode != 3 || failed.Output != "broken" {
		t.Errorf("task_failed: %+v", failed)
	}
	if s := r.status("b"); s.Phase != buildcast.Completed || s.Tasks.Started != 1 {
		t.Errorf("status %+v", s)
	}
}

// A task that fails for good ends the build: other tasks are stopped, and report
// nothing more.
func TestLastFailureEndsTheBuild(t *testing.T) {
	r := newRig(t)
	rec := r.record()
	bad := shell("bad", "while [ ! -e ready ]; do sleep 0.01; done; echo the reason >&2; exit 7")
	bad.Retries = 1
	events := r.run("b", &buildcast.Plan{Tasks: []buildcast.Task{
		shell("long", `trap 'echo bye; exit 0' TERM; touch ready; sleep 1000 & wait`), bad,
		shell("never", rec.note("never"), "bad"),
	}})
	last := events[len(events)-1]
	d := read[report.TaskFailed](&last)
	if last.Type != buildcast.TaskFailed || d.WillRetry || d.Attempt != 2 || d.TaskName != "bad" || *d.ExitCode != 7 || d.Output != "the reason" || !strings.Contains(d.Error, "7") {
		t.Errorf("the last event is %s", lines(events[len(events)-1:]))
	}
	if s := r.status("b"); s.Phase != buildcast.Failed || s.Message != "task bad failed: the command ended with exit code 7" {
		t.Errorf("status %+v", s)
	}
	if got := rec.lines(t); len(got) > 0 {
		t.Errorf("%v ran", got)
	}
}

func TestRetriesAreSpaced(t *testing.T) {
	b := New(Config{}).retry
	for attempt, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 6: 30 * time.Second, 10: 30 * time.Second, 99: 30 * time.Second} {
		if got := b.after(attempt); got != want {
			t.Errorf("after attempt %d: %v, want %v", attempt, got, want)
		}
	}
}

func TestTimeoutSaysWhatToChange(t *testing.T) {
	r := newRig(t)
	slow := shell("slow", "echo so far; sleep 1000")
	slow.Timeout = buildcast.Duration(3 * time.Second)
	events := r.run("task", &buildcast.Plan{Tasks: []buildcast.Task{slow}})
	d := read[report.TaskFailed](&events[len(events)-1])
	if d.Error != `the command ran longer than 3s and was stopped: set a longer timeout of task "slow" in the plan, 24h0m0s at most` || d.ExitCode != nil || d.Output != "so far" {
		t.Errorf("%+v", d)
	}
	events = r.run("stage", &buildcast.Plan{Build: "sleep 1000", Timeout: buildcast.Duration(time.Millisecond)})
	last := events[len(events)-1]
	if f := read[report.BuildFailed](&last); last.Type != buildcast.BuildFailed || f.Stage != "build" || !strings.Contains(f.Error, "set a longer timeout of the plan") {
		t.Errorf("%s", lines(events))
	}
}

func TestStages(t *testing.T) {
	r := newRig(t)
	events := r.run("b", &buildcast.Plan{Install: "echo in > installed", Build: "mkdir out && cp installed out/page", Output: "out"})
	want := []string{
		"plan_started", "plan_generated", "deploy_started", "build_started",
		"build_progress:install:false", "build_progress:install:true", "build_progress:build:false", "build_progress:build:true",
		"deploy_progress:Copying", "deploy_completed",
	}
	if d := cmp.Diff(want, keys(events)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"page"}, r.target.files["b"]); d != "" {
		t.Errorf("deployed (-want +got):\n%s", d)
	}
}

func TestFailedBuildCommand(t *testing.T) {
	r := newRig(t)
	events := r.run("b", &buildcast.Plan{Install: "echo no network; exit 9", Build: "echo never"})
	last := events[len(events)-1]
	if d := read[report.BuildFailed](&last); last.Type != buildcast.BuildFailed || d.Stage != "install" || *d.ExitCode != 9 || d.Output != "no network" {
		t.Errorf("%s", lines(events))
	}
}

func TestWithoutDeploy(t *testing.T) {
	r := newRig(t)
	events := r.run("b", &buildcast.Plan{Deploy: buildcast.DeployNone, Build: "true"})
	want := []string{"plan_started", "plan_generated", "build_started", "build_progress:build:false", "build_progress:build:true", "build_completed"}
	if d := cmp.Diff(want, keys(events)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// The obvious first plan has no output and makes no files. It completes, and does
// not report a deploy.
func TestPlanWithNothingToDeployCompletes(t *testing.T) {
	r := newRig(t)
	previews := local.New(local.Config{Dir: t.TempDir(), Logger: quiet})
	p := r.pipeline("node", func(c *Config) { c.Targets[buildcast.DeployLocal] = previews })
	r.start(p)
	test := []buildcast.Task{shell("test", "echo all tests pass")}
	for _, tt := range []struct {
		id   string
		plan buildcast.Plan
		want []string
	}{
		{"nothing", buildcast.Plan{Tasks: test}, []string{"build_started", "build_completed"}},
		{"files", buildcast.Plan{Tasks: []buildcast.Task{shell("test", "echo page > index.html")}}, []string{"build_started", "deploy_started", "deploy_progress:Publishing 1 file (5 bytes)", "deploy_completed"}},
		{"output", buildcast.Plan{Tasks: test, Output: "."}, []string{"deploy_started", "build_started", "deploy_failed"}},
		{"target", buildcast.Plan{Tasks: test, Deploy: buildcast.DeployLocal}, []string{"deploy_started", "build_started", "deploy_failed"}},
	} {
		r.build(tt.id, &tt.plan)
		p.Kick()
		r.end(tt.id)
		got := keys(r.events(tt.id))
		if d := cmp.Diff(tt.want, got[slices.Index(got, "task_completed:test")+1:]); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.id, d)
		}
	}
	if s := r.status("nothing"); s.Phase != buildcast.Completed || s.Progress != 100 || s.PreviewURL != "" {
		t.Errorf("status %+v", s)
	}
}

// A target's message is reported. Its cause, which may hold paths of the server, is
// not.
func TestFailedDeploy(t *testing.T) {
	secret := errors.New("open /srv/secret: denied")
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"told":   {fmt.Errorf("deploy: %w", buildcast.Errorf(buildcast.TooLarge, "too many files").Because(secret)), "too many files"},
		"hidden": {secret, "the server could not continue the build; the server's log has the reason"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.target.deploy = func(string) error { return tt.err }
			events := r.run("b", &buildcast.Plan{Build: "true"})
			last := events[len(events)-1]
			if d := read[report.DeployFailed](&last); last.Type != buildcast.DeployFailed || d.Error != tt.want || d.Target != buildcast.DeployLocal {
				t.Errorf("%s", lines(events))
			}
			if strings.Contains(lines(events), "/srv") {
				t.Error("the cause is in the log")
			}
		})
	}
}

// Attack: a target's texts are longer than an event may be. If they were not cut,
// the log would refuse the build's last event, and the deploy would be repeated for
// ever.
func TestTextsOfATargetAreBounded(t *testing.T) {
	long := strings.Repeat("<\x1b\u2028\xff", 100<<10)
	for name, err := range map[string]error{
		"failed":    buildcast.Errorf(buildcast.TooLarge, "begin %s", long),
		"completed": nil,
	} {
		r := newRig(t)
		r.target.deploy = func(string) error { return err }
		r.target.progress, r.target.url = long, "http://preview.test/"+long
		r.run("deploy_"+name, &buildcast.Plan{Build: "true"})
		events := r.events("deploy_" + name)
		for _, e := range events {
			if len(e.Data) > 16<<10 {
				t.Errorf("%s: %d bytes of data", e.Type, len(e.Data))
			}
		}
		last := events[len(events)-1]
		if text := string(last.Data); last.Type != "deploy_"+name || !strings.Contains(text, "…") {
			t.Errorf("the last event is %s %.100s", last.Type, text)
		}
	}
}

func TestPanicFailsTheBuildAlone(t *testing.T) {
	r := newRig(t)
	r.target.deploy = func(string) error { panic("a defect at /srv/secret") }
	events := r.run("b", &buildcast.Plan{Build: "true"})
	if last := events[len(events)-1]; last.Type != buildcast.BuildFailed || strings.Contains(lines(events), "/srv") {
		t.Errorf("%s", lines(events))
	}
	r.target.deploy = nil
	if events := r.run("next", &buildcast.Plan{Build: "true"}); events[len(events)-1].Type != buildcast.DeployCompleted {
		t.Errorf("%s", lines(events))
	}
}

func TestQueuedBuildsRunInOrder(t *testing.T) {
	r := newRig(t)
	rec := r.record()
	var want []string
	for i := range 6 {
		id := fmt.Sprintf("b%d", i)
		want = append(want, id)
		r.build(id, &buildcast.Plan{Tasks: []buildcast.Task{shell("t", rec.note(id))}})
	}
	r.start(r.pipeline("node", func(c *Config) { c.MaxBuilds = 1 }))
	for _, id := range want {
		r.end(id)
	}
	if d := cmp.Diff(want, rec.lines(t)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestAtMostSoManyBuildsRun(t *testing.T) {
	r := newRig(t)
	for i := range 3 {
		r.build(fmt.Sprintf("b%d", i), &buildcast.Plan{Deploy: "none", Build: "echo ready; while [ ! -e go ]; do sleep 0.01; done"})
	}
	p := r.pipeline("node", func(c *Config) { c.MaxBuilds, c.Leases = 2, placesChecked{r.store, t, 2} })
	r.start(p)
	r.output("b0", "ready")
	r.output("b1", "ready")
	if err := os.WriteFile(filepath.Join(p.config.Dir, "b0", "work", "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.output("b2", "ready") // so there was a claim while b1 ran, which has been checked
}

func TestRemoveTakesTheWorkspace(t *testing.T) {
	r := newRig(t)
	r.build("b", &buildcast.Plan{Deploy: "none", Build: "mkdir -p a && touch a/b && chmod 500 a"})
	p := r.pipeline("node")
	stop := r.start(p)
	r.end("b")
	stop()
	dir := filepath.Join(p.config.Dir, "b")
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("the workspace of a finished build is not kept: %v", err)
	}
	if err := r.log.Delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(p.config.Dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v are left", left, err)
	}
	if err := p.Remove(t.Context(), "b"); err != nil {
		t.Errorf("again: %v", err)
	}
}

// The sweep removes workspaces of builds that ended long ago. An unfinished build
// keeps its workspace, however old it is.
func TestSweepOfWorkspaces(t *testing.T) {
	r := newRig(t)
	stop := r.start(r.pipeline("node"))
	r.build("done", &buildcast.Plan{Deploy: "none", Build: "true"})
	r.build("failed", &buildcast.Plan{Deploy: "none", Build: "false"})
	r.build("open", &buildcast.Plan{Deploy: "none", Build: "echo ready; sleep 1000"})
	r.end("done")
	r.end("failed")
	r.output("open", "ready")
	stop()
	entries := func() (names []string) {
		dirs, err := os.ReadDir(filepath.Join(r.dir, "node"))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range dirs {
			names = append(names, d.Name())
		}
		return names
	}
	if d := cmp.Diff([]string{"done", "failed", "open"}, entries()); d != "" {
		t.Fatalf("(-want +got):\n%s", d)
	}
	r.start(r.pipeline("node", func(c *Config) { c.KeepWorkspace = time.Nanosecond }))
	eventually(t, "the old workspace is removed", func() bool { return slices.Equal(entries(), []string{"failed", "open"}) })
}

// Attack: the build's last event is dated 9999, or 1970. Workspaces are kept by
// the server's time, not by that of whoever reports.
func TestSweepGoesByTheServersTime(t *testing.T) {
	r := newRig(t)
	p := r.pipeline("node")
	stop := r.start(p)
	for id, year := range map[string]int{"future": 9999, "past": 1970} {
		r.build(id, &buildcast.Plan{Deploy: "none", Build: "touch -d 2500-01-01 ..; echo ready; sleep 1000"})
		p.Kick()
		r.output(id, "ready")
		at := buildcast.TimeOf(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
		if _, err := r.log.Append(t.Context(), id, 0, buildcast.NewEvent{Type: buildcast.BuildCancelled, Timestamp: at}); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	entries, err := workspace.List(p.config.Dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if p.unused(t.Context(), e, cleanup.Request{}) {
			t.Errorf("%s is removed at once", e.Name)
		}
		e.Changed = e.Changed.Add(-p.config.KeepFailed)
		if !p.unused(t.Context(), e, cleanup.Request{}) {
			t.Errorf("%s is never removed", e.Name)
		}
		e.Changed = e.Changed.AddDate(1000, 0, 0) // a command's doing, in a server that was killed
		if !p.unused(t.Context(), e, cleanup.Request{}) {
			t.Errorf("%s is kept for a thousand years", e.Name)
		}
	}
}
