package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
)

// Nothing is held back: each event is there before the next one is sent, and the
// stream's end is a valid end of gzip.
func TestSSEGzip(t *testing.T) {
	for _, tt := range []struct {
		path, id string // id with %d for the event's
		accept   string
	}{
		{"/events/b1", "%d", "*/*"},
		{"/api/builds/b1/events", "%d", "text/event-stream"},
		{"/events?build=b0&build=b1", "b0:1,b1:%d", "*/*"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			h := newHarness(t)
			h.append("b0", buildcast.BuildCompleted)
			const long = 500
			h.append("b1", strings.Fields(strings.Repeat("task_progress ", long))...)
			last := fmt.Sprintf(tt.id, long-1)
			s := h.openGzip(t, tt.path, "Accept", tt.accept, "Last-Event-ID", last)
			s.block()
			for i := range 5 {
				if got := s.ids(1)[0]; got != fmt.Sprintf(tt.id, long+i) {
					t.Fatalf("event %s after %s", got, last)
				} else {
					last = got
				}
				h.append("b1", "task_progress")
			}
			h.append("b1", buildcast.BuildCompleted)
			s.ids(2)
			if end := s.block(); !strings.HasPrefix(end, "event: end") {
				t.Errorf("the end is %q", end)
			}
			if _, err := s.r.ReadByte(); err != io.EOF {
				t.Errorf("after the end: %v, want a gzip stream that is whole", err)
			}
		})
	}
}

// A long log comes as large frames, which are the same ones compressed.
func TestSSEGzipIsThePlainStream(t *testing.T) {
	h := newHarness(t)
	lines := strings.Repeat(`{"type":"build_log","data":{"line":"npm WARN deprecated a package that nobody knows"}}`+"\n", 12_000)
	h.post("/api/builds/b1/events", lines+`{"type":"build_completed"}`, "Content-Type", ndjsonBody).want(http.StatusCreated)
	read := func(s *sseStream) string {
		s.block() // the pause is each stream's own
		all, err := io.ReadAll(s.r)
		if err != nil {
			t.Fatal(err)
		}
		return string(all)
	}
	plain := h.openSSE(t, "/events/b1", "Accept-Encoding", "identity")
	if got := plain.resp.Header.Get("Content-Encoding"); got != "" {
		t.Errorf("encoded as %q", got)
	}
	if got := plain.resp.Header.Get("Vary"); got != "Accept-Encoding" {
		t.Errorf("Vary: %q", got)
	}
	want := read(plain)
	if got := read(h.openGzip(t, "/events/b1")); got != want {
		t.Errorf("%d bytes compressed, %d plain: not the same", len(got), len(want))
	}
	if n := strings.Count(want, "\nid: "); n != 12_002 { // begin has one too
		t.Errorf("%d events", n-1)
	}
}

func TestSSEWithoutEvents(t *testing.T) {
	h := newHarness(t)
	h.append("b1", buildcast.BuildCompleted)
	a := h.get("/events/b1?lastEventId=1", "Accept-Encoding", "gzip").want(http.StatusNoContent)
	if a.Header.Get("Content-Encoding") != "" || len(a.Body) > 0 {
		t.Errorf("204 with %v and %q", a.Header, a.Body)
	}
	h.get("/events/b1?lastEventId=9", "Accept-Encoding", "gzip").want(http.StatusConflict).problem(buildcast.CursorAhead, "lastEventId")
}

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "deflate, GZIP;q=0.5, br": true, "br;q=1.0, gzip; q=0.001": true,
		"gzip;q=0": false, "gzip; q=0.000": false, "identity": false, "x-gzip-like": false, "br,zstd": false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/events/b1", nil)
		r.Header.Set("Accept-Encoding", header)
		if got := acceptsGzip(r); got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
}
