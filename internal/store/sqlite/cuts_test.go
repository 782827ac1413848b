package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

func count(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.read.QueryRowContext(t.Context(), `SELECT count(*) FROM project_build_events`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A deletion removes no event, and no step of the purge removes more than about a
// megabyte: appends wait for it. A process that ends in between leaves the rest to
// the next one.
func TestPurgeStepsAreBoundedInBytesAndResumed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.db")
	s := open(t, path)
	const events = 50
	for i := range events {
		e := buildcast.NewEvent{Type: "step", Data: fmt.Appendf(nil, `"%060000d"`, i)}
		if i == events-1 {
			e.Type = buildcast.BuildCompleted
		}
		if _, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: "b", Events: []buildcast.NewEvent{e}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.DeleteBuild(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	left := count(t, s)
	if left != events {
		t.Errorf("the deletion has removed %d events", events-left)
	}
	for steps := 0; ; steps++ {
		more, err := s.Purge(t.Context(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		now := count(t, s)
		if removed := left - now; removed*60_000 > purgeBytes {
			t.Errorf("a step removes %d events of 60 KB", removed)
		}
		if left = now; !more {
			break
		}
		if steps == 0 { // the process ends
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, path)
		}
	}
	if left != 0 {
		t.Errorf("%d events are left", left)
	}
}

// A claim that is cancelled may have raised the generation of builds: the rows that
// are cached are read again.
func TestACancelledClaimLeavesNoStaleGeneration(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "b.db"))
	if _, _, err := s.CreateBuild(t.Context(), store.NewBuild{ID: "b", Plan: &buildcast.Plan{Name: "p", Build: "make"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := appendOne(t, s, "b"); err != nil { // its row is known now
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.ClaimBuilds(ctx, "one", time.Hour, 1, nil); err == nil {
		t.Fatal("claimed")
	}
	if len(s.rows) != 0 {
		t.Errorf("%d rows are cached after a claim with an unknown outcome", len(s.rows))
	}
}
