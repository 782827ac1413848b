package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// endpoint stores an enabled endpoint with the changes.
func endpoint(t fataler, s store.Store, id string, change ...func(*store.Endpoint)) store.Endpoint {
	t.Helper()
	e := store.Endpoint{Endpoint: buildcast.Endpoint{
		ID: id, URL: "https://example.com/" + id, Types: []string{}, Builds: []string{}, Projects: []string{},
		Enabled: true, CreatedAt: buildcast.Now(), UpdatedAt: buildcast.Now(),
	}, Sealed: []byte{0, 1, 255}}
	for _, do := range change {
		do(&e)
	}
	version, err := s.SaveEndpoint(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	e.Version = version
	return e
}

const minute = time.Minute

// claimFor claims up to 100 cursors of the endpoint for a minute.
func claimFor(t fataler, s store.Store, owner, endpointID string, builds ...string) []store.Cursor {
	t.Helper()
	now := time.Now()
	got, err := s.ClaimCursors(t.Context(), owner, endpointID, builds, now, now.Add(minute), 100)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// places returns the cursors as build:next.
func places(cursors []store.Cursor) (all []string) {
	for _, c := range cursors {
		all = append(all, fmt.Sprintf("%s:%d", c.BuildID, c.Next))
	}
	slices.Sort(all)
	return all
}

func wantPlaces(t *testing.T, what string, got []store.Cursor, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, places(got)); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

func move(t fataler, s store.Store, owner string, m store.Move) store.Moved {
	t.Helper()
	moved, err := s.MoveCursors(t.Context(), owner, []store.Move{m})
	if err != nil {
		t.Fatal(err)
	}
	return moved[0]
}

func testCursorsAreMade(t *testing.T, s store.Store) {
	add(t, s, "early", many(2)...)
	endpoint(t, s, "all")
	endpoint(t, s, "one", func(e *store.Endpoint) { e.Builds = []string{"b1", "b9"} })
	endpoint(t, s, "blue", func(e *store.Endpoint) { e.Projects = []string{"blue"} })
	endpoint(t, s, "off", func(e *store.Endpoint) { e.Enabled = false })
	endpoint(t, s, "operations", func(e *store.Endpoint) { e.Builds = []string{buildcast.OperationsBuild} })
	if _, _, err := s.CreateBuild(t.Context(), store.NewBuild{ID: "p1", Project: "blue"}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // in each of the ways in which a store appends
		add(t, s, "early", many(2)...)
		add(t, s, "b1", many(3)...)
		add(t, s, "b2", many(3)...)
		add(t, s, "p1", many(1)...)
		add(t, s, buildcast.OperationsBuild, many(1)...)
	}
	wantPlaces(t, "all", claimFor(t, s, "n", "all"), "b1:1", "b2:1", "early:3", "p1:1")
	wantPlaces(t, "one", claimFor(t, s, "n", "one"), "b1:1")
	wantPlaces(t, "blue", claimFor(t, s, "n", "blue"), "p1:1")
	wantPlaces(t, "off", claimFor(t, s, "n", "off"))
	wantPlaces(t, "operations", claimFor(t, s, "n", "operations"), "_operations:1")
	if _, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: "x1", Events: many(1)}, {BuildID: "x2", Events: many(1)}, {BuildID: "x1", Events: many(1)}}); err != nil {
		t.Fatal(err)
	}
	wantPlaces(t, "several at once", claimFor(t, s, "n", "all"), "x1:1", "x2:1")
}

func testKeyMakesNoCursor(t *testing.T, s store.Store) {
	add(t, s, "b1", keyed("k"))
	endpoint(t, s, "all")
	add(t, s, "b1", keyed("k"))
	wantPlaces(t, "nothing is new", claimFor(t, s, "n", "all"))
}

func testClaimCursors(t *testing.T, s store.Store) {
	endpoint(t, s, "e")
	endpoint(t, s, "other")
	for i := range 5 {
		add(t, s, fmt.Sprintf("b%d", i), many(1)...)
	}
	now := time.Now().Add(time.Second)
	claimed := func(owner string, builds []string, at time.Time, limit int) []store.Cursor {
		t.Helper()
		got, err := s.ClaimCursors(t.Context(), owner, "e", builds, at, at.Add(minute), limit)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := claimed("n1", nil, now.Add(-time.Hour), 10); len(got) > 0 {
		t.Errorf("cursors that are not due yet: %v", got)
	}
	wantPlaces(t, "by build", claimed("n1", []string{"b3", "b9"}, now, 10), "b3:1")
	wantPlaces(t, "of no builds", claimed("n1", []string{}, now, 10))
	if got := claimed("n1", nil, now, 2); len(got) != 2 {
		t.Errorf("%d with a limit of 2", len(got))
	}
	rest := claimed("n2", nil, now, 10)
	if len(rest) != 2 {
		t.Errorf("%d are left for another", len(rest))
	}
	if got := claimed("n3", nil, now.Add(minute/2), 10); len(got) > 0 {
		t.Errorf("leased ones: %v", got)
	}
	if err := s.RenewCursors(t.Context(), "n2", now, now.Add(2*minute)); err != nil {
		t.Fatal(err)
	}
	if got := claimed("n3", nil, now.Add(minute+time.Second), 10); len(got) != 3 {
		t.Errorf("after the end of the leases that were not renewed: %v", got)
	}
	if m := move(t, s, "n1", store.Move{Cursor: store.Cursor{EndpointID: "e", BuildID: "b3", Next: 2, Generation: 1}}); m.Held {
		t.Error("a lost cursor was moved")
	}
	if err := s.ReleaseCursors(t.Context(), "n2"); err != nil {
		t.Fatal(err)
	}
	if got := claimed("n4", nil, now.Add(minute+time.Second), 10); len(got) != 2 || got[0].Generation <= rest[0].Generation {
		t.Errorf("released: %v, before %v", got, rest)
	}
	end := now.Add(minute + time.Second).Add(minute) // of n3's leases and n4's
	if err := errors.Join(s.RenewCursors(t.Context(), "n3", now, now.Add(time.Hour), now, end), s.RenewCursors(t.Context(), "n4", end, now.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	if got := claimed("n5", nil, end.Add(time.Second), 10); len(got) != 5 {
		t.Errorf("after the end of leases that were not to be renewed, or had ended: %v", got)
	}
}

func testClaimLongestDue(t *testing.T, s store.Store) {
	endpoint(t, s, "e")
	for _, id := range []string{"b1", "b2", "b3"} {
		add(t, s, id, many(1)...)
	}
	for i, c := range claimFor(t, s, "n", "e") {
		due := time.Now().Add(-time.Duration(i) * time.Hour)
		move(t, s, "n", store.Move{Cursor: c, Leave: &due})
	}
	var order []string
	for range 3 {
		got, err := s.ClaimCursors(t.Context(), "n", "e", nil, time.Now(), time.Now().Add(minute), 1)
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		order = append(order, got[0].BuildID)
	}
	if !slices.Equal(order, []string{"b3", "b2", "b1"}) {
		t.Errorf("%v", order)
	}
}

func testMoveCursors(t *testing.T, s store.Store) {
	endpoint(t, s, "e")
	add(t, s, "b1", many(5)...)
	c := claimFor(t, s, "n", "e")[0]
	c.Next = 3
	if m := move(t, s, "n", store.Move{Cursor: c}); !m.Held || m.Parked {
		t.Errorf("%+v", m)
	}
	if m := move(t, s, "else", store.Move{Cursor: c}); m.Held {
		t.Error("somebody else moved it")
	}
	if m := move(t, s, "n", store.Move{Cursor: c, Park: true}); !m.Held || m.Parked {
		t.Errorf("parked before the end: %+v", m)
	}
	later := time.Now().Add(time.Hour)
	if m := move(t, s, "n", store.Move{Cursor: c, Leave: &later}); m.Held || m.Parked {
		t.Errorf("%+v", m)
	}
	wantPlaces(t, "left until later", claimFor(t, s, "n", "e"))
	got, err := s.ClaimCursors(t.Context(), "n", "e", nil, later, later.Add(minute), 1)
	if err != nil {
		t.Fatal(err)
	}
	wantPlaces(t, "due", got, "b1:3")
	if m := move(t, s, "n", store.Move{Cursor: c}); m.Held {
		t.Error("moved under the claim before")
	}
	got[0].Next = 6
	if m := move(t, s, "n", store.Move{Cursor: got[0], Park: true}); m.Held || !m.Parked {
		t.Errorf("%+v", m)
	}
	if m := move(t, s, "n", store.Move{Cursor: got[0]}); m.Held {
		t.Error("a parked cursor was moved")
	}
	add(t, s, "b1", many(1)...)
	again := claimFor(t, s, "n", "e")
	wantPlaces(t, "made again", again, "b1:6")
	if m := move(t, s, "n", store.Move{Cursor: got[0]}); m.Held {
		t.Error("moved by the holder of the cursor that was parked before")
	}
}

func testRewind(t *testing.T, s store.Store) {
	endpoint(t, s, "e")
	add(t, s, "b1", many(5)...)
	held := claimFor(t, s, "n", "e")[0]
	rewind := func(endpointID, build string, next int64) error {
		return s.Rewind(t.Context(), endpointID, build, next)
	}
	if err := rewind("e", "b1", 2); err != nil {
		t.Fatal(err)
	}
	if m := move(t, s, "n", store.Move{Cursor: held}); m.Held {
		t.Error("its holder still has it")
	}
	c := claimFor(t, s, "n", "e")
	wantPlaces(t, "rewound", c, "b1:2")
	c[0].Next = 6
	move(t, s, "n", store.Move{Cursor: c[0], Park: true})
	if err := rewind("e", "b1", 4); err != nil {
		t.Fatal(err)
	}
	wantPlaces(t, "made", claimFor(t, s, "n", "e"), "b1:4")
	for _, err := range []error{rewind("e", "b2", 1), rewind("x", "b1", 1)} {
		wantCode(t, err, buildcast.NotFound)
	}
}

// testParkAmongAppends parks cursors while events are appended: none is missed.
func testParkAmongAppends(t *testing.T, s store.Store) {
	const builds, appends = 4, 60
	endpoint(t, s, "e")
	var appending, all errgroup.Group
	for b := range builds {
		appending.Go(func() error {
			for range appends {
				if _, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: fmt.Sprintf("b%d", b), Events: many(1)}}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	done := make(chan struct{})
	seen := make([][]int64, 2)
	for i := range 2 {
		all.Go(func() error {
			owner := fmt.Sprintf("n%d", i)
			for last := false; ; {
				select {
				case <-done:
					last = true
				default:
				}
				n, err := deliverAll(t, s, owner, &seen[i])
				if err != nil || last && n == 0 {
					return err
				}
			}
		})
	}
	if err := appending.Wait(); err != nil {
		t.Fatal(err)
	}
	close(done)
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := len(seen[0]) + len(seen[1]); n != builds*appends {
		t.Errorf("%d of %d events were delivered", n, builds*appends)
	}
	if w, err := s.Waiting(t.Context()); err != nil || len(w) != 0 {
		t.Errorf("%v are left, %v", w, err)
	}
}

// deliverAll delivers the events that are due and parks the cursors.
func deliverAll(t *testing.T, s store.Store, owner string, seen *[]int64) (n int, err error) {
	now := time.Now()
	cursors, err := s.ClaimCursors(t.Context(), owner, "e", nil, now, now.Add(minute), 10)
	if err != nil {
		return 0, err
	}
	for _, c := range cursors {
		for held := true; held; {
			events, err := s.ReadEvents(t.Context(), c.BuildID, c.Next-1, 100, 1e6)
			if err != nil {
				return n, err
			}
			for i := range events {
				*seen = append(*seen, events[i].ID)
			}
			n += len(events)
			c.Next += int64(len(events))
			moved, err := s.MoveCursors(t.Context(), owner, []store.Move{{Cursor: c, Park: true}})
			if err != nil {
				return n, err
			}
			held = moved[0].Held
		}
	}
	return n + len(cursors), nil
}
