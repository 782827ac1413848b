package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
)

// Attack: an event of a user takes the key of an event that buildcast reports
// itself, which is then never stored.
func TestReservedKeysAreRefused(t *testing.T) {
	h := newHarness(t)
	for _, key := range []string{cancelKey, buildcast.ReservedKeyPrefix, `build\u0063ast:x`} {
		event := fmt.Sprintf(`{"type":"note","key":"%s"}`, key)
		for _, body := range []string{event, "[" + event + "]"} {
			p := h.post(eventsPath, body).want(http.StatusBadRequest)
			p.problem(buildcast.InvalidArgument, map[bool]string{true: "[0].key", false: "key"}[body[0] == '['])
			if !strings.Contains(string(p.Body), buildcast.ReservedKeyPrefix) {
				t.Errorf("the prefix is not named: %s", p.Body)
			}
		}
		if a := h.stream("b1", event); a.Status != http.StatusBadRequest || !strings.Contains(string(a.Body), `"field":"key"`) {
			t.Errorf("a stream's answer is %d %s", a.Status, a.Body)
		}
	}
	if n := len(h.store.events("b1")); n > 0 {
		t.Errorf("%d events are stored", n)
	}
	h.post(eventsPath, `{"type":"note","key":"buildcast"}`).want(http.StatusCreated)
}

// The key that cancels had before keys were reserved is anybody's.
func TestUsersKeyDoesNotKeepABuildFromBeingCancelled(t *testing.T) {
	h := newHarness(t)
	h.post(eventsPath, `[{"type":"note","key":"cancelled"},{"type":"note","key":"build_cancelled"}]`).want(http.StatusCreated)
	s := decode[buildcast.Status](h.post("/api/builds/b1/cancel", "").want(http.StatusAccepted))
	if s.Phase != buildcast.Cancelled {
		t.Errorf("the cancel answers 202, and the build is %s", s.Phase)
	}
}

// `buildcast build` uses the plan's name as the project: each name of a plan is one.
func TestPlansNameIsAProject(t *testing.T) {
	h := newHarness(t)
	name := strings.Repeat("n", 200)
	h.post("/api/builds", `{"project":"`+name+`","plan":{"name":"`+name+`","build":"true"}}`).want(http.StatusCreated)
}
