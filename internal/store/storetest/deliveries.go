package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// fail moves the endpoint's cursor of b1 past event id, which has failed.
func fail(t fataler, s store.Store, c store.Cursor, id int64, block bool, change ...func(*buildcast.Delivery)) (store.Cursor, store.Moved) {
	t.Helper()
	now := buildcast.Now()
	d := buildcast.Delivery{
		EndpointID: c.EndpointID, BuildID: c.BuildID, EventID: id, EventType: "step", State: buildcast.DeliveryRetrying, Tries: 1,
		Attempts: []buildcast.Attempt{{At: now, DurationMS: 7, Status: 500, Response: "né 'quoted' \\u0000 \ufffd"}}, RetryAt: &now, CreatedAt: now, UpdatedAt: now,
	}
	for _, do := range change {
		do(&d)
	}
	c.Next = id + 1
	return c, move(t, s, "n", store.Move{Cursor: c, Failed: &d, Block: block})
}

func listed(t fataler, s store.Store, f store.DeliveryFilter) []buildcast.Delivery {
	t.Helper()
	if f.Limit == 0 {
		f.Limit = 100
	}
	page, err := s.ListDeliveries(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return page.Deliveries
}

func due(t fataler, s store.Store, owner string) []buildcast.Delivery {
	t.Helper()
	now := time.Now().Add(time.Second)
	got, err := s.ClaimDeliveries(t.Context(), owner, "e", now, now.Add(minute), 10)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func eventIDs(all []buildcast.Delivery) (ids []int64) {
	for _, d := range all {
		ids = append(ids, d.EventID)
	}
	return ids
}

func save(t fataler, s store.Store, owner string, d buildcast.Delivery, state buildcast.DeliveryState) {
	t.Helper()
	d.State, d.Tries, d.UpdatedAt = state, d.Tries+1, buildcast.Now()
	if state != buildcast.DeliveryRetrying {
		d.RetryAt = nil
	}
	if err := s.SaveDelivery(t.Context(), owner, d); err != nil {
		t.Fatal(err)
	}
}

// started makes an endpoint e and a build b1 with 9 events, and returns the cursor,
// which n holds.
func started(t fataler, s store.Store) store.Cursor {
	t.Helper()
	endpoint(t, s, "e")
	add(t, s, "b1", many(9)...)
	return claimFor(t, s, "n", "e")[0]
}

func testRetries(t *testing.T, s store.Store) {
	c, moved := fail(t, s, started(t, s), 2, false)
	if !moved.Held {
		t.Errorf("%+v", moved)
	}
	c, _ = fail(t, s, c, 4, false, func(d *buildcast.Delivery) { at := buildcast.TimeOf(time.Now().Add(time.Hour)); d.RetryAt = &at })
	fail(t, s, c, 5, false)
	got := due(t, s, "n1")
	if diff := cmp.Diff([]int64{2, 5}, eventIDs(got)); diff != "" {
		t.Fatalf("those due, the longest first: %s", diff)
	}
	if diff := cmp.Diff(got[0], listed(t, s, store.DeliveryFilter{Limit: 3})[2]); diff != "" {
		t.Errorf("claimed and listed: %s", diff)
	}
	if more := due(t, s, "n2"); len(more) > 0 {
		t.Errorf("leased ones: %v", eventIDs(more))
	}
	save(t, s, "n2", got[0], buildcast.DeliveryDead) // it is not n2's
	save(t, s, "n1", got[0], buildcast.DeliveryRetrying)
	save(t, s, "n1", got[1], buildcast.DeliveryDelivered)
	save(t, s, "n1", got[1], buildcast.DeliveryDead) // no longer n1's
	if diff := cmp.Diff([]int64{2}, eventIDs(due(t, s, "n2"))); diff != "" {
		t.Error(diff)
	}
	want := map[int64]buildcast.DeliveryState{2: "retrying", 4: "retrying", 5: "delivered"}
	states := map[int64]buildcast.DeliveryState{}
	for _, d := range listed(t, s, store.DeliveryFilter{}) {
		states[d.EventID] = d.State
		if d.EventID == 2 && (d.Tries != 2 || len(d.Attempts) != 1 || d.Attempts[0].Response != got[0].Attempts[0].Response) {
			t.Errorf("%+v", d)
		}
	}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Error(diff)
	}
	if err := s.ReleaseCursors(t.Context(), "n2"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{2}, eventIDs(due(t, s, "n3"))); diff != "" {
		t.Errorf("released: %s", diff)
	}
}

func testBlock(t *testing.T, s store.Store) {
	_, moved := fail(t, s, started(t, s), 2, true)
	if moved.Held || moved.Parked {
		t.Errorf("%+v", moved)
	}
	wantPlaces(t, "blocked", claimFor(t, s, "n", "e"))
	add(t, s, "b1", many(1)...)
	wantPlaces(t, "still", claimFor(t, s, "n", "e"))
	d := due(t, s, "n1")[0]
	save(t, s, "n1", d, buildcast.DeliveryRetrying)
	wantPlaces(t, "still", claimFor(t, s, "n", "e"))
	save(t, s, "n1", due(t, s, "n1")[0], buildcast.DeliveryDead)
	wantPlaces(t, "it goes on", claimFor(t, s, "n", "e"), "b1:3")
}

func testRecall(t *testing.T, s store.Store) {
	since := time.Now()
	earlier := func(d *buildcast.Delivery) { d.CreatedAt = buildcast.TimeOf(since.Add(-minute)) }
	c, _ := fail(t, s, started(t, s), 1, false, earlier)
	c, _ = fail(t, s, c, 4, false)
	c, _ = fail(t, s, c, 5, false)
	c, _ = fail(t, s, c, 6, false, func(d *buildcast.Delivery) { d.State, d.RetryAt = buildcast.DeliveryDead, nil })
	add(t, s, "b2", many(3)...)
	other := claimFor(t, s, "n", "e")[0]
	other, _ = fail(t, s, other, 3, true)
	add(t, s, "b3", many(2)...)
	parked := claimFor(t, s, "n", "e")[0]
	parked, _ = fail(t, s, parked, 2, false)
	move(t, s, "n", store.Move{Cursor: parked, Park: true})
	if n, err := s.Redeliver(t.Context(), store.Redelivery{EndpointID: "e", BuildID: "b3", EventID: 1}, time.Now()); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if err := s.RecallDeliveries(t.Context(), "e", since.Truncate(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if m := move(t, s, "n", store.Move{Cursor: c}); m.Held {
		t.Error("its holder still has the cursor")
	}
	wantPlaces(t, "back, made and unblocked", claimFor(t, s, "n", "e"), "b1:4", "b2:3", "b3:2")
	left := map[string]buildcast.DeliveryState{}
	for _, d := range listed(t, s, store.DeliveryFilter{}) {
		left[fmt.Sprintf("%s:%d", d.BuildID, d.EventID)] = d.State
	}
	if diff := cmp.Diff(map[string]buildcast.DeliveryState{"b1:1": "retrying", "b1:6": "dead", "b3:1": "retrying"}, left); diff != "" {
		t.Error(diff)
	}
	_ = other
}

func testRedeliver(t *testing.T, s store.Store) {
	dead := func(d *buildcast.Delivery) { d.State, d.RetryAt, d.Tries = buildcast.DeliveryDead, nil, 6 }
	c, _ := fail(t, s, started(t, s), 1, false, dead, func(d *buildcast.Delivery) { d.UpdatedAt = buildcast.TimeOf(time.Now().Add(-time.Hour)) })
	c, _ = fail(t, s, c, 2, false, dead)
	fail(t, s, c, 3, false, func(d *buildcast.Delivery) { d.State, d.RetryAt = buildcast.DeliveryDelivered, nil })
	redeliver := func(r store.Redelivery) (int64, error) { return s.Redeliver(t.Context(), r, time.Now()) }
	if n, err := redeliver(store.Redelivery{EndpointID: "e", Since: time.Now().Add(-minute)}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	got := due(t, s, "n")
	if len(got) != 1 || got[0].EventID != 2 || got[0].Tries != 0 || len(got[0].Attempts) != 1 {
		t.Fatalf("%+v", got)
	}
	for _, id := range []int64{2, 3, 7} { // leased, delivered, and never tried
		if n, err := redeliver(store.Redelivery{EndpointID: "e", BuildID: "b1", EventID: id}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	save(t, s, "n", got[0], buildcast.DeliveryDead) // it was asked for again meanwhile
	again := due(t, s, "n")
	if len(again) != 3 || again[0].EventType != "step" {
		t.Errorf("%+v", again)
	}
	for _, r := range []store.Redelivery{{EndpointID: "x", Since: time.Now()}, {EndpointID: "e", BuildID: "b1", EventID: 10}, {EndpointID: "e", BuildID: "b9", EventID: 1}} {
		_, err := redeliver(r)
		wantCode(t, err, buildcast.NotFound)
	}
}

func testListDeliveries(t *testing.T, s store.Store) {
	c := started(t, s)
	at := time.Now().Add(-minute)
	for id := int64(1); id <= 7; id++ {
		if id%3 != 0 { // some at the same moment
			at = at.Add(time.Second)
		}
		c, _ = fail(t, s, c, id, false, func(d *buildcast.Delivery) {
			d.CreatedAt = buildcast.TimeOf(at)
			if id == 4 {
				d.State = buildcast.DeliveryDead
			}
		})
	}
	var all []int64
	f := store.DeliveryFilter{Limit: 2}
	for {
		page, err := s.ListDeliveries(t.Context(), f)
		if err != nil || len(page.Deliveries) > 2 {
			t.Fatal(page, err)
		}
		all = append(all, eventIDs(page.Deliveries)...)
		if f.Before = page.Next; f.Before == "" {
			break
		}
	}
	if diff := cmp.Diff([]int64{7, 6, 5, 4, 3, 2, 1}, all); diff != "" {
		t.Error(diff)
	}
	for _, tt := range []struct {
		f    store.DeliveryFilter
		want int
	}{
		{store.DeliveryFilter{EndpointID: "e"}, 7},
		{store.DeliveryFilter{EndpointID: "x"}, 0},
		{store.DeliveryFilter{BuildID: "b1", State: buildcast.DeliveryDead}, 1},
		{store.DeliveryFilter{BuildID: "b2"}, 0},
	} {
		if got := listed(t, s, tt.f); len(got) != tt.want {
			t.Errorf("%+v: %d, want %d", tt.f, len(got), tt.want)
		}
	}
	for _, text := range []string{"x", "1.2.3", "a.b1.1.e", "1.b1.x.e"} {
		_, err := s.ListDeliveries(t.Context(), store.DeliveryFilter{Limit: 1, Before: text})
		wantCode(t, err, buildcast.InvalidArgument)
	}
}

func testPrune(t *testing.T, s store.Store) {
	old := buildcast.TimeOf(time.Now().Add(-time.Hour))
	c := started(t, s)
	for id, state := range []buildcast.DeliveryState{"retrying", "delivered", "dead", "dead"} {
		c, _ = fail(t, s, c, int64(id+1), false, func(d *buildcast.Delivery) {
			d.State = state
			if id < 3 {
				d.UpdatedAt = old
			}
		})
	}
	now := time.Now().UTC().Truncate(time.Second)
	counts := []store.Counts{
		{EndpointID: "e", Bucket: now.Add(-time.Hour), Run: "r", Numbers: []byte(`{"n": 1}`)},
		{EndpointID: "e", Bucket: now, Run: "r", Numbers: []byte(`{"n": 2}`)},
		{EndpointID: "", Bucket: now, Run: "r", Numbers: []byte(`{"n": 3}`)},
	}
	if err := s.SaveCounts(t.Context(), counts); err != nil {
		t.Fatal(err)
	}
	counts[1].Numbers = []byte(`{"n": 4}`)
	if err := s.SaveCounts(t.Context(), counts[1:2]); err != nil {
		t.Fatal(err)
	}
	if got, err := s.ReadCounts(t.Context(), now.Add(-2*time.Hour)); err != nil || len(got) != 3 || !got[0].Bucket.Equal(counts[0].Bucket) || string(got[0].Numbers) != `{"n": 1}` {
		t.Errorf("%v, %v", got, err)
	}
	if err := s.PruneDeliveries(t.Context(), now.Add(-minute)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{4, 1}, eventIDs(listed(t, s, store.DeliveryFilter{}))); diff != "" {
		t.Error(diff)
	}
	got, err := s.ReadCounts(t.Context(), now.Add(-2*time.Hour))
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	for _, c := range got {
		if c.EndpointID == "e" && string(c.Numbers) != `{"n": 4}` {
			t.Errorf("replaced: %s", c.Numbers)
		}
	}
}

func testWaiting(t *testing.T, s store.Store) {
	c := started(t, s)
	c, _ = fail(t, s, c, 2, false)
	fail(t, s, c, 3, false, func(d *buildcast.Delivery) { d.State = buildcast.DeliveryDead })
	add(t, s, "b2", many(1)...)
	at := claimFor(t, s, "n", "e", "b2")[0]
	at.Next = 2 // held at the end of its log
	move(t, s, "n", store.Move{Cursor: at})
	got, err := s.Waiting(t.Context())
	if diff := cmp.Diff(map[string]store.Waiting{"e": {Cursors: 1, Events: 6, Retrying: 1, Dead: 1}}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if size, err := s.Size(t.Context()); err != nil || size < 1000 {
		t.Errorf("%d bytes, %v", size, err)
	}
}

func testEndpoints(t *testing.T, s store.Store) {
	e := endpoint(t, s, "e", func(e *store.Endpoint) {
		e.Description, e.Types, e.Headers = "né", []string{"a*"}, nil
		e.Breaker = buildcast.Breaker{State: buildcast.BreakerClosed}
	})
	endpoint(t, s, "second", func(e *store.Endpoint) { e.CreatedAt = buildcast.TimeOf(time.Now().Add(time.Second)) })
	all, err := s.ListEndpoints(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	if diff := cmp.Diff(e, all[0]); diff != "" {
		t.Error(diff)
	}
	_, err = s.SaveEndpoint(t.Context(), store.Endpoint{Endpoint: e.Endpoint, Sealed: e.Sealed})
	wantCode(t, err, buildcast.Conflict)
	changed := e
	changed.URL = "https://example.com/new"
	if changed.Version, err = s.SaveEndpoint(t.Context(), changed); err != nil || changed.Version <= e.Version {
		t.Fatal(changed.Version, err)
	}
	_, err = s.SaveEndpoint(t.Context(), e)
	wantCode(t, err, buildcast.Conflict)
	e.ID = "third"
	_, err = s.SaveEndpoint(t.Context(), e)
	wantCode(t, err, buildcast.NotFound)

	add(t, s, "b1", many(3)...)
	fail(t, s, claimFor(t, s, "n", "e")[0], 1, false)
	if err := s.DeleteEndpoint(t.Context(), "e"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.DeleteEndpoint(t.Context(), "e"), buildcast.NotFound)
	add(t, s, "b1", many(3)...)
	if got := listed(t, s, store.DeliveryFilter{}); len(got) > 0 {
		t.Errorf("%+v", got)
	}
	wantPlaces(t, "deleted", claimFor(t, s, "n", "e"))
	wantPlaces(t, "the other", claimFor(t, s, "n", "second"), "b1:1")
}

func testDeleteDelivered(t *testing.T, s store.Store) {
	c, _ := fail(t, s, started(t, s), 1, false)
	add(t, s, "b1", event(buildcast.BuildCompleted, `{}`))
	if _, err := s.DeleteBuild(t.Context(), "b1"); err != nil {
		t.Fatal(err)
	}
	if m := move(t, s, "n", store.Move{Cursor: c}); m.Held {
		t.Error("its cursor is still there")
	}
	if got := listed(t, s, store.DeliveryFilter{}); len(got) > 0 {
		t.Errorf("%+v", got)
	}
	if err := s.RecallDeliveries(t.Context(), "e", time.Now().Add(-minute)); err != nil {
		t.Fatal(err)
	}
	wantPlaces(t, "gone", claimFor(t, s, "n", "e"))
}
