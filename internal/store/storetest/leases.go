package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// over is the ttl of a lease that ends at once.
const over = 0

func ids(leases []store.Lease) []string {
	var ids []string
	for _, l := range leases {
		ids = append(ids, l.BuildID)
	}
	return ids
}

func testClaim(t *testing.T, s store.Store) {
	create(t, s, store.NewBuild{ID: "external"})
	planned(t, s, "done", "b", "a")
	add(t, s, "done", event(buildcast.BuildCancelled, `{}`))
	leases := claim(t, s, "one", time.Hour, 10)
	want := newestFirst(t, s, []string{"a", "b"})
	slices.Reverse(want)
	if !slices.Equal(ids(leases), want) {
		t.Errorf("claimed %v, want %v", ids(leases), want)
	}
	for _, l := range leases {
		if l.Owner != "one" || l.Generation != 1 {
			t.Errorf("the first lease: %+v", l)
		}
	}
	for _, owner := range []string{"one", "two"} { // it is not over for its owner either
		if leases := claim(t, s, owner, time.Hour, 10); len(leases) != 0 {
			t.Errorf("%s claims what is leased: %+v", owner, leases)
		}
	}
}

func testClaimLimit(t *testing.T, s store.Store) {
	var all []string
	for i := range 30 {
		all = append(all, fmt.Sprintf("b%02d", i))
		planned(t, s, all[i])
	}
	all = newestFirst(t, s, all)
	slices.Reverse(all)
	if leases := claim(t, s, "one", time.Hour, 0); len(leases) != 0 {
		t.Errorf("claimed %v, limit 0", ids(leases))
	}
	for _, limit := range []int{1, 1, 3, 5, 19, 30} {
		leases := claim(t, s, "one", time.Hour, limit)
		n := min(limit, len(all))
		if !slices.Equal(ids(leases), all[:n]) {
			t.Fatalf("limit %d: claimed %v, want %v", limit, ids(leases), all[:n])
		}
		all = all[n:]
	}
}

func testClaimExcept(t *testing.T, s store.Store) {
	planned(t, s, "a", "b", "c")
	if leases := claim(t, s, "one", over, 10, "a", "c", "unknown"); !slices.Equal(ids(leases), []string{"b"}) {
		t.Errorf("claimed %v", ids(leases))
	}
	if leases := claim(t, s, "one", over, 10, "a", "b", "c"); len(leases) != 0 {
		t.Errorf("claimed %v", ids(leases))
	}
}

func testClaimTwoOwners(t *testing.T, s store.Store) {
	planned(t, s, "b")
	for generation := range int64(5) {
		owner := []string{"one", "two"}[generation%2]
		leases := claim(t, s, owner, over, 1)
		want := []store.Lease{{BuildID: "b", Owner: owner, Generation: generation + 1}}
		if !slices.Equal(leases, want) {
			t.Errorf("claimed %+v, want %+v", leases, want)
		}
	}
	held := claim(t, s, "two", time.Hour, 1)
	if len(held) != 1 {
		t.Fatalf("claimed %+v", held)
	}
	if leases := claim(t, s, "one", time.Hour, 1); len(leases) != 0 {
		t.Errorf("claimed from its owner: %+v", leases)
	}
	add(t, s, "b", event(buildcast.BuildFailed, `{}`))
	if err := s.ReleaseLeases(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	if leases := claim(t, s, "one", time.Hour, 1); len(leases) != 0 {
		t.Errorf("claimed a finished build: %+v", leases)
	}
}

func testRenew(t *testing.T, s store.Store) {
	planned(t, s, "b")
	first := claim(t, s, "one", over, 1)[0]
	if err := s.RenewLease(t.Context(), first, time.Hour); err != nil { // it has ended
		t.Fatal(err)
	}
	if leases := claim(t, s, "two", time.Hour, 1); len(leases) != 0 {
		t.Fatalf("claimed what was renewed: %+v", leases)
	}
	if err := s.RenewLease(t.Context(), first, over); err != nil { // the ttl is from now, and may shorten it
		t.Fatal(err)
	}
	second := claim(t, s, "two", time.Hour, 1)[0]
	wantCode(t, s.RenewLease(t.Context(), first, time.Hour), buildcast.Fenced)
	if err := s.RenewLease(t.Context(), second, time.Hour); err != nil {
		t.Fatal(err)
	}
	never := store.Lease{BuildID: "b", Owner: "two", Generation: second.Generation + 1}
	wantCode(t, s.RenewLease(t.Context(), never, time.Hour), buildcast.Fenced)
	gone := store.Lease{BuildID: "unknown", Owner: "one", Generation: 1}
	wantCode(t, s.RenewLease(t.Context(), gone, time.Hour), buildcast.NotFound)
	// A refused renewal has not touched the lease.
	if err := s.RenewLease(t.Context(), second, time.Hour); err != nil {
		t.Fatal(err)
	}
	if leases := claim(t, s, "one", time.Hour, 1); len(leases) != 0 {
		t.Errorf("claimed from its owner: %+v", leases)
	}
}

func testRelease(t *testing.T, s store.Store) {
	planned(t, s, "a", "b", "c")
	mine := claim(t, s, "one", time.Hour, 2)
	others := claim(t, s, "two", time.Hour, 1)
	if err := s.ReleaseLeases(t.Context(), "nobody"); err != nil {
		t.Fatal(err)
	}
	if leases := claim(t, s, "three", time.Hour, 10); len(leases) != 0 {
		t.Fatalf("released by nobody, claimed %+v", leases)
	}
	if err := s.ReleaseLeases(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	// After a release, the owner can renew the lease until somebody claims the build.
	if err := s.RenewLease(t.Context(), mine[0], over); err != nil {
		t.Error(err)
	}
	leases := claim(t, s, "three", time.Hour, 10)
	if !slices.Equal(ids(leases), ids(mine)) {
		t.Fatalf("claimed %v, want %v", ids(leases), ids(mine))
	}
	for _, l := range leases {
		if l.Generation != 2 {
			t.Errorf("the generation of %+v, want 2", l)
		}
	}
	if err := s.RenewLease(t.Context(), others[0], time.Hour); err != nil {
		t.Error(err)
	}
	wantCode(t, s.RenewLease(t.Context(), mine[0], time.Hour), buildcast.Fenced)
}
