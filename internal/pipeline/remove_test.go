package pipeline

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/store"
)

// again deletes the build and creates a new one under its id.
func again(r *rig, id string, plan *buildcast.Plan) {
	r.t.Helper()
	if err := r.log.Delete(r.t.Context(), id); err != nil {
		r.t.Fatal(err)
	}
	r.build(id, plan)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// The clean-up of a deleted build comes late: a new build under the same id runs
// already. It is not stopped, and keeps its workspace.
func TestRemoveLeavesABuildThatWasCreatedAgain(t *testing.T) {
	r := newRig(t)
	rec := r.record()
	r.build("b", &buildcast.Plan{Deploy: "none", Build: "true"})
	p := r.pipeline("node")
	stop := r.start(p)
	r.end("b")
	again(r, "b", &buildcast.Plan{Deploy: "none", Build: rec.note("begun") + "; while [ ! -e go ]; do sleep 0.01; done; " + rec.note("done")})
	p.Kick()
	eventually(t, "the new build runs", func() bool { return slices.Contains(rec.lines(t), "begun") })
	if err := p.Remove(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(p.config.Dir, "b", "work")
	if err := os.WriteFile(filepath.Join(work, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new build completes", func() bool { return r.status("b").Phase == buildcast.Completed })
	if got := rec.lines(t); !slices.Equal(got, []string{"begun", "done"}) {
		t.Errorf("ran: %v", got)
	}
	stop()
	if err := p.Remove(t.Context(), "b"); err != nil || !exists(work) {
		t.Errorf("the workspace of a build that exists is removed: %v", err)
	}
}

// meanwhile is a store that calls a function after GetBuild has been answered.
type meanwhile struct {
	Builds
	then func()
}

func (m meanwhile) GetBuild(ctx context.Context, id string) (buildcast.Build, error) {
	b, err := m.Builds.GetBuild(ctx, id)
	if buildcast.CodeOf(err) == buildcast.NotFound {
		m.then()
	}
	return b, err
}

// A new build is created and begins to run just after Remove has read that the
// build does not exist.
func TestRemoveLeavesARunThatBeganMeanwhile(t *testing.T) {
	r := newRig(t)
	rec := r.record()
	r.build("b", &buildcast.Plan{Deploy: "none", Build: "true"})
	plan := &buildcast.Plan{Name: "b", Deploy: "none", Build: rec.note("begun") + "; while [ ! -e go ]; do sleep 0.01; done"}
	var p *Pipeline
	p = r.pipeline("node", func(c *Config) {
		c.Builds = meanwhile{c.Builds, sync.OnceFunc(func() {
			if _, _, err := r.store.CreateBuild(context.Background(), store.NewBuild{ID: "b", Project: "test", Plan: plan}); err != nil {
				t.Error(err)
			}
			p.Kick()
			eventually(t, "the new build runs", func() bool { return len(rec.lines(t)) > 0 })
		})}
	})
	r.start(p)
	r.end("b")
	eventually(t, "the run has ended", func() bool { return !p.runs("b") })
	if err := r.log.Delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.config.Dir, "b", "work", "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new build completes", func() bool { return r.status("b").Phase == buildcast.Completed })
	if got := rec.lines(t); !slices.Equal(got, []string{"begun"}) {
		t.Errorf("ran: %v", got)
	}
}

// A server that was killed before it removed a deleted build's workspace removes
// it at its next start.
func TestStartRemovesWorkspacesOfDeletedBuilds(t *testing.T) {
	r := newRig(t)
	r.build("b", &buildcast.Plan{Deploy: "none", Build: "true"})
	p := r.pipeline("node")
	stop := r.start(p)
	r.end("b")
	stop()
	if err := r.log.Delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	r.start(r.pipeline("node"))
	eventually(t, "the workspace is removed", func() bool { return !exists(filepath.Join(p.config.Dir, "b")) })
}

// placesChecked checks each claim: claimed and running builds may not exceed max.
type placesChecked struct {
	*faultyStore
	t   *testing.T
	max int
}

func (c placesChecked) ClaimBuilds(ctx context.Context, owner string, ttl time.Duration, limit int, except []string) ([]store.Lease, error) {
	if limit+len(except) > c.max {
		c.t.Errorf("%d builds are asked for while %d run: at most %d may", limit, len(except), c.max)
	}
	return c.faultyStore.ClaimBuilds(ctx, owner, ttl, limit, except)
}

// placesHeld notes whether a lease is released while its build runs.
type placesHeld struct {
	*faultyStore
	held func() bool
	bad  *bool
}

func (h placesHeld) ReleaseLeases(ctx context.Context, owner string) error {
	*h.bad = *h.bad || h.held()
	return h.faultyStore.ReleaseLeases(ctx, owner)
}

// A lease is released only when the build's commands have ended: another node may
// begin the build at once.
func TestLeasesAreKeptUntilCommandsAreGone(t *testing.T) {
	r := newRig(t)
	r.build("b", &buildcast.Plan{Deploy: "none", Build: `trap '' TERM; echo ready; while :; do sleep 1; done`})
	early := false
	var p *Pipeline
	p = r.pipeline("node", func(c *Config) { c.Leases = placesHeld{r.store, func() bool { return p.runs("b") }, &early} })
	stop := r.start(p)
	r.output("b", "ready")
	stop()
	if early {
		t.Error("the lease of a running build is released")
	}
}

func TestUnknownTargetFailsTheBuild(t *testing.T) {
	r := newRig(t)
	r.build("b", &buildcast.Plan{Build: "touch page", Deploy: buildcast.DeployLocal})
	r.start(r.pipeline("node", func(c *Config) { c.Targets = nil }))
	last := r.end("b")
	if d := read[report.DeployFailed](&last); last.Type != buildcast.DeployFailed || d.Error != `deploy target "local" is not set up on this server: use one of none, or set it up (buildcast serve --help)` {
		t.Errorf("%s", lines([]buildcast.Event{last}))
	}
}
