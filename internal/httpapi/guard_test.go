package httpapi

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/auth"
	"github.com/buildcast/buildcast/internal/store"
)

const testKey = "0123456789abcdef"

// Where there are keys, these are what can be had without one, and nothing else.
func TestWhatIsOpenWithoutAKey(t *testing.T) {
	guard, err := auth.New(auth.Config{Keys: []string{testKey}})
	if err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, func(c *Config) { c.Guard = guard })
	h.post("/api/builds/b1/events", `{"type":"build_completed"}`, "X-API-Key", testKey).want(http.StatusCreated)
	var paths struct {
		Paths map[string]map[string]any
	}
	asJSON(t, h.get("/openapi.json").Body, &paths)
	var open []string
	for path, item := range paths.Paths {
		for method := range item {
			given := strings.NewReplacer("builds/{id}", "builds/b1", "events/{id}", "events/b1", "endpoints/{id}", "endpoints/e1").Replace(path)
			if path == "/events" {
				given += "?build=b1&lastEventId=b1:1"
			}
			if h.do(strings.ToUpper(method), given, "").Status != http.StatusUnauthorized {
				open = append(open, method+" "+path)
			}
		}
	}
	slices.Sort(open)
	want := []string{
		"get /api/builds", "get /api/builds/{id}", "get /api/builds/{id}/events", "get /api/builds/{id}/status", "get /api/server",
		"get /events", "get /events/{id}", "get /healthz", "get /readyz",
	}
	if !slices.Equal(open, want) {
		t.Errorf("open: %q, want %q", open, want)
	}
	h.do("HEAD", "/api/webhooks/endpoints", "").want(http.StatusUnauthorized)
}

// buildcast's own log is written by buildcast alone, read with a key, and no
// build of anybody's.
func TestOperationsBuild(t *testing.T) {
	guard, err := auth.New(auth.Config{Keys: []string{testKey}})
	if err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, func(c *Config) { c.Guard = guard })
	h.store.add(store.NewBuild{ID: buildcast.OperationsBuild}).append(buildcast.NewEvent{Type: buildcast.BuildCompleted})
	const path = "/api/builds/" + buildcast.OperationsBuild
	withKey := []string{"X-API-Key", testKey}
	for _, tt := range []struct{ method, path, body, field string }{
		{"POST", path + "/events", `{"type":"x"}`, "buildId"},
		{"POST", path + "/events", `[{"type":"x"}]`, "buildId"},
		{"POST", path + "/cancel", "", "buildId"},
		{"DELETE", path, "", "buildId"},
		{"POST", "/api/builds", `{"id":"_operations"}`, "id"},
	} {
		p := h.do(tt.method, tt.path, tt.body, withKey...).want(http.StatusForbidden).problem(buildcast.PermissionDenied, tt.field)
		if !strings.Contains(p.Detail, "only buildcast writes") {
			t.Errorf("%s %s: %s", tt.method, tt.path, p.Detail)
		}
	}
	h.post(path+"/events", `{"type":"x"}`+"\n", append(withKey, "Content-Type", ndjsonBody)...).want(http.StatusForbidden)
	if got := len(h.store.events(buildcast.OperationsBuild)); got != 1 {
		t.Errorf("%d events", got)
	}
	for given, status := range map[string]int{
		path: 200, path + "/status": 200, path + "/events": 200,
		"/events/_operations?lastEventId=1":                                  204,
		"/events?build=b1&build=_operations&lastEventId=_operations:1,b1:99": 409, // read as far as b1's log
	} {
		h.get(given).want(http.StatusUnauthorized).problem(buildcast.Unauthenticated, "")
		h.get(given, withKey...).want(status)
	}
	h.get(path+"/events", "Accept", "text/event-stream").want(http.StatusUnauthorized)
	if got := decode[builds](h.get("/api/builds", withKey...).want(http.StatusOK)); len(got.Builds) != 0 {
		t.Errorf("listed: %+v", got)
	}
}
