package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

func testCreate(t *testing.T, s store.Store) {
	for _, in := range []store.NewBuild{
		{ID: "external"},
		{ID: "full", Project: "site é", Prompt: "a page\nwith 😀", Plan: plan(), Deploy: buildcast.DeployLocal, IdempotencyKey: "key", Options: options},
	} {
		before := buildcast.Now()
		b := create(t, s, in)
		want := buildcast.Build{ID: in.ID, Project: in.Project, Prompt: in.Prompt, Plan: in.Plan, Deploy: in.Deploy, Options: in.Options, CreatedAt: b.CreatedAt}
		want.Status = buildcast.NewStatus(in.ID, in.Project, b.CreatedAt)
		if d := diff(want, b); d != "" {
			t.Errorf("created (-want +got):\n%s", d)
		}
		if d := diff(b, get(t, s, in.ID)); d != "" {
			t.Errorf("created and got (-created +got):\n%s", d)
		}
		if at := b.CreatedAt.Std(); at.Before(before.Std()) || at.After(time.Now()) {
			t.Errorf("created at %v", at)
		}
	}
	_, err := s.GetBuild(t.Context(), "Full")
	wantCode(t, err, buildcast.NotFound)
}

func testCreateAgain(t *testing.T, s store.Store) {
	first := store.NewBuild{ID: "b", Project: "p", Prompt: "q", Plan: plan(), Deploy: buildcast.DeployNone}
	create(t, s, first)
	add(t, s, "b", event(buildcast.PlanStarted, `{}`))
	there := get(t, s, "b")
	for range 2 {
		b, created, err := s.CreateBuild(t.Context(), first)
		if err != nil || created {
			t.Fatalf("again: created %v, %v", created, err)
		}
		if d := diff(there, b); d != "" {
			t.Errorf("again (-there +got):\n%s", d)
		}
	}
	for name, change := range map[string]func(*store.NewBuild){
		"project":      func(b *store.NewBuild) { b.Project = "other" },
		"prompt":       func(b *store.NewBuild) { b.Prompt = "" },
		"deploy":       func(b *store.NewBuild) { b.Deploy = "" },
		"no plan":      func(b *store.NewBuild) { b.Prompt, b.Plan = "", nil },
		"another plan": func(b *store.NewBuild) { b.Plan = &buildcast.Plan{Name: "site", Build: "make all"} },
	} {
		in := first
		change(&in)
		_, created, err := s.CreateBuild(t.Context(), in)
		if created {
			t.Errorf("%s: created", name)
		}
		wantConflict(t, err, "id")
	}
	if d := diff(there, get(t, s, "b")); d != "" {
		t.Errorf("the build has changed (-before +after):\n%s", d)
	}
}

func testCreateKey(t *testing.T, s store.Store) {
	first := create(t, s, store.NewBuild{ID: "b1", Project: "p", Plan: plan(), IdempotencyKey: "k"})
	b, created, err := s.CreateBuild(t.Context(), store.NewBuild{ID: "b2", Project: "p", Plan: plan(), IdempotencyKey: "k"})
	if err != nil || created || diff(first, b) != "" {
		t.Errorf("the key again: created %v, %v\n%s", created, err, diff(first, b))
	}
	_, created, err = s.CreateBuild(t.Context(), store.NewBuild{ID: "b3", Project: "other", Plan: plan(), IdempotencyKey: "k"})
	if created {
		t.Error("the key with another request: created")
	}
	wantConflict(t, err, "Idempotency-Key")
	for _, id := range []string{"b2", "b3"} {
		_, err = s.GetBuild(t.Context(), id)
		wantCode(t, err, buildcast.NotFound)
	}
	// Builds without a key do not share one.
	create(t, s, store.NewBuild{ID: "b4"})
	create(t, s, store.NewBuild{ID: "b5"})
	create(t, s, store.NewBuild{ID: "b6", Project: "p", Plan: plan(), IdempotencyKey: "K"})
	// If the id and the key name two builds, the id counts.
	b, created, err = s.CreateBuild(t.Context(), store.NewBuild{ID: "b6", Project: "p", Plan: plan(), IdempotencyKey: "k"})
	if err != nil || created || b.ID != "b6" {
		t.Errorf("id of one and key of another: %s, created %v, %v", b.ID, created, err)
	}
}

func testCreateAfterAppend(t *testing.T, s store.Store) {
	add(t, s, "b", many(2)...)
	b, created, err := s.CreateBuild(t.Context(), store.NewBuild{ID: "b"})
	if err != nil || created || b.Status.LastEventID != 2 {
		t.Errorf("as the append made it: created %v, %v, %+v", created, err, b)
	}
	_, _, err = s.CreateBuild(t.Context(), store.NewBuild{ID: "b", Plan: plan()})
	wantConflict(t, err, "id")
}

// wantConflict fails unless err is a Conflict at the field.
func wantConflict(t *testing.T, err error, field string) {
	t.Helper()
	e, ok := errors.AsType[*buildcast.Error](err)
	if !ok || e.Code != buildcast.Conflict || e.Field != field {
		t.Errorf("error %v, want a conflict at %s", err, field)
	}
}

// A plan's files may hold any bytes, even those that jsonb refuses.
func testPlan(t *testing.T, s store.Store) {
	p := &buildcast.Plan{
		Name: "site", Install: "npm ci", Build: "make\ttwice\n", Timeout: buildcast.Duration(90 * time.Second), Output: "out", Deploy: buildcast.DeployLocal,
		Tasks: []buildcast.Task{
			{Name: "page", Files: map[string]buildcast.File{
				"z.html": {Content: []byte("<é😀>")}, "a.bin": {Content: []byte{0, 1, 0xff, 0xfe}}, "nul.txt": {Content: []byte("a\x00b")},
				"big": {Content: []byte(fmt.Sprintf("%0100000d", 0))}, "empty": {Content: []byte{}},
			}},
			{Name: "run", Needs: []string{"page"}, Run: "true", Retries: 3, Timeout: buildcast.Duration(time.Hour)},
		},
	}
	in := store.NewBuild{ID: "b", Plan: p}
	create(t, s, in)
	if d := diff(p, get(t, s, "b").Plan); d != "" {
		t.Errorf("the plan (-want +got):\n%s", d)
	}
	if _, created, err := s.CreateBuild(t.Context(), in); created || err != nil {
		t.Errorf("again: created %v, %v", created, err)
	}
}

// pages reads the list to its end and returns the ids.
func pages(t fataler, s store.Builds, f store.Filter) []string {
	t.Helper()
	var ids []string
	for {
		p, err := s.ListBuilds(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Statuses) > f.Limit || p.Next != "" && len(p.Statuses) < f.Limit {
			t.Fatalf("a page of %d, limit %d, next %q", len(p.Statuses), f.Limit, p.Next)
		}
		for _, st := range p.Statuses {
			ids = append(ids, st.BuildID)
		}
		if f.Before = p.Next; p.Next == "" {
			return ids
		}
	}
}

// newestFirst returns the ids in the order of a list.
func newestFirst(t fataler, s store.Builds, ids []string) []string {
	t.Helper()
	builds := make(map[string]buildcast.Build, len(ids))
	for _, id := range ids {
		builds[id] = get(t, s, id)
	}
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b string) int { return older(builds[b], builds[a]) })
	return ids
}

// older orders builds by creation, then by id.
func older(a, b buildcast.Build) int {
	if c := a.CreatedAt.Std().Compare(b.CreatedAt.Std()); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

func testListPages(t *testing.T, s store.Store) {
	if ids := pages(t, s, store.Filter{Limit: 3}); len(ids) != 0 {
		t.Errorf("an empty store lists %v", ids)
	}
	// Builds that one call has made have the same time: they are in the order of their
	// ids, byte by byte.
	ids := []string{"a", "B", "c-1", "c_1", "C", "0", "z", "b", "Z", "aa"}
	var appends []store.Append
	for _, id := range ids {
		appends = append(appends, store.Append{BuildID: id, Events: many(1)})
	}
	if _, err := s.AppendEvents(t.Context(), appends); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		id := fmt.Sprintf("later%d", i)
		create(t, s, store.NewBuild{ID: id})
		ids = append(ids, id)
	}
	want := newestFirst(t, s, ids)
	for _, limit := range []int{1, 3, 7, 19, 20, 21, 100} {
		if got := pages(t, s, store.Filter{Limit: limit}); !slices.Equal(got, want) {
			t.Errorf("in pages of %d:\n%v, want\n%v", limit, got, want)
		}
	}
	p, err := s.ListBuilds(t.Context(), store.Filter{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(get(t, s, want[0]).Status, p.Statuses[0]); d != "" {
		t.Errorf("status got and listed (-got +listed):\n%s", d)
	}
}

func testListFilters(t *testing.T, s store.Store) {
	last := map[buildcast.Phase]string{
		buildcast.Queued: "", buildcast.Planning: buildcast.PlanStarted, buildcast.Executing: buildcast.PlanGenerated,
		buildcast.Deploying: buildcast.DeployStarted, buildcast.Completed: buildcast.DeployCompleted,
		buildcast.Failed: buildcast.BuildFailed, buildcast.Cancelled: buildcast.BuildCancelled,
	}
	is := map[string][2]string{} // project and phase of each build
	var ids []string
	for phase, typ := range last {
		for _, project := range []string{"", "p", "P", "p%"} {
			for i := range 2 {
				id := fmt.Sprintf("%s-%d-%d", phase, len(ids), i)
				create(t, s, store.NewBuild{ID: id, Project: project})
				if typ != "" {
					add(t, s, id, event(typ, `{}`))
				}
				ids, is[id] = append(ids, id), [2]string{project, string(phase)}
			}
		}
	}
	all := newestFirst(t, s, ids)
	for _, project := range []string{"", "p", "P", "p%", "none"} {
		for _, phase := range []buildcast.Phase{"", buildcast.Queued, buildcast.Planning, buildcast.Executing, buildcast.Deploying, buildcast.Completed, buildcast.Failed, buildcast.Cancelled, "none"} {
			var want []string
			for _, id := range all {
				if (project == "" || is[id][0] == project) && (phase == "" || is[id][1] == string(phase)) {
					want = append(want, id)
				}
			}
			for _, limit := range []int{1, 3, 100} {
				f := store.Filter{Project: project, Phase: phase, Limit: limit}
				if got := pages(t, s, f); !slices.Equal(got, want) {
					t.Errorf("%+v:\n%v, want\n%v", f, got, want)
				}
			}
		}
	}
}

// A list finds a text anywhere in the id, the project or the message. No character of
// the text is a pattern.
func testListText(t *testing.T, s store.Store) {
	for id, b := range map[string][2]string{
		"Alpha": {"site", "50% done"}, "beta": {"Alphabet", "nothing"}, "gamma": {"x", "the ALPHA came"}, "delta_1": {"", `a\b`}, "delta21": {"", "it's"},
	} {
		create(t, s, store.NewBuild{ID: id, Project: b[0]})
		data, err := json.Marshal(map[string]string{"message": b[1]})
		if err != nil {
			t.Fatal(err)
		}
		add(t, s, id, event("step", string(data)))
	}
	for text, want := range map[string][]string{
		"alpha": {"Alpha", "beta", "gamma"}, "ALPHA": {"Alpha", "beta", "gamma"}, "%": {"Alpha"}, "_": {"delta_1"}, `\`: {"delta_1"}, "'": {"delta21"},
		"delta": {"delta21", "delta_1"}, "none": nil, "siteAlpha": nil, "": {"Alpha", "beta", "delta21", "delta_1", "gamma"},
	} {
		for _, limit := range []int{1, 10} {
			got := pages(t, s, store.Filter{Text: text, Limit: limit})
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("text %q, limit %d: %v, want %v", text, limit, got, want)
			}
		}
	}
	if got := pages(t, s, store.Filter{Text: "alpha", Project: "site", Phase: buildcast.Queued, Limit: 10}); !slices.Equal(got, []string{"Alpha"}) {
		t.Errorf("with other filters: %v", got)
	}
}

// Builds that are made while a client reads pages do not shift them.
func testListGrows(t *testing.T, s store.Store) {
	var ids []string
	for i := range 6 {
		ids = append(ids, fmt.Sprintf("b%d", i))
		create(t, s, store.NewBuild{ID: ids[i]})
	}
	want := newestFirst(t, s, ids)
	var got []string
	f := store.Filter{Limit: 2}
	for i := range 3 {
		p, err := s.ListBuilds(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, st := range p.Statuses {
			got = append(got, st.BuildID)
		}
		f.Before = p.Next
		// Ids above all others, so that one made in the same millisecond is newer too.
		create(t, s, store.NewBuild{ID: fmt.Sprintf("z%d", i)})
	}
	if !slices.Equal(got, want) || f.Before != "" {
		t.Errorf("%v, want %v; next %q", got, want, f.Before)
	}
}

func testListNowhere(t *testing.T, s store.Store) {
	create(t, s, store.NewBuild{ID: "b"})
	for _, before := range []string{"x", "b", "MTIz", "' OR 1", store.Place{Created: 1}.String(), store.Place{Created: 1, ID: "no id"}.String()} {
		_, err := s.ListBuilds(t.Context(), store.Filter{Before: before, Limit: 10})
		wantCode(t, err, buildcast.InvalidArgument)
	}
	// The place of a build that was deleted meanwhile is still valid.
	page, err := s.ListBuilds(t.Context(), store.Filter{Before: store.Place{Created: 1, ID: "gone"}.String(), Limit: 10})
	if err != nil || len(page.Statuses) != 0 || page.Next != "" {
		t.Errorf("before all: %+v, %v", page, err)
	}
}
