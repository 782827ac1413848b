// Package storetest is the suite that every store passes. Each case tests a sentence
// of the documentation of package store.
package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// Run runs the suite. open returns an empty store and closes it when the test ends.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s store.Store)
	}{
		{"append gives ids without gaps", testAppendIDs},
		{"append to a build that is not there", testAppendCreates},
		{"appends of one call are taken in order", testAppendSeveral},
		{"append of nothing", testAppendNothing},
		{"append folds", testAppendFolds},
		{"append after the end", testAppendAfterTheEnd},
		{"append at the limits", testAppendLimits},
		{"times to the millisecond", testTimes},
		{"data comes back as it was sent", testData},
		{"numbers at the limits", testNumbers},
		{"a read stops at its bytes", testReadMemory},
		{"keys again bring up no data", testKeysAgainMemory},
		{"a cancelled append", testAppendCancelled},
		{"key again in another call", testKeyAgain},
		{"key twice in one call", testKeyTwiceInOneCall},
		{"key of another build", testKeyOfAnotherBuild},
		{"fence", testFence},
		{"fence on a build that is gone", testFenceGone},
		{"read by cursor and limit", testReadCursor},
		{"read by bytes", testReadBytes},
		{"read a long log", testReadLong},
		{"statuses and bounds", testStatuses},
		{"create", testCreate},
		{"create again", testCreateAgain},
		{"create under a key", testCreateKey},
		{"create what an append has made", testCreateAfterAppend},
		{"plan comes back as it was", testPlan},
		{"options", testOptions},
		{"options of a deleted build", testOptionsDeleted},
		{"save a plan", testSavePlan},
		{"save a plan again", testSavePlanAgain},
		{"save a plan behind a fence", testSavePlanFenced},
		{"plans of several nodes", testConcurrentPlans},
		{"list pages", testListPages},
		{"list filters", testListFilters},
		{"list text", testListText},
		{"list while builds are made", testListGrows},
		{"list from nowhere", testListNowhere},
		{"delete", testDelete},
		{"delete leaves a tombstone", testTombstone},
		{"create under a deleted id", testCreateDeleted},
		{"fence on a build made again", testFenceMadeAgain},
		{"truncate", testTruncate},
		{"truncate in turn", testTruncateInTurn},
		{"keys of events that were cut off", testCutKeys},
		{"keys of events that were cut off, behind a fence", testCutKeysBehindAFence},
		{"purge in steps", testPurgeSteps},
		{"purge and deliveries", testPurgeDeliveries},
		{"cursors in a log that is cut", testCutCursors},
		{"claim", testClaim},
		{"claim with a limit", testClaimLimit},
		{"claim passes over", testClaimExcept},
		{"claim by two owners", testClaimTwoOwners},
		{"renew", testRenew},
		{"release", testRelease},
		{"32 appenders to one build", testConcurrentOne},
		{"32 appenders to several builds", testConcurrentSeveral},
		{"one key from many", testConcurrentKeys},
		{"one creation from many", testConcurrentCreate},
		{"claims from many", testConcurrentClaims},
		{"a takeover among appends", testConcurrentFence},
		{"deletes among appends", testConcurrentDelete},
		{"readers beside a writer", testConcurrentReaders},
		{"random calls against a model", testModel},
		{"endpoints", testEndpoints},
		{"a cancelled change of an endpoint", testEndpointCancelled},
		{"cursors are made where endpoints follow", testCursorsAreMade},
		{"a key that is stored makes no cursor", testKeyMakesNoCursor},
		{"claim cursors", testClaimCursors},
		{"claim the cursor that is longest due", testClaimLongestDue},
		{"move cursors", testMoveCursors},
		{"rewind", testRewind},
		{"park among appends", testParkAmongAppends},
		{"retry deliveries", testRetries},
		{"a delivery blocks its cursor", testBlock},
		{"recall deliveries", testRecall},
		{"redeliver", testRedeliver},
		{"list deliveries", testListDeliveries},
		{"prune deliveries and counts", testPrune},
		{"what waits", testWaiting},
		{"delete a build with deliveries", testDeleteDelivered},
		{"a call of a caller who has left", testContextEnded},
		{"texts that no database keeps", testUnusualTexts},
		{"ping and close", testClose},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Context() context.Context
}

// add appends events and returns the answer.
func add(t fataler, s store.Appender, build string, events ...buildcast.NewEvent) store.Appended {
	t.Helper()
	answers, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: build, Events: events}})
	if err != nil {
		t.Fatal(err)
	}
	if len(answers) != 1 || answers[0].Err != nil {
		t.Fatalf("append answers %+v", answers)
	}
	return answers[0]
}

// event returns a new event; the data is JSON.
func event(typ, data string) buildcast.NewEvent {
	return buildcast.NewEvent{Type: typ, Data: json.RawMessage(data)}
}

// keyed returns a new event with a key.
func keyed(key string) buildcast.NewEvent {
	return buildcast.NewEvent{Type: "step", Data: json.RawMessage(`{"by":"` + key + `"}`), Key: key}
}

// many returns n events.
func many(n int) []buildcast.NewEvent {
	events := make([]buildcast.NewEvent, n)
	for i := range events {
		events[i] = event("step", fmt.Sprintf(`{"n":%d}`, i+1))
	}
	return events
}

// log returns all events of a build.
func log(t fataler, s store.Reader, build string) []buildcast.Event {
	t.Helper()
	events, err := s.ReadEvents(t.Context(), build, 0, 1e6, 1e9)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// create creates the build, which must be new.
func create(t fataler, s store.Builds, b store.NewBuild) buildcast.Build {
	t.Helper()
	build, created, err := s.CreateBuild(t.Context(), b)
	if err != nil || !created {
		t.Fatalf("create %s: created %v, %v", b.ID, created, err)
	}
	return build
}

func get(t fataler, s store.Builds, id string) buildcast.Build {
	t.Helper()
	b, err := s.GetBuild(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// plan returns a small valid plan.
func plan() *buildcast.Plan { return &buildcast.Plan{Name: "site", Build: "make"} }

// planned creates builds that have a plan.
func planned(t fataler, s store.Builds, ids ...string) {
	t.Helper()
	for _, id := range ids {
		create(t, s, store.NewBuild{ID: id, Plan: plan()})
	}
}

func claim(t fataler, s store.Leases, owner string, ttl time.Duration, limit int, except ...string) []store.Lease {
	t.Helper()
	leases, err := s.ClaimBuilds(t.Context(), owner, ttl, limit, except)
	if err != nil {
		t.Fatal(err)
	}
	return leases
}

// wantCode fails unless err has the code.
func wantCode(t *testing.T, err error, code buildcast.Code) {
	t.Helper()
	if buildcast.CodeOf(err) != code {
		t.Errorf("error %v, want code %q", err, code)
	}
}

// wantIDs fails unless the events are those with the ids from first to last.
func wantIDs(t fataler, events []buildcast.Event, first, last int64) {
	t.Helper()
	if int64(len(events)) != last-first+1 {
		t.Fatalf("%d events, want %d to %d", len(events), first, last)
	}
	for i, e := range events {
		if e.ID != first+int64(i) {
			t.Fatalf("event %d in place of %d", e.ID, first+int64(i))
		}
	}
}

// diff compares what came out of a store: times as times, data byte by byte.
func diff(want, got any) string {
	return cmp.Diff(want, got, cmp.Comparer(buildcast.Time.Equal), cmp.Comparer(sameData), cmp.Comparer(sameError))
}

// bare returns the events without their data, as an append returns those of repeated
// keys.
func bare(events []buildcast.Event) []buildcast.Event {
	events = slices.Clone(events)
	for i := range events {
		events[i].Data = nil
	}
	return events
}

func sameData(a, b json.RawMessage) bool { return bytes.Equal(a, b) }

// sameError compares the refusal of an append by its code: its words are for people.
func sameError(a, b error) bool { return buildcast.CodeOf(a) == buildcast.CodeOf(b) }
