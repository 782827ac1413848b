package storetest

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// testModel makes random calls to the store and to the model, one at a time:
// both must answer the same.
func testModel(t *testing.T, s store.Store) {
	rapid.Check(t, func(t *rapid.T) {
		empty(t, s)
		p := &pair{s: s, m: &model{builds: map[string]*modelBuild{}}}
		t.Repeat(map[string]func(*rapid.T){
			"append": p.append, "create": p.create, "claim": p.claim, "renew": p.renew, "release": p.release,
			"read": p.read, "list": p.list, "delete": p.delete, "": p.check,
		})
	})
}

// empty removes what the run before has left: opening a store each time would
// take most of the time.
func empty(t fataler, s store.Store) {
	for _, id := range pages(t, s, store.Filter{Limit: 100}) {
		add(t, s, id, event(buildcast.BuildCancelled, `{}`))
		if err := s.DeleteBuild(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

// pair is a store and what it should do.
type pair struct {
	s store.Store
	m *model
}

var (
	buildIDs = rapid.SampledFrom([]string{"a", "B", "c-1", "c_1"})
	projects = rapid.SampledFrom([]string{"", "p", "q"})
	owners   = rapid.SampledFrom([]string{"one", "two"})
	ttls     = rapid.SampledFrom([]time.Duration{over, time.Hour}) // nothing runs out during the test
	plans    = rapid.SampledFrom([]*buildcast.Plan{nil, plan(), plan(), {Name: "other", Install: "npm ci"}})
	phases   = rapid.SampledFrom([]buildcast.Phase{"", buildcast.Queued, buildcast.Planning, buildcast.Executing, buildcast.Completed, buildcast.Cancelled})

	newEvents = rapid.Custom(func(t *rapid.T) buildcast.NewEvent {
		return buildcast.NewEvent{
			Type: rapid.SampledFrom([]string{
				"step", "step", buildcast.PlanStarted, buildcast.PlanGenerated, buildcast.TaskStarted, buildcast.TaskCompleted,
				buildcast.DeployProgress, buildcast.BuildCompleted, buildcast.BuildCancelled,
			}).Draw(t, "type"),
			Data:      json.RawMessage(rapid.SampledFrom([]string{`{}`, `{"taskCount":3}`, `{"z":1,"a":[2.50,1e2]}`, `"text"`, `{"progress":33}`}).Draw(t, "data")),
			Key:       rapid.SampledFrom([]string{"", "", "k1", "k2", "k3"}).Draw(t, "key"),
			Timestamp: buildcast.TimeOf(time.UnixMilli(rapid.Int64Range(0, 1<<41).Draw(t, "time"))),
		}
	})
	appends = rapid.Custom(func(t *rapid.T) store.Append {
		return store.Append{
			BuildID:    buildIDs.Draw(t, "build"),
			Events:     rapid.SliceOfN(newEvents, 0, 4).Draw(t, "events"),
			Generation: rapid.SampledFrom([]int64{0, 0, 0, 1, 2}).Draw(t, "generation"),
		}
	})
	newBuilds = rapid.Custom(func(t *rapid.T) store.NewBuild {
		return store.NewBuild{
			ID: buildIDs.Draw(t, "build"), Project: projects.Draw(t, "project"), Plan: plans.Draw(t, "plan"),
			IdempotencyKey: rapid.SampledFrom([]string{"", "", "key"}).Draw(t, "idempotency key"),
		}
	})
	leases = rapid.Custom(func(t *rapid.T) store.Lease {
		return store.Lease{BuildID: buildIDs.Draw(t, "build"), Owner: owners.Draw(t, "owner"), Generation: rapid.Int64Range(1, 3).Draw(t, "generation")}
	})
)

// same fails unless the store did as the model.
func same(t *rapid.T, want, got any) {
	t.Helper()
	if d := diff(want, got); d != "" {
		t.Fatalf("model and store (-model +store):\n%s", d)
	}
}

func sameCode(t *rapid.T, want buildcast.Code, err error) {
	t.Helper()
	if buildcast.CodeOf(err) != want {
		t.Fatalf("error %v, want code %q", err, want)
	}
}

func (p *pair) append(t *rapid.T) {
	in := rapid.SliceOfN(appends, 1, 3).Draw(t, "appends")
	made := p.m.missing(in)
	got, err := p.s.AppendEvents(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	// The first append that is not fenced makes the build; one before it is fenced.
	for _, id := range made {
		p.m.add(store.NewBuild{ID: id}, get(t, p.s, id).CreatedAt)
	}
	want := p.m.appendEvents(in)
	for i := range want {
		if want[i].Err != nil { // Status tells nothing where the build is gone or comes to be in this call
			want[i].Status, got[i].Status = buildcast.Status{}, buildcast.Status{}
		}
	}
	same(t, want, got)
}

func (p *pair) create(t *rapid.T) {
	in := newBuilds.Draw(t, "new build")
	build, created, err := p.s.CreateBuild(t.Context(), in)
	there := p.m.there(in)
	switch {
	case there == nil:
		sameCode(t, "", err)
		p.m.add(in, build.CreatedAt)
		same(t, true, created)
		same(t, p.m.builds[in.ID].build(), build)
	case there.matches(in):
		sameCode(t, "", err)
		same(t, false, created)
		same(t, there.build(), build)
	default:
		same(t, false, created)
		sameCode(t, buildcast.Conflict, err)
	}
}

func (p *pair) claim(t *rapid.T) {
	owner, ttl := owners.Draw(t, "owner"), ttls.Draw(t, "ttl")
	limit, except := rapid.IntRange(0, 3).Draw(t, "limit"), rapid.SliceOfN(buildIDs, 0, 2).Draw(t, "except")
	got, err := p.s.ClaimBuilds(t.Context(), owner, ttl, limit, except)
	if err != nil {
		t.Fatal(err)
	}
	same(t, p.m.claim(owner, ttl, limit, except), got)
}

func (p *pair) renew(t *rapid.T) {
	l, ttl := leases.Draw(t, "lease"), ttls.Draw(t, "ttl")
	sameCode(t, p.m.renew(l, ttl), p.s.RenewLease(t.Context(), l, ttl))
}

func (p *pair) release(t *rapid.T) {
	owner := owners.Draw(t, "owner")
	p.m.release(owner)
	sameCode(t, "", p.s.ReleaseLeases(t.Context(), owner))
}

func (p *pair) read(t *rapid.T) {
	id, after, limit := buildIDs.Draw(t, "build"), rapid.Int64Range(-1, 12).Draw(t, "after"), rapid.IntRange(0, 8).Draw(t, "limit")
	got, err := p.s.ReadEvents(t.Context(), id, after, limit, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	want := p.m.read(id, after, limit)
	same(t, len(want), len(got))
	for i := range want {
		same(t, want[i], got[i])
	}
}

func (p *pair) list(t *rapid.T) {
	f := store.Filter{Project: projects.Draw(t, "project"), Phase: phases.Draw(t, "phase"), Limit: rapid.IntRange(1, 4).Draw(t, "limit")}
	want, got := p.m.list(f), pages(t, p.s, f)
	if !slices.Equal(want, got) {
		t.Fatalf("%+v lists %v, want %v", f, got, want)
	}
}

func (p *pair) delete(t *rapid.T) {
	id := buildIDs.Draw(t, "build")
	sameCode(t, p.m.delete(id), p.s.DeleteBuild(t.Context(), id))
}

// check runs after each call: the builds and their last ids are those of the model.
func (p *pair) check(t *rapid.T) {
	ids := []string{"a", "B", "c-1", "c_1"}
	statuses, err := p.s.Statuses(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	last, err := p.s.LastEventIDs(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	wantStatuses, wantLast := map[string]buildcast.Status{}, map[string]int64{}
	for id, b := range p.m.builds {
		wantStatuses[id], wantLast[id] = b.status(), int64(len(b.log))
	}
	same(t, wantStatuses, statuses)
	same(t, wantLast, last)
}
