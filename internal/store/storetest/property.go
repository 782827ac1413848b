package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// testModel makes random calls to the store and to the model, one at a time: both must
// return the same. Each run has builds of its own, because ids of the previous run's
// builds do not begin at 1 again.
func testModel(t *testing.T, s store.Store) {
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		empty(t, s)
		run++
		p := &pair{s: s, m: &model{builds: map[string]*modelBuild{}, deleted: map[string]*modelBuild{}}}
		for _, id := range []string{"a", "B", "c-1", "c_1"} {
			p.ids = append(p.ids, fmt.Sprint(id, "_", run))
		}
		p.generators()
		t.Repeat(map[string]func(*rapid.T){
			"append": p.append, "create": p.create, "save a plan": p.savePlan, "claim": p.claim, "renew": p.renew, "release": p.release,
			"read": p.read, "list": p.list, "delete": p.delete, "truncate": p.truncate, "purge": p.purge, "": p.check,
		})
	})
}

// empty removes the builds of the previous run: opening a store for each run would
// take most of the time.
func empty(t fataler, s store.Store) {
	for _, id := range pages(t, s, store.Filter{Limit: 100}) {
		add(t, s, id, event(buildcast.BuildCancelled, `{}`))
		remove(t, s, id)
	}
}

// pair is a store and the model of what it should do.
type pair struct {
	s   store.Store
	m   *model
	ids []string // of the builds

	buildIDs  *rapid.Generator[string]
	appends   *rapid.Generator[store.Append]
	newBuilds *rapid.Generator[store.NewBuild]
	leases    *rapid.Generator[store.Lease]
}

// generators makes the generators of the values that name builds.
func (p *pair) generators() {
	p.buildIDs = rapid.SampledFrom(p.ids)
	p.appends = rapid.Custom(func(t *rapid.T) store.Append {
		return store.Append{
			BuildID:    p.buildIDs.Draw(t, "build"),
			Events:     rapid.SliceOfN(newEvents, 0, 4).Draw(t, "events"),
			Generation: rapid.SampledFrom([]int64{0, 0, 0, 1, 2}).Draw(t, "generation"),
		}
	})
	p.newBuilds = rapid.Custom(func(t *rapid.T) store.NewBuild {
		return store.NewBuild{
			ID: p.buildIDs.Draw(t, "build"), Project: projects.Draw(t, "project"), Plan: plans.Draw(t, "plan"),
			Prompt: prompts.Draw(t, "prompt"), Options: someOptions.Draw(t, "options"),
			IdempotencyKey: rapid.SampledFrom([]string{"", "", "key"}).Draw(t, "idempotency key"),
		}
	})
	p.leases = rapid.Custom(func(t *rapid.T) store.Lease {
		return store.Lease{BuildID: p.buildIDs.Draw(t, "build"), Owner: owners.Draw(t, "owner"), Generation: rapid.Int64Range(1, 3).Draw(t, "generation")}
	})
}

var (
	projects = rapid.SampledFrom([]string{"", "p", "q"})
	owners   = rapid.SampledFrom([]string{"one", "two"})
	ttls     = rapid.SampledFrom([]time.Duration{over, time.Hour}) // no lease ends during a call
	prompts  = rapid.SampledFrom([]string{"", "", "a page"})
	plans    = rapid.SampledFrom([]*buildcast.Plan{nil, plan(), plan(), other})

	someOptions = rapid.SampledFrom([]buildcast.Options{{}, {}, options})
	phases      = rapid.SampledFrom([]buildcast.Phase{"", buildcast.Queued, buildcast.Planning, buildcast.Executing, buildcast.Completed, buildcast.Cancelled})

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
	in := rapid.SliceOfN(p.appends, 1, 3).Draw(t, "appends")
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
		if want[i].Err != nil { // Status is undefined if the build does not exist or is created in this call
			want[i].Status, got[i].Status = buildcast.Status{}, buildcast.Status{}
		}
	}
	same(t, want, got)
}

func (p *pair) create(t *rapid.T) {
	in := p.newBuilds.Draw(t, "new build")
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
	limit, except := rapid.IntRange(0, 3).Draw(t, "limit"), rapid.SliceOfN(p.buildIDs, 0, 2).Draw(t, "except")
	got, err := p.s.ClaimBuilds(t.Context(), owner, ttl, limit, except)
	if err != nil {
		t.Fatal(err)
	}
	same(t, p.m.claim(owner, ttl, limit, except), got)
}

func (p *pair) renew(t *rapid.T) {
	l, ttl := p.leases.Draw(t, "lease"), ttls.Draw(t, "ttl")
	sameCode(t, p.m.renew(l, ttl), p.s.RenewLease(t.Context(), l, ttl))
}

func (p *pair) savePlan(t *rapid.T) {
	l, plan := p.leases.Draw(t, "lease"), rapid.SampledFrom([]*buildcast.Plan{plan(), other}).Draw(t, "plan")
	sameCode(t, p.m.savePlan(l, plan), p.s.SavePlan(t.Context(), l, plan))
	if p.m.builds[l.BuildID] != nil {
		same(t, p.m.builds[l.BuildID].build(), get(t, p.s, l.BuildID))
	}
}

func (p *pair) release(t *rapid.T) {
	owner := owners.Draw(t, "owner")
	p.m.release(owner)
	sameCode(t, "", p.s.ReleaseLeases(t.Context(), owner))
}

func (p *pair) read(t *rapid.T) {
	id, after, limit := p.buildIDs.Draw(t, "build"), rapid.Int64Range(-1, 16).Draw(t, "after"), rapid.IntRange(0, 8).Draw(t, "limit")
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
	id := p.buildIDs.Draw(t, "build")
	first, err := p.s.DeleteBuild(t.Context(), id)
	sameCode(t, p.m.delete(id), err)
	if err == nil {
		same(t, p.m.deleted[id].last()+1, first)
	}
}

func (p *pair) truncate(t *rapid.T) {
	id, at := p.buildIDs.Draw(t, "build"), rapid.Int64Range(-1, 16).Draw(t, "first")
	want, code := p.m.truncate(id, at)
	first, err := p.s.TruncateLog(t.Context(), id, at)
	sameCode(t, code, err)
	same(t, want, first)
}

func (p *pair) purge(t *rapid.T) {
	if _, err := p.s.Purge(t.Context(), rapid.IntRange(1, 5).Draw(t, "limit")); err != nil {
		t.Fatal(err)
	}
}

// check runs after each call: the builds, their bounds and the starts of their folds
// must be those of the model.
func (p *pair) check(t *rapid.T) {
	statuses, err := p.s.Statuses(t.Context(), p.ids)
	if err != nil {
		t.Fatal(err)
	}
	bounds, err := p.s.Bounds(t.Context(), p.ids)
	if err != nil {
		t.Fatal(err)
	}
	wantStatuses, wantBounds := map[string]buildcast.Status{}, map[string]store.Bounds{}
	for _, id := range p.ids {
		if b := p.m.builds[id]; b != nil {
			wantStatuses[id] = b.status()
			wantFold(t, p.s, id)
		}
		if b, ok := p.m.bounds(id); ok {
			wantBounds[id] = b
		}
	}
	same(t, wantStatuses, statuses)
	same(t, wantBounds, bounds)
}
