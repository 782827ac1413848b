package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

func testAppendIDs(t *testing.T, s store.Store) {
	one := add(t, s, "b", many(1)...)
	wantIDs(t, one.Events, 1, 1)
	three := add(t, s, "b", many(3)...)
	wantIDs(t, three.Events, 2, 4)
	if three.Status.LastEventID != 4 {
		t.Errorf("the status says last event %d", three.Status.LastEventID)
	}
	// A store may insert several rows with one statement: appends of every size must
	// be stored whole.
	last := int64(4)
	for _, n := range []int{63, 64, 65, 128, 200} {
		wantIDs(t, add(t, s, "b", many(n)...).Events, last+1, last+int64(n))
		last += int64(n)
	}
	all := log(t, s, "b")
	wantIDs(t, all, 1, last)
	for _, e := range append(one.Events, three.Events...) {
		if d := diff(e, all[e.ID-1]); d != "" {
			t.Errorf("answered and read (-answered +read):\n%s", d)
		}
	}
}

func testAppendCreates(t *testing.T, s store.Store) {
	a := add(t, s, "new-one_B", event(buildcast.PlanStarted, `{"message":"Thinking"}`))
	b := get(t, s, "new-one_B")
	if !b.External() || b.ID != "new-one_B" || b.Project != "" || b.Prompt != "" || b.Deploy != "" {
		t.Errorf("the build is %+v", b)
	}
	if d := diff(a.Status, b.Status); d != "" {
		t.Errorf("status answered and read (-answered +read):\n%s", d)
	}
	if b.Status.Message != "Thinking" || b.Status.Phase != buildcast.Planning {
		t.Errorf("the status is %+v", b.Status)
	}
	if leases := claim(t, s, "runner", time.Hour, 10); len(leases) != 0 {
		t.Errorf("an external build was handed to be run: %+v", leases)
	}
}

func testAppendSeveral(t *testing.T, s store.Store) {
	create(t, s, store.NewBuild{ID: "there", Project: "p"})
	order := []string{"z", "a", "there", "z", "m", "a", "z"}
	var appends []store.Append
	for i, id := range order {
		appends = append(appends, store.Append{BuildID: id, Events: many(i + 1)})
	}
	answers, err := s.AppendEvents(t.Context(), appends)
	if err != nil {
		t.Fatal(err)
	}
	if len(answers) != len(order) {
		t.Fatalf("%d answers to %d appends", len(answers), len(order))
	}
	last := map[string]int64{}
	for i, a := range answers {
		id, n := order[i], int64(i+1)
		wantIDs(t, a.Events, last[id]+1, last[id]+n)
		last[id] += n
		if a.Err != nil || a.Status.BuildID != id || a.Status.LastEventID != last[id] {
			t.Errorf("answer %d: status of %s at %d, %v; want %s at %d", i, a.Status.BuildID, a.Status.LastEventID, a.Err, id, last[id])
		}
	}
	for id, n := range last {
		wantIDs(t, log(t, s, id), 1, n)
		for i, e := range log(t, s, id) {
			if e.BuildID != id {
				t.Errorf("event %d of %s has the build id %s", i+1, id, e.BuildID)
			}
		}
	}
}

func testAppendNothing(t *testing.T, s store.Store) {
	if answers, err := s.AppendEvents(t.Context(), nil); err != nil || len(answers) != 0 {
		t.Errorf("no appends: %v, %v", answers, err)
	}
	a := add(t, s, "b", many(2)...)
	for range 2 { // an append without events returns the status
		if none := add(t, s, "b"); len(none.Events) != 0 || diff(a.Status, none.Status) != "" {
			t.Errorf("no events: %+v", none)
		}
	}
	wantIDs(t, add(t, s, "b", many(1)...).Events, 3, 3)
}

// reference is the build of the documentation: its events and the progress after each.
func reference() ([]buildcast.NewEvent, []int) {
	step := event
	return []buildcast.NewEvent{
		step(buildcast.PlanStarted, `{"message":"Analyzing requirements..."}`),
		step(buildcast.PlanGenerated, `{"taskCount":3}`),
		step(buildcast.TaskStarted, `{"taskName":"Create HTML Test Page"}`),
		step(buildcast.TaskStarted, `{"taskName":"Create CSS Styles"}`),
		step(buildcast.TaskStarted, `{"taskName":"Create JavaScript File"}`),
		step(buildcast.TaskCompleted, `{}`), step(buildcast.TaskCompleted, `{}`), step(buildcast.TaskCompleted, `{}`),
		step(buildcast.DeployStarted, `{}`), step(buildcast.BuildStarted, `{}`), step(buildcast.DeployProgress, `{}`),
		step(buildcast.DeployCompleted, `{"previewUrl":"https://example.com"}`),
	}, []int{10, 20, 30, 40, 50, 60, 70, 70, 80, 80, 80, 100}
}

// A log folds to the same status whether it is appended in one call or in twelve.
func testAppendFolds(t *testing.T, s store.Store) {
	events, progress := reference()
	for i := range events {
		events[i].Timestamp = buildcast.TimeOf(time.UnixMilli(1_700_000_000_000 + int64(i)))
	}
	for _, id := range []string{"whole", "singly"} {
		create(t, s, store.NewBuild{ID: id, Project: "site"})
	}
	whole := add(t, s, "whole", events...)
	var singly store.Appended
	for _, e := range events {
		singly = add(t, s, "singly", e)
	}
	for _, id := range []string{"whole", "singly"} {
		b := get(t, s, id)
		want := buildcast.NewStatus(id, "site", b.CreatedAt)
		var got []int
		for _, e := range log(t, s, id) {
			got = append(got, e.Progress)
			want.Apply(&e)
		}
		if !slices.Equal(got, progress) {
			t.Errorf("%s: progress %v, want %v", id, got, progress)
		}
		answered := map[string]buildcast.Status{"whole": whole.Status, "singly": singly.Status}[id]
		for _, st := range []buildcast.Status{b.Status, answered} {
			if d := diff(want, st); d != "" {
				t.Errorf("%s: status (-want +got):\n%s", id, d)
			}
		}
	}
}

func testAppendAfterTheEnd(t *testing.T, s store.Store) {
	end := add(t, s, "b", event(buildcast.BuildCompleted, `{}`))
	late := add(t, s, "b", event("step", `{"progress":3}`), event(buildcast.BuildFailed, `{}`))
	wantIDs(t, late.Events, 2, 3)
	want := end.Status
	want.LastEventID = 3
	if d := diff(want, late.Status); d != "" {
		t.Errorf("the status after the end (-want +got):\n%s", d)
	}
	wantIDs(t, log(t, s, "b"), 1, 3)
}

func testAppendLimits(t *testing.T, s store.Store) {
	id := strings.Repeat("Z", buildcast.MaxBuildID)
	largest := buildcast.NewEvent{
		Type: strings.Repeat("t", buildcast.MaxEventType),
		Data: []byte(`"` + strings.Repeat("é", buildcast.MaxEventData/2-1) + `"`),
		Key:  strings.Repeat("é", buildcast.MaxEventKey/2),
	}
	if err := largest.Validate(); err != nil {
		t.Fatal(err)
	}
	a := add(t, s, id, largest)
	if d := diff(a.Events, log(t, s, id)); d != "" {
		t.Errorf("answered and read (-answered +read):\n%s", d)
	}
	if again := add(t, s, id, largest); diff(bare(a.Events), again.Events) != "" {
		t.Errorf("again (-first +again):\n%s", diff(bare(a.Events), again.Events))
	}
	wantIDs(t, add(t, s, "many", many(5000)...).Events, 1, 5000)
	var appends []store.Append
	for i := range 500 {
		appends = append(appends, store.Append{BuildID: fmt.Sprintf("b%d", i), Events: many(2)})
	}
	answers, err := s.AppendEvents(t.Context(), appends)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range answers {
		wantIDs(t, a.Events, 1, 2)
	}
}

func testAppendCancelled(t *testing.T, s store.Store) {
	wantIDs(t, add(t, s, "b", many(1)...).Events, 1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 {
		_, err := s.AppendEvents(ctx, []store.Append{{BuildID: "b", Events: many(1)}})
		wantCode(t, err, buildcast.Unreachable)
	}
	wantIDs(t, add(t, s, "b", many(1)...).Events, 2, 2)
	wantIDs(t, log(t, s, "b"), 1, 2)
}

func testKeyAgain(t *testing.T, s store.Store) {
	first := add(t, s, "b", keyed("k1"), event("step", `{}`), keyed("k2"))
	wantIDs(t, first.Events, 1, 3)
	again := keyed("k1")
	again.Type, again.Data = "other", []byte(`{"other":true}`)
	a := add(t, s, "b", again)
	if d := diff(bare(first.Events[:1]), a.Events); d != "" {
		t.Errorf("the key again (-stored +answered):\n%s", d)
	}
	if d := diff(first.Status, a.Status); d != "" {
		t.Errorf("the status moved (-before +after):\n%s", d)
	}
	mixed := add(t, s, "b", keyed("k2"), keyed("k3"), keyed("k1"), event("step", `{}`))
	var ids []int64
	for _, e := range mixed.Events {
		ids = append(ids, e.ID)
	}
	if want := []int64{3, 4, 1, 5}; !slices.Equal(ids, want) {
		t.Errorf("ids %v, want %v", ids, want)
	}
	wantIDs(t, mixed.Added, 4, 5)
	for i, e := range mixed.Events {
		if stored := i == 1 || i == 3; stored != (e.Data != nil) {
			t.Errorf("event %d has the data %s", e.ID, e.Data)
		}
	}
	wantIDs(t, first.Added, 1, 3)
	wantIDs(t, log(t, s, "b"), 1, 5)
	// Keys are compared byte by byte.
	wantIDs(t, add(t, s, "b", keyed("K1"), keyed("k1 "), keyed("ḱ1")).Events, 6, 8)
}

func testKeyTwiceInOneCall(t *testing.T, s store.Store) {
	for _, id := range []string{"new", "new", "other"} { // the row unknown, known, and known to be different
		before := int64(len(log(t, s, id)))
		k := fmt.Sprint("k", before)
		answers, err := s.AppendEvents(t.Context(), []store.Append{
			{BuildID: id, Events: []buildcast.NewEvent{keyed(k), event("step", `{}`), keyed(k)}},
			{BuildID: id, Events: []buildcast.NewEvent{keyed(k), keyed(k + "x")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		wantIDs(t, answers[0].Added, before+1, before+2)
		wantIDs(t, answers[1].Added, before+3, before+3)
		if d := diff(bare(answers[0].Events[:1])[0], answers[0].Events[2]); d != "" {
			t.Errorf("within one append:\n%s", d)
		}
		if d := diff(answers[0].Events[2], answers[1].Events[0]); d != "" {
			t.Errorf("in the next append:\n%s", d)
		}
		wantIDs(t, log(t, s, id), 1, before+3)
	}
}

func testKeyOfAnotherBuild(t *testing.T, s store.Store) {
	for _, id := range []string{"a", "b"} {
		if e := add(t, s, id, keyed("same")).Events[0]; e.ID != 1 || e.BuildID != id {
			t.Errorf("%s: %+v", id, e)
		}
	}
	answers, err := s.AppendEvents(t.Context(), []store.Append{
		{BuildID: "c", Events: []buildcast.NewEvent{keyed("same")}},
		{BuildID: "a", Events: []buildcast.NewEvent{keyed("same")}},
		{BuildID: "d", Events: []buildcast.NewEvent{keyed("same")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range []string{"c", "a", "d"} {
		if e := answers[i].Events[0]; e.ID != 1 || e.BuildID != id {
			t.Errorf("%s: %+v", id, e)
		}
		wantIDs(t, log(t, s, id), 1, 1)
	}
}

func testFence(t *testing.T, s store.Store) {
	planned(t, s, "b")
	fenced := func(generation int64) (store.Appended, error) {
		answers, err := s.AppendEvents(t.Context(), []store.Append{
			{BuildID: "other", Events: many(1)},
			{BuildID: "b", Generation: generation, Events: many(2)},
			{BuildID: "other", Events: many(1)},
		})
		if err != nil {
			return store.Appended{}, err
		}
		if answers[0].Err != nil || answers[2].Err != nil {
			t.Errorf("the others: %v, %v", answers[0].Err, answers[2].Err)
		}
		return answers[1], nil
	}
	check := func(generation int64, code buildcast.Code, last int64) {
		t.Helper()
		a, err := fenced(generation)
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, a.Err, code)
		if a.Status.LastEventID != last || a.Status.BuildID != "b" {
			t.Errorf("generation %d: status of %q at %d, want %d", generation, a.Status.BuildID, a.Status.LastEventID, last)
		}
		if code != "" && len(a.Events) != 0 {
			t.Errorf("refused, and yet events: %+v", a.Events)
		}
		wantIDs(t, log(t, s, "b"), 1, last)
	}
	check(1, buildcast.Fenced, 0) // nobody has claimed it yet
	first := claim(t, s, "one", 0, 1)[0]
	check(first.Generation, "", 2) // it has ended, but nobody else has claimed the build
	second := claim(t, s, "two", time.Hour, 1)[0]
	check(first.Generation, buildcast.Fenced, 2)
	check(second.Generation, "", 4)
	check(second.Generation+1, buildcast.Fenced, 4)
	check(0, "", 6) // no fence
	wantIDs(t, log(t, s, "other"), 1, 12)

	// Alone in its call.
	answers, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: "b", Generation: first.Generation, Events: many(1)}})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, answers[0].Err, buildcast.Fenced)
	wantIDs(t, log(t, s, "b"), 1, 6)
}

// A process that still runs a deleted build must not bring it back.
func testFenceGone(t *testing.T, s store.Store) {
	planned(t, s, "b")
	lease := claim(t, s, "one", time.Hour, 1)[0]
	add(t, s, "b", event(buildcast.BuildCancelled, `{}`))
	if _, err := s.DeleteBuild(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	answers, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: "b", Generation: lease.Generation, Events: many(1)}})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, answers[0].Err, buildcast.Fenced)
	_, err = s.GetBuild(t.Context(), "b")
	wantCode(t, err, buildcast.NotFound)
}
