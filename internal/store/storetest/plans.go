package storetest

import (
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

var (
	options = buildcast.Options{Planner: "command", NoCache: true, RetryOf: "b0", RetryFrom: buildcast.RetryFailed}
	other   = &buildcast.Plan{Name: "other", Install: "npm ci"}
)

// prompted creates builds that have a prompt and no plan.
func prompted(t fataler, s store.Builds, ids ...string) {
	t.Helper()
	for _, id := range ids {
		create(t, s, store.NewBuild{ID: id, Prompt: "a page", IdempotencyKey: "key of " + id, Options: options})
	}
}

func wantPlan(t *testing.T, s store.Builds, id string, want *buildcast.Plan) {
	t.Helper()
	if d := diff(want, get(t, s, id).Plan); d != "" {
		t.Errorf("the plan of %s (-want +got):\n%s", id, d)
	}
}

func testOptions(t *testing.T, s store.Store) {
	in := store.NewBuild{ID: "b", Plan: plan(), Options: options}
	for _, b := range []buildcast.Build{create(t, s, in), get(t, s, "b")} {
		if b.Options != options {
			t.Errorf("options %+v, want %+v", b.Options, options)
		}
	}
	if _, created, err := s.CreateBuild(t.Context(), in); created || err != nil {
		t.Errorf("again: created %v, %v", created, err)
	}
	for _, change := range []func(*buildcast.Options){
		func(o *buildcast.Options) { o.Planner = "" },
		func(o *buildcast.Options) { o.NoCache = false },
		func(o *buildcast.Options) { o.RetryOf = "b1" },
		func(o *buildcast.Options) { o.RetryFrom = buildcast.RetryStart },
		func(o *buildcast.Options) { *o = buildcast.Options{} },
	} {
		in := in
		change(&in.Options)
		_, _, err := s.CreateBuild(t.Context(), in)
		wantConflict(t, err, "id")
	}
}

// Neither a tombstone nor what is created under its id has the options of the deleted
// build.
func testOptionsDeleted(t *testing.T, s store.Store) {
	prompted(t, s, "created", "appended")
	for _, id := range []string{"created", "appended"} {
		add(t, s, id, event(buildcast.BuildFailed, `{}`))
		remove(t, s, id)
	}
	if leases := claim(t, s, "one", time.Hour, 10); len(leases) != 0 {
		t.Errorf("claimed deleted builds: %+v", leases)
	}
	create(t, s, store.NewBuild{ID: "created", Plan: plan()})
	add(t, s, "appended", many(1)...)
	for _, id := range []string{"created", "appended"} {
		if b := get(t, s, id); b.Options != (buildcast.Options{}) || b.Prompt != "" {
			t.Errorf("%s has %+v and prompt %q of a deleted build", id, b.Options, b.Prompt)
		}
	}
	if b := get(t, s, "appended"); !b.External() {
		t.Errorf("what an append has made is not external: %+v", b)
	}
}

// A build with a prompt is claimed before it has a plan, and again once it has one.
func testSavePlan(t *testing.T, s store.Store) {
	create(t, s, store.NewBuild{ID: "external"})
	prompted(t, s, "b")
	if b := get(t, s, "b"); b.External() || b.Plan != nil {
		t.Errorf("a build with a prompt: external %v, plan %v", b.External(), b.Plan)
	}
	leases := claim(t, s, "one", over, 10)
	if len(leases) != 1 || leases[0].BuildID != "b" {
		t.Fatalf("claimed %+v", leases)
	}
	before := get(t, s, "b")
	if err := s.SavePlan(t.Context(), leases[0], plan()); err != nil {
		t.Fatal(err)
	}
	before.Plan = plan()
	if d := diff(before, get(t, s, "b")); d != "" {
		t.Errorf("the build changes with its plan (-before +after):\n%s", d)
	}
	// It is the build that the request without a plan has created.
	b, created, err := s.CreateBuild(t.Context(), store.NewBuild{ID: "b2", Prompt: "a page", IdempotencyKey: "key of b", Options: options})
	if err != nil || created || b.ID != "b" || b.Plan == nil {
		t.Errorf("created again: %+v, created %v, %v", b, created, err)
	}
	if leases := claim(t, s, "two", over, 10); len(leases) != 1 || leases[0].BuildID != "b" {
		t.Errorf("claimed %+v", leases)
	}
}

// The first plan stays: a node that crashed before it heard of the answer, or the one
// that takes over from it, saves again and gets no error.
func testSavePlanAgain(t *testing.T, s store.Store) {
	prompted(t, s, "b")
	first := claim(t, s, "one", over, 1)[0]
	for _, p := range []*buildcast.Plan{plan(), plan(), other} {
		if err := s.SavePlan(t.Context(), first, p); err != nil {
			t.Fatal(err)
		}
		wantPlan(t, s, "b", plan())
	}
	second := claim(t, s, "two", over, 1)[0]
	if err := s.SavePlan(t.Context(), second, other); err != nil {
		t.Fatal(err)
	}
	wantPlan(t, s, "b", plan())
	// So does a plan that came with the build.
	planned(t, s, "given")
	given := claim(t, s, "one", time.Hour, 1, "b")[0]
	if err := s.SavePlan(t.Context(), given, other); err != nil {
		t.Fatal(err)
	}
	wantPlan(t, s, "given", plan())
}

func testSavePlanFenced(t *testing.T, s store.Store) {
	prompted(t, s, "b")
	first := claim(t, s, "one", over, 1)[0]
	second := claim(t, s, "two", time.Hour, 1)[0]
	wantCode(t, s.SavePlan(t.Context(), first, other), buildcast.Fenced)
	wantPlan(t, s, "b", nil)
	if err := s.SavePlan(t.Context(), second, plan()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.SavePlan(t.Context(), first, plan()), buildcast.Fenced)
	wantCode(t, s.SavePlan(t.Context(), store.Lease{BuildID: "unknown", Owner: "one", Generation: 1}, plan()), buildcast.NotFound)

	add(t, s, "b", event(buildcast.BuildFailed, `{}`))
	remove(t, s, "b")
	wantCode(t, s.SavePlan(t.Context(), second, plan()), buildcast.NotFound)
	prompted(t, s, "b")
	wantCode(t, s.SavePlan(t.Context(), second, plan()), buildcast.Fenced)
	wantPlan(t, s, "b", nil)
}

// Nodes that take the build from each other save a plan each: the first that is stored
// stays, whatever the others were told.
func testConcurrentPlans(t *testing.T, s store.Store) {
	prompted(t, s, "b")
	each(t, 8, func(i int) error {
		me := string(rune('a' + i))
		leases, err := s.ClaimBuilds(t.Context(), me, over, 1, nil)
		if err != nil || len(leases) == 0 { // its row was locked
			return err
		}
		err = s.SavePlan(t.Context(), leases[0], &buildcast.Plan{Name: me, Build: "make"})
		if err != nil && buildcast.CodeOf(err) != buildcast.Fenced {
			return err
		}
		saved, getErr := s.GetBuild(t.Context(), "b")
		if getErr != nil || err != nil {
			return getErr
		}
		for range 5 {
			if b, err := s.GetBuild(t.Context(), "b"); err != nil || b.Plan == nil || b.Plan.Name != saved.Plan.Name {
				t.Errorf("the plan was %v and is %v, %v", saved.Plan, b.Plan, err)
			}
		}
		return nil
	})
}
