package pipeline

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/report"
)

func cancelBuild(r *rig, id string) {
	r.t.Helper()
	if _, err := r.log.Append(r.t.Context(), id, 0, buildcast.NewEvent{Type: buildcast.BuildCancelled, Key: buildcast.BuildCancelled}); err != nil {
		r.t.Fatal(err)
	}
}

// A cancel ends the build's processes, including those that ignore SIGTERM and
// those that left their group, session and environment. Nothing is reported after
// the cancel.
func TestCancelEndsProcesses(t *testing.T) {
	r := newRig(t)
	r.build("b", &buildcast.Plan{Tasks: []buildcast.Task{
		shell("polite", `trap 'echo bye; exit 0' TERM; sleep 1000 & echo $$; echo $!; echo polite; wait`),
		shell("stubborn", `trap '' TERM; echo $$; echo stubborn; while :; do sleep 1; done`),
		shell("escaped", `setsid sh -c 'echo $$; echo escaped; exec sleep 1000' & wait`),
		shell("cleared", `env -i "$(command -v setsid)" /bin/sh -c 'echo $$; echo cleared; exec sleep 1000' & wait`),
	}})
	r.start(r.pipeline("node"))
	for _, line := range []string{"polite", "stubborn", "escaped", "cleared"} {
		r.output("b", line)
	}
	cancelBuild(r, "b")
	checkGone(t, r.events("b"))
	events := r.events("b")
	if last := events[len(events)-1]; last.Type != buildcast.BuildCancelled || strings.Contains(lines(events), "bye") {
		t.Errorf("%s", lines(events))
	}
	// The place is free again.
	r.build("next", &buildcast.Plan{Deploy: "none", Build: "true"})
	r.end("next")
}

func TestCancelledWhileQueued(t *testing.T) {
	r := newRig(t)
	rec := r.record()
	r.build("first", &buildcast.Plan{Deploy: "none", Build: "echo ready; while [ ! -e go ]; do sleep 0.01; done"})
	r.build("second", &buildcast.Plan{Build: rec.note("second")})
	r.build("third", &buildcast.Plan{Deploy: "none", Build: rec.note("third")})
	p := r.pipeline("node", func(c *Config) { c.MaxBuilds = 1 })
	r.start(p)
	r.output("first", "ready")
	cancelBuild(r, "second")
	if err := os.WriteFile(filepath.Join(p.config.Dir, "first", "work", "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.end("third")
	if d := cmp.Diff([]string{"third"}, rec.lines(t)); d != "" {
		t.Errorf("ran (-want +got):\n%s", d)
	}
	if n := len(r.events("second")); n != 1 {
		t.Errorf("%s", lines(r.events("second")))
	}
}

// An owner whose lease was taken over stops its processes and can append nothing.
func TestFencedOwnerStops(t *testing.T) {
	r := newRig(t)
	rec := r.record()
	r.build("b", &buildcast.Plan{Tasks: []buildcast.Task{
		shell("t", rec.note("run")+`; [ "$(wc -l < '`+string(rec)+`')" -gt 1 ] && exit 0; echo $$; echo ready; sleep 1000`),
	}})
	short := func(c *Config) { c.LeaseTTL = 300 * time.Millisecond }
	r.start(r.pipeline("old", short))
	r.output("b", "ready")
	r.store.noRenewal.Store(true) // the old owner cannot keep its lease
	r.start(r.pipeline("new", func(c *Config) { c.LeaseTTL = time.Hour }))
	eventually(t, "the task is run a second time", func() bool { return len(rec.lines(t)) == 2 })
	r.store.noRenewal.Store(false)
	r.end("b")
	events := r.events("b")
	checkGone(t, events)
	got := keys(events)
	slices.Sort(got)
	if c := slices.Compact(slices.Clone(got)); len(c) != len(got) || len(of(events, buildcast.TaskFailed)) > 0 {
		t.Errorf("%s", lines(events))
	}
}

// An owner notices a lost lease before it renews it: the log refuses its events.
func TestFencedAppendStops(t *testing.T) {
	r := newRig(t)
	r.build("b", &buildcast.Plan{Deploy: "none", Build: "echo $$; while :; do echo ready; sleep 0.02; done"})
	p := r.pipeline("old", func(c *Config) { c.LeaseTTL = time.Hour })
	r.start(p)
	r.output("b", "ready")
	if err := r.store.ReleaseLeases(t.Context(), "old"); err != nil {
		t.Fatal(err)
	}
	if leases, err := r.store.ClaimBuilds(t.Context(), "new", time.Hour, 1, nil); err != nil || len(leases) != 1 {
		t.Fatalf("%v, %v", leases, err)
	}
	before := r.events("b")
	checkGone(t, before)
	eventually(t, "the old owner stops the build", func() bool { return !p.runs("b") })
	if after := r.events("b"); len(of(after, buildcast.BuildFailed)) > 0 {
		t.Errorf("%s", lines(after))
	}
}

// While the store is unreachable the build continues. Afterwards the log has all
// its events, in order.
func TestStoreAwayLosesNothing(t *testing.T) {
	r := newRig(t)
	rec := r.record()
	r.build("b", &buildcast.Plan{Deploy: "none", Tasks: []buildcast.Task{
		shell("one", "echo ready; while [ ! -e go ]; do sleep 0.01; done; echo 1; "+rec.note("one")),
		shell("two", "echo 2; "+rec.note("two"), "one"), shell("three", "echo 3; "+rec.note("three"), "two"),
	}, Build: "echo built; " + rec.note("build")})
	p := r.pipeline("node", func(c *Config) { c.LeaseTTL = 60 * time.Millisecond })
	r.start(p)
	r.output("b", "ready")
	r.store.away.Store(true)
	if err := os.WriteFile(filepath.Join(p.config.Dir, "b", "work", "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the build goes on to its end", func() bool { return len(rec.lines(t)) == 4 })
	eventually(t, "the store refuses calls", func() bool { return r.store.refused.Load() > 10 })
	if !p.runs("b") {
		t.Error("the build has freed its place before the log has its events")
	}
	r.store.away.Store(false)
	r.end("b")
	events := r.events("b")
	want := []string{
		"plan_started", "plan_generated", "task_started:1:one", "task_completed:one", "task_started:1:two", "task_completed:two",
		"task_started:1:three", "task_completed:three", "build_started", "build_progress:build:false", "build_progress:build:true", "build_completed",
	}
	if d := cmp.Diff(want, keys(events)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	var output []string
	for i := range events {
		output = append(output, read[report.BuildLog](&events[i]).Lines...)
		if i > 0 && events[i].Timestamp.Std().Before(events[i-1].Timestamp.Std()) {
			t.Errorf("event %d is older than the one before", i+1)
		}
	}
	if d := cmp.Diff([]string{"ready", "1", "2", "3", "built"}, output); d != "" {
		t.Errorf("output (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"one", "two", "three", "build"}, rec.lines(t)); d != "" {
		t.Errorf("ran (-want +got):\n%s", d)
	}
}

// runs reports whether the pipeline runs the build.
func (p *Pipeline) runs(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running[id] != nil
}

func TestStoreAwayAtTheStart(t *testing.T) {
	r := newRig(t)
	r.build("b", &buildcast.Plan{Deploy: "none", Build: "true"})
	r.store.away.Store(true)
	r.start(r.pipeline("node"))
	eventually(t, "the pipeline calls the store", func() bool { return r.store.refused.Load() > 0 })
	r.store.away.Store(false)
	r.end("b")
}

// A drain does not wait for a store that never comes back.
func TestDrainWithoutTheStore(t *testing.T) {
	r := newRig(t)
	r.build("b", &buildcast.Plan{Deploy: "none", Build: "echo $$; echo ready; sleep 1000"})
	stop := r.start(r.pipeline("node", func(c *Config) { c.DrainTimeout = 50 * time.Millisecond }))
	r.output("b", "ready")
	r.store.away.Store(true)
	stop()
	r.store.away.Store(false)
	checkGone(t, r.events("b"))
}
