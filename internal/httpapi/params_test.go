package httpapi

import (
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
)

// A misspelt parameter is an error that names it, for every operation.
func TestUnknownQueryParameters(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "a", "b")
	for path, known := range map[string]string{
		"/api/builds":                     "status",
		"/api/builds/b1":                  "no query parameters",
		"/api/builds/b1/status":           "no query parameters",
		"/api/builds/b1/events":           "lastEventId",
		"/events/b1":                      "lastEventId",
		"/events?build=b1":                "build",
		"/healthz":                        "no query parameters",
		"/readyz":                         "no query parameters",
		"/api/builds/b1/events?limit=1&x": "wait",
	} {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		p := h.get(path+sep+"afterEventId=1").want(400).problem(buildcast.InvalidArgument, "afterEventId")
		if !strings.Contains(p.Detail, "afterEventId") || !strings.Contains(p.Detail, known) {
			t.Errorf("%s: %s", path, p.Detail)
		}
	}
	h.post("/api/builds/b1/cancel?force=1", "").want(400).problem(buildcast.InvalidArgument, "force")
	h.do("DELETE", "/api/builds/b1?force=1", "").want(400).problem(buildcast.InvalidArgument, "force")
	h.post(eventsPath+"?key=secret", `{"type":"x"}`).want(400).problem(buildcast.InvalidArgument, "key")
	long := strings.Repeat("x", 5000)
	if a := h.get("/api/builds?" + long + "=1").want(400); len(a.Body) > 1000 {
		t.Errorf("the answer has %d bytes", len(a.Body))
	}
	h.get("/api/builds?%ff=1").want(400)
	h.get(eventsPath + "?last_event_id=1").want(200)
}

// A cursor that is sent twice is not the first of the two.
func TestQueryParametersThatAreSentTwice(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "a", "b")
	h.append("b2", "a")
	for path, field := range map[string]string{
		eventsPath + "?lastEventId=0&lastEventId=2":                   "lastEventId",
		"/events/b1?tail=1&tail=2":                                    "tail",
		"/events?build=b1&lastEventId=b1:1&build=b2&lastEventId=b2:1": "lastEventId",
		"/api/builds?q=a&q=b":                                         "q",
	} {
		h.get(path).want(400).problem(buildcast.InvalidArgument, field)
	}
	h.get("/events?build=b1&build=b2&lastEventId=b1:9,b2:9").want(409) // builds may be several
}
