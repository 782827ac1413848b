package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/live"
)

func (h *harness) cut(id string, first int64) {
	h.t.Helper()
	if err := h.log.Truncate(h.t.Context(), id, first); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) remove(id string) {
	h.t.Helper()
	h.do("DELETE", "/api/builds/"+id, "").want(http.StatusNoContent)
}

// A build is deleted and its id used again: polls and streams show the new log, and
// tell cursors in the old one that their place is gone.
func TestADeletedLogIsNotShownAgain(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "a", "b", buildcast.BuildCompleted)
	waiting := h.openSSE(t, "/events?build=b1&build=other", "Last-Event-ID", "b1:3,other:0")
	h.remove("b1")
	if got := string(h.get(eventsPath).want(200).Body); got != `{"events":[],"firstEventId":4,"lastEventId":3,"hasMore":false}` {
		t.Errorf("a deleted build: %s", got)
	}
	early := h.openSSE(t, "/events/b1")
	early.block()
	if got := early.block(); got != `event: begin`+"\n"+`id: 3`+"\n"+`data: {"buildId":"b1","after":3,"firstEventId":4,"lastEventId":3,"status":null}` {
		t.Errorf("a stream of a deleted build begins with %s", got)
	}
	h.append("b1", "c")
	if got := summary(decode[page](h.get(eventsPath).want(200))); got != "[4] 4 false" {
		t.Errorf("the new log: %s", got)
	}
	if got := fmt.Sprint(early.ids(1), h.openSSE(t, "/events/b1").ids(1), h.openSSE(t, "/events/b1?lastEventId=3").ids(1)); got != "[4] [4] [4]" {
		t.Errorf("streams: %s", got)
	}
	h.append("other", "x")
	if got := fmt.Sprint(waiting.ids(1)); got != "[b1:3,other:1]" {
		t.Errorf("a stream that has told the old build's end: %s", got)
	}
	for _, path := range []string{eventsPath + "?lastEventId=2", eventsPath + "?lastEventId=1&wait=10s", "/events/b1?lastEventId=2", "/events?build=b1&lastEventId=b1:2"} {
		p := h.get(path).want(http.StatusGone).problem(buildcast.CursorGone, "lastEventId")
		if p.FirstEventID == nil || *p.FirstEventID != 4 || *p.LastEventID != 4 {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

// A stream whose place is cut off says so, and ends.
func TestAStreamThatLosesItsPlaceSaysSo(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "a", "b", "c")
	s := &sse{problem: problem.Of}
	err := func() error { _, err := buildcast.Start{After: 1}.Within(3, 3); return err }()
	if got := string(s.problemFrame(err)); !strings.HasPrefix(got, "event: problem\ndata: {") || !strings.Contains(got, `"status":410`) ||
		!strings.Contains(got, `"firstEventId":3`) || !strings.Contains(got, `"lastEventId":3`) || !strings.HasSuffix(got, "}\n\n") {
		t.Errorf("got %s", got)
	}
	// The stream is open, and its next read finds the log cut.
	h.store.fail(nil, buildcast.Errorf(buildcast.StoreUnavailable, "away"))
	h.store.boundsStay = true
	open := h.openSSE(t, "/events/b1?lastEventId=1")
	open.block()
	if begin := open.block(); !strings.Contains(begin, `"after":1,"firstEventId":1,"lastEventId":3`) {
		t.Errorf("it begins with %s", begin)
	}
	h.cut("b1", 3)
	h.store.fail(nil, nil)
	if got := open.block(); !strings.HasPrefix(got, "event: problem\ndata: {") || !strings.Contains(got, `"code":"cursor_gone"`) || open.block() != "" {
		t.Errorf("got %s", got)
	}
}

func TestWhereAStreamBegins(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "a", "b", "c")
	for _, tt := range []struct{ path, header, begin, first string }{
		{"/events/b1", "", `"after":0`, "1"},
		{"/events/b1?tail=1", "", `"after":2`, "3"},
		{"/events/b1?tail=9", "", `"after":0`, "1"},
		{"/events/b1?tail=1", "1", `"after":1`, "2"},
		{"/events/b1?from=latest", "2", `"after":2`, "3"},
		{"/events?build=b1&tail=2", "", `"after":1`, "b1:2"},
		{"/events?build=b1&from=latest", "b1:1", `"after":1`, "b1:2"},
	} {
		headers := []string{}
		if tt.header != "" {
			headers = append(headers, "Last-Event-ID", tt.header)
		}
		s := h.openSSE(t, tt.path, headers...)
		s.block()
		if begin := s.block(); !strings.Contains(begin, tt.begin+`,"firstEventId":1,"lastEventId":3,"status":{"buildId":"b1"`) {
			t.Errorf("%s with %q begins with %s", tt.path, tt.header, begin)
		}
		if got := s.ids(1)[0]; got != tt.first {
			t.Errorf("%s with %q: the first event is %s, want %s", tt.path, tt.header, got, tt.first)
		}
	}
	latest := h.openSSE(t, "/events/b1?from=latest")
	latest.block()
	if begin := latest.block(); !strings.HasPrefix(begin, "event: begin\nid: 3\n") {
		t.Errorf("latest begins with %s", begin)
	}
	h.append("b1", "d")
	if got := latest.ids(1)[0]; got != "4" {
		t.Errorf("latest: the first event is %s", got)
	}
	for _, query := range []string{"lastEventId=1&tail=1", "from=latest&tail=1", "last_event_id=1&from=latest", "tail=0", "tail=1001", "from=now"} {
		h.get("/events/b1?" + query).want(http.StatusBadRequest)
		h.get("/events?build=b1&" + query).want(http.StatusBadRequest)
	}
}

// countingHub counts the cursors that are made.
type countingHub struct {
	Hub
	watches *int
}

func (c countingHub) WatchFrom(id string, start buildcast.Start, wake func()) *live.Cursor {
	*c.watches++
	return c.Hub.WatchFrom(id, start, wake)
}

// HEAD asks for a stream's headers only: it ends at once and holds no cursor.
func TestHeadOfAStreamEndsAtOnce(t *testing.T) {
	watches := 0
	h := newHarness(t, func(c *Config) { c.Hub = countingHub{c.Hub, &watches} })
	h.append("b1", "a")
	for _, path := range []string{"/events/b1", "/events?build=b1&build=b2", eventsPath, eventsPath + "?lastEventId=1&wait=60s"} {
		for _, accept := range []string{"text/event-stream", "*/*"} {
			a := h.do("HEAD", path, "", "Accept", accept).want(http.StatusOK)
			want := "text/event-stream"
			if strings.HasPrefix(path, "/api") && accept == "*/*" {
				want = jsonBody
			}
			if got := a.Header.Get("Content-Type"); got != want {
				t.Errorf("%s: content type %q", path, got)
			}
		}
	}
	if watches > 0 {
		t.Errorf("%d cursors", watches)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, h.url()+"/events/b1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}
