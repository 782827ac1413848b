package storetest

import (
	"fmt"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

func read(t *testing.T, s store.Reader, build string, after int64, limit, maxBytes int) []buildcast.Event {
	t.Helper()
	events, err := s.ReadEvents(t.Context(), build, after, limit, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func testReadCursor(t *testing.T, s store.Store) {
	add(t, s, "b", many(10)...)
	add(t, s, "a", many(3)...)
	add(t, s, "c", many(3)...)
	for _, c := range []struct {
		after       int64
		limit       int
		first, last int64
	}{
		{0, 100, 1, 10},
		{0, 10, 1, 10},
		{0, 4, 1, 4},
		{4, 4, 5, 8},
		{8, 4, 9, 10},
		{9, 1, 10, 10},
		{10, 5, 1, 0},
		{11, 5, 1, 0},
		{1 << 60, 5, 1, 0},
		{-1, 2, 1, 2},
		{3, 0, 1, 0},
	} {
		wantIDs(t, read(t, s, "b", c.after, c.limit, 1<<20), c.first, c.last)
	}
	if events := read(t, s, "unknown", 0, 10, 1<<20); len(events) != 0 {
		t.Errorf("an unknown build has %+v", events)
	}
}

func testReadBytes(t *testing.T, s store.Store) {
	data := fmt.Sprintf(`"%0998d"`, 0) // 1000 bytes
	for range 5 {
		add(t, s, "b", event("step", data))
	}
	for _, c := range []struct {
		maxBytes int
		last     int64
	}{{0, 1}, {1, 1}, {1000, 1}, {1001, 2}, {3000, 3}, {1 << 20, 5}} {
		wantIDs(t, read(t, s, "b", 0, 100, c.maxBytes), 1, c.last)
	}
	wantIDs(t, read(t, s, "b", 4, 100, 1), 5, 5)
	wantIDs(t, read(t, s, "b", 0, 2, 1<<20), 1, 2)
}

func testReadLong(t *testing.T, s store.Store) {
	const n = 2300
	add(t, s, "b", many(n)...)
	wantIDs(t, read(t, s, "b", 0, n+1, 1<<30), 1, n)
	wantIDs(t, read(t, s, "b", 0, n, 1<<30), 1, n)
	wantIDs(t, read(t, s, "b", 7, 1000, 1<<30), 8, 1007)
	var all []buildcast.Event
	for after := int64(0); ; {
		page := read(t, s, "b", after, 499, 1<<30)
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
		after = page[len(page)-1].ID
	}
	wantIDs(t, all, 1, n)
	for i, e := range all {
		if string(e.Data) != fmt.Sprintf(`{"n":%d}`, i+1) {
			t.Fatalf("event %d has the data %s", e.ID, e.Data)
		}
	}
}

func testStatuses(t *testing.T, s store.Store) {
	create(t, s, store.NewBuild{ID: "queued", Project: "p"})
	a := add(t, s, "begun", event(buildcast.PlanStarted, `{}`), event("step", `{}`))
	ids := []string{"queued", "begun", "unknown", "begun", "", `"]`}
	statuses, err := s.Statuses(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]buildcast.Status{"queued": get(t, s, "queued").Status, "begun": a.Status}
	if d := diff(want, statuses); d != "" {
		t.Errorf("statuses (-want +got):\n%s", d)
	}
	bounds, err := s.Bounds(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(map[string]store.Bounds{"queued": {First: 1}, "begun": {First: 1, Last: 2}}, bounds); d != "" {
		t.Errorf("bounds (-want +got):\n%s", d)
	}
	statuses, err = s.Statuses(t.Context(), nil)
	if err != nil || len(statuses) != 0 {
		t.Errorf("the statuses of no builds: %v, %v", statuses, err)
	}
	bounds, err = s.Bounds(t.Context(), nil)
	if err != nil || len(bounds) != 0 {
		t.Errorf("the bounds of no builds: %v, %v", bounds, err)
	}
}
