package pipeline

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/store"
)

// A command inherits nothing from the server's environment, which holds secrets.
func TestCommandsSeeNoSecrets(t *testing.T) {
	t.Setenv("BUILDCAST_API_KEYS", "a-secret-of-the-server")
	t.Setenv("BUILDCAST_DATABASE", "postgres://user:a-secret@host/db")
	r := newRig(t)
	events := r.run("b", &buildcast.Plan{Deploy: "none", Tasks: []buildcast.Task{shell("look", `env | sed 's/=.*//' | sort; cat; ls -A "$HOME" "$TMPDIR"`)}})
	var got []string
	for i := range events {
		got = append(got, read[report.BuildLog](&events[i]).Lines...)
	}
	all := strings.Join(got, " ")
	for _, name := range []string{"BUILDCAST_BUILD_ID", "BUILDCAST_TASK", "BUILDCAST_WORKSPACE", "CI", "HOME", "LANG", "PATH", "TMPDIR"} {
		if !strings.Contains(all, name) {
			t.Errorf("%s is missing in %s", name, all)
		}
	}
	if strings.Contains(all, "API_KEYS") || strings.Contains(all, "DATABASE") || strings.Contains(all, "secret") {
		t.Errorf("a command sees %s", all)
	}
}

// A link that an earlier command planted does not lead a later task's file out of
// the workspace, and the build reports why it fails.
func TestPlantedLinkIsNotFollowed(t *testing.T) {
	r := newRig(t)
	outside := t.TempDir()
	events := r.run("b", &buildcast.Plan{Tasks: []buildcast.Task{
		shell("plant", fmt.Sprintf("ln -s '%s' assets", outside)),
		{Name: "write", Needs: []string{"plant"}, Files: map[string]buildcast.File{"assets/evil": {Content: []byte("evil")}}},
	}})
	last := events[len(events)-1]
	if d := read[report.TaskFailed](&last); last.Type != buildcast.TaskFailed || d.Error != `file "assets/evil" cannot be written: it leads outside the workspace` {
		t.Errorf("%s", last.Data)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("written outside: %v, %v", left, err)
	}
}

// The output directory may not be a link to the server's own files.
func TestPlantedOutputIsNotDeployed(t *testing.T) {
	r := newRig(t)
	events := r.run("b", &buildcast.Plan{Build: "ln -s /etc dist", Output: "dist"})
	last := events[len(events)-1]
	if d := read[report.DeployFailed](&last); last.Type != buildcast.DeployFailed || !strings.Contains(d.Error, "leads outside the workspace") {
		t.Errorf("%s", last.Data)
	}
	if r.target.files["b"] != nil {
		t.Errorf("deployed: %v", r.target.files["b"])
	}
}

// A flood of output fills neither the log nor the memory, and no step fails.
func TestFloodOfOutputIsBounded(t *testing.T) {
	r := newRig(t)
	events := r.run("b", &buildcast.Plan{Deploy: "none", Tasks: []buildcast.Task{shell("flood", "yes 0123456789 | head -c 30000000; echo the end >&2; exit 3")}})
	bytes, largest := 0, 0
	for _, e := range of(events, buildcast.BuildLog) {
		bytes += len(e.Data)
		largest = max(largest, len(e.Data))
	}
	if bytes > 2<<20 || largest > 17<<10 {
		t.Errorf("%d bytes of output are in the log, %d in one event", bytes, largest)
	}
	last := events[len(events)-1]
	if d := read[report.TaskFailed](&last); !strings.HasSuffix(d.Output, "the end") || len(d.Output) > 4<<10 {
		t.Errorf("the tail has %d bytes", len(d.Output))
	}
}

// Tasks fail while others start: the race detector checks what they share.
func TestManyTasksTriedAgainAtOnce(t *testing.T) {
	r := newRig(t)
	var tasks []buildcast.Task
	for i := range 24 {
		task := shell(fmt.Sprintf("t%d", i), fmt.Sprintf("n=%d; [ -e $n.2 ] && exit 0; [ -e $n.1 ] && touch $n.2; touch $n.1; exit 1", i))
		task.Retries = 2
		tasks = append(tasks, task)
	}
	events := r.run("b", &buildcast.Plan{Deploy: "none", Tasks: tasks})
	if s := r.status("b"); s.Phase != buildcast.Completed || s.Tasks.Completed != 24 || len(of(events, buildcast.TaskFailed)) != 48 {
		t.Errorf("%+v, %d failures", s, len(of(events, buildcast.TaskFailed)))
	}
}

// lateCancel cancels the build after its lease was claimed: the run finds that the
// build is over.
type lateCancel struct {
	*faultyStore
	rig *rig
}

func (l *lateCancel) ClaimBuilds(ctx context.Context, owner string, ttl time.Duration, limit int, except []string) ([]store.Lease, error) {
	leases, err := l.faultyStore.ClaimBuilds(ctx, owner, ttl, limit, except)
	for _, lease := range leases {
		if lease.BuildID == "b" {
			cancelBuild(l.rig, "b")
		}
	}
	return leases, err
}

func TestCancelledBetweenClaimAndRun(t *testing.T) {
	r := newRig(t)
	rec := r.record()
	r.build("b", &buildcast.Plan{Deploy: "none", Build: rec.note("b")})
	r.build("next", &buildcast.Plan{Deploy: "none", Build: rec.note("next")})
	r.start(r.pipeline("node", func(c *Config) {
		c.Leases = &lateCancel{r.store, r}
		c.MaxBuilds = 1
	}))
	r.end("next") // the cancelled build has freed its place
	if d := cmp.Diff([]string{"next"}, rec.lines(t)); d != "" {
		t.Errorf("ran (-want +got):\n%s", d)
	}
	if n := len(r.events("b")); n != 1 {
		t.Errorf("%s", lines(r.events("b")))
	}
}

// A build that is deleted while it is being stopped leaves no workspace.
func TestRemoveWhileItStops(t *testing.T) {
	r := newRig(t)
	r.build("b", &buildcast.Plan{Deploy: "none", Build: `trap '' TERM; echo $$; echo ready; while :; do sleep 1; done`})
	p := r.pipeline("node")
	r.start(p)
	r.output("b", "ready")
	events := r.events("b")
	cancelBuild(r, "b")
	if _, err := r.store.DeleteBuild(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	checkGone(t, events)
	eventually(t, "the workspace is removed", func() bool {
		left, err := os.ReadDir(p.config.Dir)
		return err == nil && len(left) == 0
	})
	for _, id := range []string{"../x", "", "a/b"} {
		if buildcast.CodeOf(p.Remove(t.Context(), id)) != buildcast.InvalidArgument {
			t.Errorf("%q is removed", id)
		}
	}
}

// Ids that differ only in case do not share a workspace if Label distinguishes them.
func TestLabelNamesTheWorkspace(t *testing.T) {
	r := newRig(t)
	r.build("A", &buildcast.Plan{Deploy: "none", Build: "pwd"})
	p := r.pipeline("node", func(c *Config) { c.Label = func(id string) string { return "x-" + id } })
	r.start(p)
	r.end("A")
	if _, err := os.Stat(filepath.Join(p.config.Dir, "x-A", "work")); err != nil {
		t.Error(err)
	}
}

// Processes that a killed server left running end before the first command of the
// resumed build, not only at its end.
func TestLeftoversAreGoneBeforeTheBuildGoesOn(t *testing.T) {
	r := newRig(t)
	p := r.pipeline("node")
	r.build("b", &buildcast.Plan{Deploy: "none", Build: `for f in /proc/[0-9]*/environ; do
		tr '\0' '\n' < "$f" 2>/dev/null | grep -qx LEFTOVER=yes && echo "$f" && exit 1
	done; true`})
	leaveWorkspace(r, p, nil)
	dir, err := filepath.EvalSymlinks(p.config.Dir)
	if err != nil {
		t.Fatal(err)
	}
	leftover(t, "LEFTOVER=yes", "BUILDCAST_BUILD_ID=b", "BUILDCAST_WORKSPACE="+filepath.Join(dir, "b", "work"))
	r.start(p)
	if last := r.end("b"); last.Type != buildcast.BuildCompleted {
		t.Errorf("%s", lines(r.events("b")))
	}
}

// Another node can claim the builds of a draining node at once.
func TestDrainGivesLeasesBack(t *testing.T) {
	r := newRig(t)
	r.build("b", &buildcast.Plan{Deploy: "none", Build: "echo ready; sleep 1000"})
	stop := r.start(r.pipeline("node", func(c *Config) { c.LeaseTTL = time.Hour }))
	r.output("b", "ready")
	stop()
	leases, err := r.store.ClaimBuilds(t.Context(), "other", time.Hour, 1, nil)
	if err != nil || len(leases) != 1 {
		t.Errorf("%v, %v", leases, err)
	}
}
