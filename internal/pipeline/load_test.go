package pipeline

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/store"
)

// spoil overwrites a column of the build's row with an unreadable value.
func spoil(r *rig, id, column string) {
	r.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(r.dir, "test.db"))
	if err != nil {
		r.t.Fatal(err)
	}
	_, err = db.ExecContext(r.t.Context(), "UPDATE builds SET "+column+" = 'nonsense' WHERE id = ?", id)
	if err := errors.Join(err, db.Close()); err != nil {
		r.t.Fatal(err)
	}
}

// A build whose plan cannot be read fails, visibly, and frees its place.
func TestUnreadablePlanFailsTheBuild(t *testing.T) {
	r := newRig(t)
	r.build("bad", &buildcast.Plan{Deploy: "none", Build: "true"})
	r.build("next", &buildcast.Plan{Deploy: "none", Build: "true"})
	spoil(r, "bad", "plan")
	p := r.pipeline("node", func(c *Config) { c.MaxBuilds = 1 })
	p.readPatience = 0
	r.start(p)
	if last := r.end("bad"); last.Type != buildcast.BuildFailed || read[report.BuildFailed](&last).Error == "" {
		t.Errorf("%s", lines(r.events("bad")))
	}
	r.end("next")
}

// A build that can neither be read nor failed does not block a place that others need.
func TestUnreadableRowFreesThePlace(t *testing.T) {
	r := newRig(t)
	r.build("bad", &buildcast.Plan{Deploy: "none", Build: "true"})
	r.build("next", &buildcast.Plan{Deploy: "none", Build: "true"})
	spoil(r, "bad", "status")
	p := r.pipeline("node", func(c *Config) { c.MaxBuilds = 1 })
	p.readPatience = 0
	r.start(p)
	r.end("next")
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.shelf["bad"]; !ok {
		t.Errorf("shelved: %v", p.shelf)
	}
}

// lostAfterClaim makes the store unreachable once a build is claimed.
type lostAfterClaim struct{ *faultyStore }

func (l lostAfterClaim) ClaimBuilds(ctx context.Context, owner string, ttl time.Duration, limit int, except []string) ([]store.Lease, error) {
	leases, err := l.faultyStore.ClaimBuilds(ctx, owner, ttl, limit, except)
	if len(leases) > 0 {
		l.away.Store(true)
	}
	return leases, err
}

// No build fails because the store is unreachable, however long.
func TestStoreAwayIsNoUnreadableBuild(t *testing.T) {
	r := newRig(t)
	r.build("b", &buildcast.Plan{Deploy: "none", Build: "true"})
	p := r.pipeline("node", func(c *Config) { c.Leases = lostAfterClaim{r.store} })
	p.readPatience = 0
	r.start(p)
	eventually(t, "the build is asked for again and again", func() bool { return r.store.refused.Load() > 4 })
	r.store.away.Store(false)
	if last := r.end("b"); last.Type != buildcast.BuildCompleted {
		t.Errorf("%s", lines(r.events("b")))
	}
}
