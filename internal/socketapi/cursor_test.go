package socketapi

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/live"
)

// away is a store whose events cannot be read while it is down.
type away struct {
	live.Source
	down atomic.Bool
}

func (a *away) ReadEvents(ctx context.Context, id string, after int64, limit, maxBytes int) ([]buildcast.Event, error) {
	if a.down.Load() {
		return nil, buildcast.Errorf(buildcast.StoreUnavailable, "away")
	}
	return a.Source.ReadEvents(ctx, id, after, limit, maxBytes)
}

func TestASubscriptionBeginsWithTheLatestOrATail(t *testing.T) {
	r := newRig(t)
	r.append("b1", "a", "b", "c", "d")
	for request, want := range map[string]string{
		`{"buildId":"b1","from":"latest"}`: `{"after":4,"firstEventId":1,"lastEventId":4,"status":{"buildId":"b1"`,
		`{"buildId":"b1","tail":1}`:        `{"after":3,"firstEventId":1,"lastEventId":4,"status":{"buildId":"b1"`,
		`{"buildId":"b1","tail":1000}`:     `{"after":0,"firstEventId":1,"lastEventId":4,"status":{"buildId":"b1"`,
		`{"buildId":"none","tail":5}`:      `{"after":0,"firstEventId":1,"lastEventId":0,"status":null}`,
	} {
		p := r.connect("&lastEventId=2", "") // the request wins
		p.send(`421["subscribe",` + request + `]`)
		p.receive(`431[` + want)
	}
	p := r.connect("", "")
	p.send(`421["subscribe",{"buildId":"b1","from":"latest"}]`)
	p.receive(`431[`)
	r.append("b1", "e")
	p.follow(4, 5)
	for _, request := range []string{
		`{"buildId":"b1","from":"first"}`, `{"buildId":"b1","tail":0}`, `{"buildId":"b1","tail":1001}`,
		`{"buildId":"b1","tail":1,"from":"latest"}`, `{"buildId":"b1","tail":1,"lastEventId":1}`, `{"buildId":"b1","lastEventId":1,"from":"latest"}`,
	} {
		p.send(`421["subscribe",` + request + `]`)
		if ack := p.receive(`431[{"buildId":"b1","error":{`); !strings.Contains(ack, `"code":"invalid_argument"`) {
			t.Errorf("%s: %s", request, ack)
		}
	}
}

// A build is deleted and its id used again: a socket at the end of the old log gets
// the new events, and no new subscription gets the old ones.
func TestADeletedLogIsNotShownAgain(t *testing.T) {
	r := newRig(t)
	r.append("b1", "a", buildcast.BuildCompleted)
	p := r.connect("", "")
	p.send(`421["subscribe",{"buildId":"b1","lastEventId":2}]`)
	p.receive(`431[{"after":2`)
	if err := r.log.Delete(t.Context(), "b1"); err != nil {
		t.Fatal(err)
	}
	late := r.connect("", "")
	late.send(`421["subscribe",{"buildId":"b1"}]`)
	late.receive(`431[{"after":2,"firstEventId":3,"lastEventId":2,"status":null}]`)
	late.send(`422["subscribe",{"buildId":"b1","lastEventId":1}]`)
	if ack := late.receive(`432[{"buildId":"b1","error":{"code":"cursor_gone"`); !strings.Contains(ack, `"field":"lastEventId","firstEventId":3,"lastEventId":2`) {
		t.Errorf("got %s", ack)
	}
	r.append("b1", "c")
	for _, p := range []*peer{p, late} {
		if u := p.update(); u.Events[0].ID != 3 || u.FirstEventID != 3 || u.Status.Phase != buildcast.Queued {
			t.Errorf("got %+v", u)
		}
	}
}

// A subscription whose next event has been cut reports it once, and ends.
func TestASubscriptionThatLosesItsPlaceEnds(t *testing.T) {
	source := new(away)
	r := newRigOver(t, func(s live.Source) live.Source { source.Source = s; return source })
	r.append("b1", "a", "b", "c")
	source.down.Store(true)
	p := r.connect("", "")
	p.send(`421["subscribe",{"buildId":"b1","lastEventId":1}]`)
	p.receive(`431[{"after":1,"firstEventId":1,"lastEventId":3`)
	if err := r.log.Truncate(t.Context(), "b1", 3); err != nil {
		t.Fatal(err)
	}
	if e := p.receive(`42["subscribe_error",{"buildId":"b1","error":{"code":"cursor_gone"`); !strings.Contains(e, `"firstEventId":3,"lastEventId":3`) {
		t.Errorf("got %s", e)
	}
	source.down.Store(false)
	r.append("b1", "d")
	p.send(`422["subscribe",{"buildId":"b1","lastEventId":2}]`)
	p.receive(`432[{"after":2`) // the old subscription sent nothing
	p.follow(2, 4)
}
