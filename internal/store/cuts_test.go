package store

import (
	"context"
	"errors"
	"testing"

	"github.com/buildcast/buildcast"
)

// cutter is a log of ten events that begins with first.
type cutter struct {
	first    int64
	cuts     []buildcast.Status // that were tried
	failing  error              // of reads
	refusing error              // of cuts
	raced    func(*cutter)      // once: what another process does before the next read of events
	overtake func(*cutter)      // once: what another process does before the next cut
}

func (c *cutter) FoldStart(_ context.Context, id string) (buildcast.Status, error) {
	st := buildcast.NewStatus(id, "", buildcast.Now())
	st.FirstEventID, st.LastEventID = c.first, c.first-1
	return st, nil
}

func (c *cutter) Bounds(_ context.Context, ids []string) (map[string]Bounds, error) {
	return map[string]Bounds{ids[0]: {c.first, 10}}, nil
}

func (c *cutter) ReadEvents(_ context.Context, id string, after int64, limit, _ int) ([]buildcast.Event, error) {
	if then := c.raced; then != nil {
		c.raced = nil
		then(c)
	}
	var events []buildcast.Event
	for n := max(after+1, c.first); n <= 10 && len(events) < min(limit, 2); n++ {
		events = append(events, buildcast.Event{ID: n, BuildID: id, Type: "x"})
	}
	return events, c.failing
}

func (c *cutter) Cut(_ context.Context, _ string, from int64, start buildcast.Status) (bool, error) {
	if then := c.overtake; then != nil {
		c.overtake = nil
		then(c)
	}
	c.cuts = append(c.cuts, start)
	if len(c.cuts) > 3 {
		return true, errors.New("Truncate tries for ever")
	}
	if c.refusing != nil || from != c.first {
		return false, c.refusing
	}
	c.first = start.FirstEventID
	return true, nil
}

func (c *cutter) Statuses(context.Context, []string) (map[string]buildcast.Status, error) {
	return nil, nil
}

// Another process may cut the log at any moment. Truncate then folds again from
// where the log begins now, and never cuts less than was asked for.
func TestTruncateWhileOthersCut(t *testing.T) {
	to := func(first int64) func(*cutter) { return func(c *cutter) { c.first = first } }
	for name, c := range map[string]struct {
		log   cutter
		first int64 // that Truncate returns, asked for 7
		cuts  int
	}{
		"alone":                       {cutter{first: 1}, 7, 1},
		"cut there already":           {cutter{first: 7}, 7, 0},
		"cut further already":         {cutter{first: 9}, 9, 0},
		"some go during the read":     {cutter{first: 1, raced: to(4)}, 7, 1},
		"all go during the read":      {cutter{first: 1, raced: to(11)}, 11, 0},
		"some go before the cut":      {cutter{first: 1, overtake: to(4)}, 7, 2},
		"more goes before the cut":    {cutter{first: 1, overtake: to(9)}, 9, 1},
		"both, one after the other":   {cutter{first: 1, raced: to(3), overtake: to(5)}, 7, 2},
		"the same cut is made before": {cutter{first: 1, overtake: to(7)}, 7, 1},
	} {
		t.Run(name, func(t *testing.T) {
			first, err := Truncate(t.Context(), &c.log, "b", 7)
			if err != nil || first != c.first || c.log.first != c.first {
				t.Errorf("cut at %d, the log begins with %d, want %d: %v", first, c.log.first, c.first, err)
			}
			if len(c.log.cuts) != c.cuts {
				t.Errorf("%d cuts were tried, want %d", len(c.log.cuts), c.cuts)
			}
			for _, start := range c.log.cuts {
				if start.FirstEventID != 7 || start.LastEventID != 6 {
					t.Errorf("folded up to %d for a log that begins with %d", start.LastEventID, start.FirstEventID)
				}
			}
		})
	}
}

func TestTruncateReturnsTheStoresErrors(t *testing.T) {
	away := errors.New("away")
	for name, log := range map[string]*cutter{
		"of a read":                  {first: 1, failing: away},
		"of a read without an event": {first: 1, failing: away, raced: func(c *cutter) { c.first = 11 }},
		"of the cut":                 {first: 1, refusing: away},
	} {
		if _, err := Truncate(t.Context(), log, "b", 7); !errors.Is(err, away) {
			t.Errorf("%s: error %v", name, err)
		}
		if len(log.cuts) > 0 && log.refusing == nil {
			t.Errorf("%s: the log was cut", name)
		}
	}
}
