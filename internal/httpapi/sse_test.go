package httpapi

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// sseStream is an open stream, read block by block.
type sseStream struct {
	t    *testing.T
	resp *http.Response
	r    *bufio.Reader
}

func (h *harness) openSSE(t *testing.T, path string, headers ...string) *sseStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &sseStream{t, resp, bufio.NewReader(resp.Body)}
}

// openGzip is openSSE for a client that undoes gzip itself.
func (h *harness) openGzip(t *testing.T, path string, headers ...string) *sseStream {
	t.Helper()
	s := h.openSSE(t, path, append(headers, "Accept-Encoding", "gzip")...)
	if got := s.resp.Header.Get("Content-Encoding"); got != "gzip" {
		t.Fatalf("%s: the answer is encoded as %q", path, got)
	}
	zipped, err := gzip.NewReader(s.resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	s.r = bufio.NewReader(zipped)
	return s
}

// block gives the next block without its empty line; "" at the end of the stream.
func (s *sseStream) block() string {
	s.t.Helper()
	var b strings.Builder
	for {
		line, err := s.r.ReadString('\n')
		if err != nil || line == "\n" {
			return strings.TrimSuffix(b.String(), "\n")
		}
		b.WriteString(line)
	}
}

// ids reads n event blocks and gives their ids.
func (s *sseStream) ids(n int) (ids []string) {
	s.t.Helper()
	for len(ids) < n {
		block := s.block()
		if block == "" {
			s.t.Fatalf("the stream ended after %v", ids)
		}
		if strings.HasPrefix(block, "retry:") || strings.HasPrefix(block, "event: begin\n") {
			continue
		}
		id, data, ok := strings.Cut(strings.TrimPrefix(block, "id: "), "\ndata: ")
		if !ok || !strings.HasPrefix(data, `{"id":`) || strings.Contains(block, "event:") {
			s.t.Fatalf("block %q", block)
		}
		ids = append(ids, id)
	}
	return ids
}

func TestSSE(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "a", "b", "c")
	s := h.openSSE(t, "/events/b1")
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no", "Content-Encoding": "",
	} {
		if got := s.resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if first := s.block(); !strings.HasPrefix(first, "retry: ") {
		t.Errorf("the stream begins with %q", first)
	}
	if got := fmt.Sprint(s.ids(3)); got != "[1 2 3]" {
		t.Errorf("got %s", got)
	}
	h.append("b1", "d", buildcast.BuildCompleted)
	if got := fmt.Sprint(s.ids(2)); got != "[4 5]" {
		t.Errorf("live: %s", got)
	}
	if end := s.block(); !strings.HasPrefix(end, "event: end\ndata: {\"buildId\":\"b1\"") || !strings.Contains(end, `"status":"completed"`) {
		t.Errorf("the end is %q", end)
	}
	if more := s.block(); more != "" {
		t.Errorf("after the end: %q", more)
	}
	h.get("/events/b1", "Last-Event-ID", "5").want(http.StatusNoContent)
}

func TestSSECursor(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "a", "b", "c")
	for _, tt := range []struct{ path, header, want string }{
		{"/events/b1", "", "1"},
		{"/events/b1?lastEventId=1", "", "2"},
		{"/events/b1?last_event_id=2", "", "3"},
		{"/events/b1?lastEventId=1", "2", "3"}, // the header is newer than the URL
		{"/api/builds/b1/events?lastEventId=1", "", "2"},
	} {
		headers := []string{"Accept", "text/event-stream"}
		if tt.header != "" {
			headers = append(headers, "Last-Event-ID", tt.header)
		}
		if got := h.openSSE(t, tt.path, headers...).ids(1)[0]; got != tt.want {
			t.Errorf("%s with %q begins at %s, want %s", tt.path, tt.header, got, tt.want)
		}
	}
}

func TestSSEErrors(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "a")
	if p := h.get("/events/b1?lastEventId=7").want(http.StatusConflict).problem(buildcast.CursorAhead, "lastEventId"); *p.LastEventID != 1 {
		t.Errorf("the log ends at %d", *p.LastEventID)
	}
	for _, path := range []string{"/events/a.b", "/events/b1?lastEventId=-1", "/events/b1?lastEventId=x", "/events", "/events?build=b1&build=b1", "/events?build=b1&lastEventId=7", "/events?build=b1&lastEventId=b2:1"} {
		if a := h.get(path); a.Status != http.StatusBadRequest {
			t.Errorf("%s gives %d", path, a.Status)
		}
	}
	if a := h.get("/events?build=" + strings.Repeat("b&build=", 30)); a.Status != http.StatusBadRequest {
		t.Errorf("31 builds give %d", a.Status)
	}
}

// Appends go on all the while, and readers join at any time: each sees 1, 2, 3, …
func TestSSEHasNoGapAtTheHandOver(t *testing.T) {
	h := newHarness(t)
	h.url()
	const events = 300
	var all sync.WaitGroup
	all.Go(func() {
		for range events {
			h.append("b1", "x")
		}
	})
	for range 10 {
		s := h.openSSE(t, "/events/b1")
		all.Go(func() {
			for i, id := range s.ids(events) {
				if id != fmt.Sprint(i+1) {
					t.Errorf("event %s at place %d", id, i+1)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestSSEOfSeveralBuilds(t *testing.T) {
	h := newHarness(t)
	h.append("a", "x", "x")
	s := h.openSSE(t, "/events?build=a&build=b")
	if got := fmt.Sprint(s.ids(2)); got != "[a:1,b:0 a:2,b:0]" {
		t.Errorf("got %s", got)
	}
	h.append("b", "x")
	if got := fmt.Sprint(s.ids(1)); got != "[a:2,b:1]" {
		t.Errorf("got %s", got)
	}
	again := h.openSSE(t, "/events?build=a&build=b", "Last-Event-ID", "a:1,b:1")
	if got := fmt.Sprint(again.ids(1)); got != "[a:2,b:1]" {
		t.Errorf("again: %s", got)
	}
	h.append("a", buildcast.BuildCompleted)
	s.ids(1)
	if end := s.block(); !strings.HasPrefix(end, "event: end") {
		t.Errorf("end of one: %q", end)
	}
	h.append("b", buildcast.BuildFailed)
	s.ids(1)
	if end := s.block(); !strings.HasPrefix(end, "event: end") || s.block() != "" {
		t.Errorf("end of all: %q", end)
	}
}

func TestSSEOutlivesAStoreThatIsAway(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "a")
	s := h.openSSE(t, "/events/b1")
	s.ids(1)
	// Another process appends while this one cannot read.
	h.store.fail(nil, buildcast.Errorf(buildcast.StoreUnavailable, "away"))
	if _, err := h.store.AppendEvents(t.Context(), []store.Append{{BuildID: "b1", Events: []buildcast.NewEvent{{Type: "b"}}}}); err != nil {
		t.Fatal(err)
	}
	h.store.fail(nil, nil)
	if got := fmt.Sprint(s.ids(1)); got != "[2]" {
		t.Errorf("got %s", got)
	}
}

func TestSSEEndsWhenTheServerStops(t *testing.T) {
	stopping, stop := context.WithCancel(t.Context())
	h := newHarness(t, func(c *Config) { c.Stopping = stopping })
	s := h.openSSE(t, "/events/b1") // no such build yet: it waits
	s.block()
	if begin := s.block(); !strings.HasPrefix(begin, "event: begin\n") {
		t.Errorf("it begins with %q", begin)
	}
	stop()
	if more := s.block(); more != "" {
		t.Errorf("got %q", more)
	}
}
