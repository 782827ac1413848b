package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// remove deletes the build and returns the id of its next event.
func remove(t fataler, s store.Cuts, id string) int64 {
	t.Helper()
	first, err := s.DeleteBuild(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

func truncate(t fataler, s store.Cuts, id string, first int64) int64 {
	t.Helper()
	kept, err := s.TruncateLog(t.Context(), id, first)
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

// purge runs the purge to its end and returns its steps.
func purge(t fataler, s store.Purger) (steps int) {
	t.Helper()
	for more := true; more; steps++ {
		var err error
		if more, err = s.Purge(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
		if steps > 1000 {
			t.Fatal("the purge does not end")
		}
	}
	return steps
}

// wantFold fails unless the kept events, folded from the start of the fold, give the
// build's status.
func wantFold(t fataler, s store.Store, id string) {
	t.Helper()
	want, err := s.FoldStart(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	kept := log(t, s, id)
	st := get(t, s, id).Status
	wantIDs(t, kept, st.FirstEventID, st.LastEventID)
	for _, e := range kept {
		want.Apply(&e)
	}
	if d := diff(want, st); d != "" {
		t.Fatalf("the status is not the fold (-fold +status):\n%s", d)
	}
}

func wantBounds(t *testing.T, s store.Reader, id string, first, last int64) {
	t.Helper()
	bounds, err := s.Bounds(t.Context(), []string{id})
	if err != nil || bounds[id] != (store.Bounds{First: first, Last: last}) {
		t.Errorf("%s: bounds %+v, %v; want %d to %d", id, bounds[id], err, first, last)
	}
}

func testDelete(t *testing.T, s store.Store) {
	_, err := s.DeleteBuild(t.Context(), "b")
	wantCode(t, err, buildcast.NotFound)
	create(t, s, store.NewBuild{ID: "b", Project: "p", IdempotencyKey: "key"})
	add(t, s, "b", keyed("k"))
	add(t, s, "other", many(2)...)
	_, err = s.DeleteBuild(t.Context(), "b")
	wantCode(t, err, buildcast.NotFinished)
	wantIDs(t, log(t, s, "b"), 1, 1)

	add(t, s, "b", event(buildcast.BuildCompleted, `{}`))
	if first := remove(t, s, "b"); first != 3 {
		t.Errorf("the next event is %d, want 3", first)
	}
	for range 2 { // before and after the purge
		_, err = s.GetBuild(t.Context(), "b")
		wantCode(t, err, buildcast.NotFound)
		_, err = s.DeleteBuild(t.Context(), "b")
		wantCode(t, err, buildcast.NotFound)
		wantIDs(t, log(t, s, "b"), 1, 0)
		for _, f := range []store.Filter{{Limit: 10}, {Limit: 10, Project: "p"}, {Limit: 10, Phase: buildcast.Queued}, {Limit: 10, Phase: buildcast.Completed}} {
			if ids := pages(t, s, f); slices.Contains(ids, "b") {
				t.Errorf("%+v lists %v", f, ids)
			}
		}
		if statuses, err := s.Statuses(t.Context(), []string{"b", "other"}); err != nil || len(statuses) != 1 {
			t.Errorf("statuses: %v, %v", statuses, err)
		}
		purge(t, s)
	}
	wantIDs(t, log(t, s, "other"), 1, 2)
	create(t, s, store.NewBuild{ID: "b2", IdempotencyKey: "key"}) // the name is free again
}

// The row of a deleted build stays: ids continue, and a new fold begins.
func testTombstone(t *testing.T, s store.Store) {
	create(t, s, store.NewBuild{ID: "b", Project: "p"})
	add(t, s, "b", keyed("k"), event("step", `{"progress":40}`), event(buildcast.BuildCompleted, `{}`))
	wantBounds(t, s, "b", 1, 3)
	remove(t, s, "b")
	wantBounds(t, s, "b", 4, 3)
	a := add(t, s, "b", keyed("k"))
	wantIDs(t, a.Events, 4, 4)
	st := a.Status
	if st.FirstEventID != 4 || st.LastEventID != 4 || st.Phase != buildcast.Queued || st.Progress != 0 || st.Project != "" || st.FinishedAt != nil {
		t.Errorf("the status is not that of a new fold: %+v", st)
	}
	wantIDs(t, add(t, s, "b", many(2)...).Events, 5, 6) // the row is known now
	wantFold(t, s, "b")
	purge(t, s)
	wantFold(t, s, "b")
	wantIDs(t, log(t, s, "b"), 4, 6)
	wantIDs(t, add(t, s, "b", event(buildcast.BuildCancelled, `{}`)).Events, 7, 7)
	if first := remove(t, s, "b"); first != 8 {
		t.Errorf("the next event is %d, want 8", first)
	}
	if none := add(t, s, "b"); none.Status.FirstEventID != 8 || none.Status.LastEventID != 7 { // an append without events makes a build too
		t.Errorf("made by an append without events: %+v", none.Status)
	}
	wantFold(t, s, "b")
}

func testCreateDeleted(t *testing.T, s store.Store) {
	create(t, s, store.NewBuild{ID: "b", Project: "p", Prompt: "q", Plan: plan(), Deploy: buildcast.DeployLocal, IdempotencyKey: "key"})
	add(t, s, "b", event(buildcast.BuildFailed, `{}`))
	remove(t, s, "b")
	in := store.NewBuild{ID: "b", Project: "other", Plan: &buildcast.Plan{Name: "new", Build: "make"}, IdempotencyKey: "key"}
	b := create(t, s, in)
	want := buildcast.Build{ID: "b", Project: "other", Plan: in.Plan, CreatedAt: b.CreatedAt, Status: buildcast.NewStatus("b", "other", b.CreatedAt)}
	want.Status.FirstEventID, want.Status.LastEventID = 2, 1
	for _, got := range []buildcast.Build{b, get(t, s, "b")} {
		if d := diff(want, got); d != "" {
			t.Errorf("created again (-want +got):\n%s", d)
		}
	}
	if ids := pages(t, s, store.Filter{Limit: 10, Project: "other", Phase: buildcast.Queued}); !slices.Equal(ids, []string{"b"}) {
		t.Errorf("listed: %v", ids)
	}
	if _, created, err := s.CreateBuild(t.Context(), in); created || err != nil {
		t.Errorf("again: created %v, %v", created, err)
	}
	wantIDs(t, add(t, s, "b", many(1)...).Events, 2, 2)
	wantFold(t, s, "b")
	add(t, s, "b", event(buildcast.BuildFailed, `{}`))
	remove(t, s, "b")
	if ids := pages(t, s, store.Filter{Limit: 10}); len(ids) != 0 {
		t.Errorf("listed: %v", ids)
	}
}

// A lease of a deleted build is not valid for a build that is created under the same
// id.
func testFenceMadeAgain(t *testing.T, s store.Store) {
	planned(t, s, "b")
	old := claim(t, s, "one", time.Hour, 1)[0]
	add(t, s, "b", event(buildcast.BuildCancelled, `{}`))
	remove(t, s, "b")
	wantCode(t, s.RenewLease(t.Context(), old, time.Hour), buildcast.NotFound)
	if leases := claim(t, s, "two", time.Hour, 10); len(leases) != 0 {
		t.Errorf("claimed a deleted build: %+v", leases)
	}
	planned(t, s, "b")
	wantCode(t, s.RenewLease(t.Context(), old, time.Hour), buildcast.Fenced)
	fresh := claim(t, s, "two", time.Hour, 10)
	if len(fresh) != 1 || fresh[0].Generation <= old.Generation {
		t.Fatalf("claimed %+v after %+v", fresh, old)
	}
	answers, err := s.AppendEvents(t.Context(), []store.Append{
		{BuildID: "b", Generation: old.Generation, Events: many(1)},
		{BuildID: "b", Generation: fresh[0].Generation, Events: many(1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, answers[0].Err, buildcast.Fenced)
	wantIDs(t, answers[1].Events, 2, 2)
}

func testTruncate(t *testing.T, s store.Store) {
	_, err := s.TruncateLog(t.Context(), "b", 1)
	wantCode(t, err, buildcast.NotFound)
	create(t, s, store.NewBuild{ID: "b", Project: "p"})
	events, progress := reference()
	add(t, s, "b", events[:8]...)
	before := get(t, s, "b").Status
	for _, c := range []struct{ first, kept int64 }{{-1, 1}, {1, 1}, {2, 2}, {6, 6}, {3, 6}, {6, 6}} {
		if kept := truncate(t, s, "b", c.first); kept != c.kept {
			t.Errorf("cut at %d: begins at %d, want %d", c.first, kept, c.kept)
		}
		wantFold(t, s, "b")
	}
	_, err = s.TruncateLog(t.Context(), "b", 10)
	wantCode(t, err, buildcast.InvalidArgument)
	wantBounds(t, s, "b", 6, 8)
	before.FirstEventID = 6
	statuses, err := s.Statuses(t.Context(), []string{"b"})
	if d := diff(before, statuses["b"]); d != "" || err != nil {
		t.Errorf("the cut changes the status (-before +after):\n%s%v", d, err)
	}
	wantIDs(t, read(t, s, "b", 0, 100, 1<<20), 6, 8)
	wantIDs(t, read(t, s, "b", 3, 2, 1<<20), 6, 7)
	wantIDs(t, read(t, s, "b", 7, 100, 1<<20), 8, 8)
	purge(t, s)
	rest := add(t, s, "b", events[8:]...)
	wantIDs(t, rest.Events, 9, 12)
	if rest.Status.FirstEventID != 6 {
		t.Errorf("an append returns that the log begins at %d", rest.Status.FirstEventID)
	}
	for i, e := range log(t, s, "b") {
		if e.Progress != progress[5+i] {
			t.Errorf("event %d has progress %d, want %d", e.ID, e.Progress, progress[5+i])
		}
	}
	wantFold(t, s, "b")
	if kept := truncate(t, s, "b", 13); kept != 13 { // nothing is kept
		t.Errorf("the log begins at %d, want 13", kept)
	}
	wantFold(t, s, "b")
	wantBounds(t, s, "b", 13, 12)
	wantIDs(t, add(t, s, "b", many(1)...).Events, 13, 13)
	if first := remove(t, s, "b"); first != 14 {
		t.Errorf("the next event is %d, want 14", first)
	}
	_, err = s.TruncateLog(t.Context(), "b", 14)
	wantCode(t, err, buildcast.NotFound)
	_, err = s.FoldStart(t.Context(), "b")
	wantCode(t, err, buildcast.NotFound)
}

// Appends and cuts in turn, with logs longer than one read of a cut.
func testTruncateInTurn(t *testing.T, s store.Store) {
	last := int64(0)
	for n := range int64(4) {
		for range 2 {
			wantIDs(t, add(t, s, "b", many(600)...).Events, last+1, last+600)
			last += 600
		}
		truncate(t, s, "b", last-10*n)
		wantFold(t, s, "b")
	}
	purge(t, s)
	wantFold(t, s, "b")
	wantBounds(t, s, "b", last-30, last)
}

// A key is remembered as long as its event is kept, whether the purge has removed the
// event's row or not.
func testCutKeys(t *testing.T, s store.Store) {
	for _, purged := range []bool{false, true} {
		id := fmt.Sprint("purged-", purged)
		add(t, s, id, keyed("k1"), keyed("k2"), keyed("k3"))
		truncate(t, s, id, 3)
		if purged {
			purge(t, s)
		}
		a := add(t, s, id, keyed("k1"), keyed("k3"), keyed("k1"))
		var got []int64
		for _, e := range a.Events {
			got = append(got, e.ID)
		}
		if want := []int64{4, 3, 4}; !slices.Equal(got, want) {
			t.Errorf("%s: ids %v, want %v", id, got, want)
		}
		add(t, s, id, event(buildcast.BuildCompleted, `{}`))
		remove(t, s, id)
		if purged {
			purge(t, s)
		}
		wantIDs(t, add(t, s, id, keyed("k1"), keyed("k2"), keyed("k3")).Events, 6, 8)
		wantFold(t, s, id)
		purge(t, s)
		wantFold(t, s, id)
	}
}

// A fenced append to a deleted build, and after it one that makes the build again:
// the keys of the old log are forgotten for both.
func testCutKeysBehindAFence(t *testing.T, s store.Store) {
	planned(t, s, "b")
	lease := claim(t, s, "one", time.Hour, 1)[0]
	add(t, s, "b", keyed("k1"), event(buildcast.BuildCompleted, `{}`))
	remove(t, s, "b")
	answers, err := s.AppendEvents(t.Context(), []store.Append{
		{BuildID: "b", Generation: lease.Generation, Events: []buildcast.NewEvent{keyed("k1")}},
		{BuildID: "b", Events: []buildcast.NewEvent{keyed("k1")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, answers[0].Err, buildcast.Fenced)
	wantIDs(t, answers[1].Events, 3, 3)
	wantFold(t, s, "b")
}

func testPurgeSteps(t *testing.T, s store.Store) {
	if steps := purge(t, s); steps != 1 {
		t.Errorf("%d steps for nothing", steps)
	}
	for _, id := range []string{"a", "b"} {
		add(t, s, id, many(25)...)
		add(t, s, id, event(buildcast.BuildCompleted, `{}`))
	}
	add(t, s, "kept", many(25)...)
	remove(t, s, "a")
	truncate(t, s, "b", 24)
	if steps := purge(t, s); steps < 6 { // 26 and 23 events, 10 a step
		t.Errorf("%d steps", steps)
	}
	if steps := purge(t, s); steps != 1 {
		t.Errorf("%d steps when all is purged", steps)
	}
	wantIDs(t, log(t, s, "kept"), 1, 25)
	wantIDs(t, log(t, s, "b"), 24, 26)
	// Data counts too: a step removes only a few large events.
	add(t, s, "large", event("step", fmt.Sprintf(`"%060000d"`, 0)), event(buildcast.BuildCompleted, `{}`))
	remove(t, s, "large")
	purge(t, s)
	wantBounds(t, s, "large", 3, 2)
}

// The purge removes the failed deliveries of events that were cut off, and no others.
// A cursor that waited for one of them is no longer blocked.
func testPurgeDeliveries(t *testing.T, s store.Store) {
	c, _ := fail(t, s, started(t, s), 1, false)
	c, _ = fail(t, s, c, 2, false)
	fail(t, s, c, 3, true) // the cursor waits for it
	wantPlaces(t, "blocked", claimFor(t, s, "n", "e"))
	truncate(t, s, "b1", 3)
	wantPlaces(t, "still blocked", claimFor(t, s, "n", "e"))
	if got := eventIDs(listed(t, s, store.DeliveryFilter{})); !slices.Equal(got, []int64{3}) {
		t.Errorf("listed before the purge: %v", got)
	}
	purge(t, s)
	wantPlaces(t, "its event is kept", claimFor(t, s, "n", "e"))
	truncate(t, s, "b1", 5)
	purge(t, s)
	if got := listed(t, s, store.DeliveryFilter{}); len(got) != 0 {
		t.Errorf("listed: %+v", got)
	}
	wantPlaces(t, "its event was cut off", claimFor(t, s, "n", "e"), "b1:5")
}

// Claims, rewinds and recalls put cursors only at events that are kept.
func testCutCursors(t *testing.T, s store.Store) {
	c := started(t, s)
	leave := buildcast.Now().Std()
	truncate(t, s, "b1", 3)
	move(t, s, "n", store.Move{Cursor: c, Leave: &leave})
	c = claimFor(t, s, "n", "e")[0]
	if c.Next != 3 || c.Missed != 2 {
		t.Errorf("claimed at %d with %d missed, want 3 and 2", c.Next, c.Missed)
	}
	if err := s.Rewind(t.Context(), "e", "b1", 1); err != nil {
		t.Fatal(err)
	}
	c = claimFor(t, s, "n", "e")[0]
	if c.Next != 3 {
		t.Errorf("rewound to %d, want 3", c.Next)
	}
	_, err := s.Redeliver(t.Context(), store.Redelivery{EndpointID: "e", BuildID: "b1", EventID: 2}, time.Now())
	wantCode(t, err, buildcast.NotFound)
	last := add(t, s, "b1", event(buildcast.BuildCompleted, `{}`)).Status.LastEventID
	remove(t, s, "b1")
	wantCode(t, s.Rewind(t.Context(), "e", "b1", 1), buildcast.NotFound)
	wantPlaces(t, "deleted", claimFor(t, s, "n", "e"))
	add(t, s, "b1", many(1)...)
	wantPlaces(t, "made again", claimFor(t, s, "n", "e"), fmt.Sprintf("b1:%d", last+1))
}
