package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

func TestPoll(t *testing.T) {
	h := newHarness(t)
	h.post(eventsPath, `[{"type":"a","timestamp":"2026-11-23T07:14:31.123Z","data":{"x":"<&>"}},{"type":"b"},{"type":"c"}]`).want(201)
	body := string(h.get(eventsPath + "?limit=1").want(200).Body)
	if want := `{"events":[{"id":1,"buildId":"b1","type":"a","data":{"x":"<&>"},"progress":0,"timestamp":"2026-11-23T07:14:31.123Z"}],"firstEventId":1,"lastEventId":1,"hasMore":true}`; body != want {
		t.Errorf("got  %s\nwant %s", body, want)
	}
	for _, tt := range []struct {
		query string
		want  string // ids, lastEventId, hasMore
	}{
		{"", "[1 2 3] 3 false"},
		{"?lastEventId=0&limit=2", "[1 2] 2 true"},
		{"?lastEventId=1&limit=2", "[2 3] 3 false"},
		{"?lastEventId=2", "[3] 3 false"},
		{"?last_event_id=2", "[3] 3 false"},
		{"?lastEventId=1&last_event_id=2", "[2 3] 3 false"},
		{"?from=latest", "[] 3 false"},
		{"?tail=2", "[2 3] 3 false"},
		{"?tail=1000", "[1 2 3] 3 false"},
		{"?tail=3&limit=1", "[1] 1 true"},
		{"?lastEventId=3", "[] 3 false"},
		{"?lastEventId=&limit=&wait=", "[1 2 3] 3 false"},
		{"?wait=0", "[1 2 3] 3 false"},
		{"?limit=1000", "[1 2 3] 3 false"},
	} {
		if got := summary(decode[page](h.get(eventsPath + tt.query).want(200))); got != tt.want {
			t.Errorf("%s gives %s, want %s", tt.query, got, tt.want)
		}
	}
}

func summary(p page) string {
	ids := []int64{}
	for _, e := range p.Events {
		ids = append(ids, e.ID)
	}
	return fmt.Sprint(ids, p.LastEventID, p.HasMore)
}

func TestPollUnknownBuild(t *testing.T) {
	h := newHarness(t)
	if got := string(h.get("/api/builds/none/events").want(200).Body); got != `{"events":[],"firstEventId":1,"lastEventId":0,"hasMore":false}` {
		t.Errorf("got %s", got)
	}
}

// TestPollCursorAhead: a cursor of a log that is gone is told, and never
// answered with nothing.
func TestPollCursorAhead(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "a", "b")
	for path, last := range map[string]int64{
		eventsPath + "?lastEventId=3":             2,
		eventsPath + "?lastEventId=3&wait=60s":    2,
		"/api/builds/none/events?lastEventId=1":   0,
		eventsPath + "?lastEventId=" + "99999999": 2,
	} {
		p := h.get(path).want(http.StatusConflict).problem(buildcast.CursorAhead, "lastEventId")
		if p.LastEventID == nil || *p.LastEventID != last {
			t.Errorf("%s: problem %+v, want lastEventId %d", path, p, last)
		}
	}
}

func TestPollRefuses(t *testing.T) {
	h := newHarness(t)
	for query, field := range map[string]string{
		"lastEventId=-1": "lastEventId", "lastEventId=x": "lastEventId", "lastEventId=9223372036854775808": "lastEventId", "lastEventId=1.0": "lastEventId",
		"lastEventId=0x1": "lastEventId", "lastEventId=%00": "lastEventId", "last_event_id=-1": "last_event_id", "lastEventId=+1": "lastEventId",
		"limit=0": "limit", "limit=1001": "limit", "limit=-5": "limit", "limit=ten": "limit",
		"wait=61s": "wait", "wait=61": "wait", "wait=-1s": "wait", "wait=soon": "wait", "wait=9999999999999h": "wait", "wait=NaN": "wait", "wait=Inf": "wait",
		"lastEventId=%zz": "", "a;b": "",
		"from=first": "from", "tail=0": "tail", "tail=1001": "tail", "tail=-1": "tail",
		"lastEventId=1&from=latest": "from", "last_event_id=1&tail=2": "tail", "from=latest&tail=2": "tail",
	} {
		h.get(eventsPath+"?"+query).want(http.StatusBadRequest).problem(buildcast.InvalidArgument, field)
	}
	h.get("/api/builds/"+strings.Repeat("a", 27)+"/events").want(http.StatusBadRequest).problem(buildcast.InvalidArgument, "buildId")
	h.store.fail(nil, buildcast.Errorf(buildcast.StoreUnavailable, "away").After(time.Second))
	for _, query := range []string{"", "?wait=10s"} {
		if a := h.get(eventsPath + query).want(http.StatusServiceUnavailable); a.Header.Get("Retry-After") != "1" || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("headers %v", a.Header)
		}
	}
}

func TestPollCaching(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "a", "b", "c")
	full := h.get(eventsPath + "?lastEventId=1&limit=1").want(200)
	if got := h.get(eventsPath + "?limit=1").want(200).Header.Get("Cache-Control"); got != "private, no-cache" {
		t.Errorf("a page without a cursor, which a cut of the log changes, has Cache-Control %q", got)
	}
	if got := full.Header.Get("Cache-Control"); got != "private, max-age=3600, immutable" {
		t.Errorf("a full page has Cache-Control %q", got)
	}
	last := h.get(eventsPath).want(200)
	tag := last.Header.Get("ETag")
	if got := last.Header.Get("Cache-Control"); got != "private, no-cache" {
		t.Errorf("a page that may grow has Cache-Control %q", got)
	}
	for _, have := range []string{tag, strings.TrimPrefix(tag, "W/"), `"other", ` + tag, "*"} {
		if a := h.get(eventsPath, "If-None-Match", have).want(http.StatusNotModified); len(a.Body) > 0 || a.Header.Get("ETag") != tag {
			t.Errorf("304 with %v and %q", a.Header, a.Body)
		}
	}
	h.append("b1", buildcast.BuildCompleted)
	h.append("b1", "after_the_end") // stored after a terminal event all the same: the page is not immutable
	changed := h.get(eventsPath, "If-None-Match", tag).want(200)
	if got := changed.Header.Get("Cache-Control"); got != "private, no-cache" {
		t.Errorf("a finished build's last page has Cache-Control %q", got)
	}
	if same := h.get(eventsPath + "?lastEventId=1&limit=1").want(200); same.Header.Get("ETag") != full.Header.Get("ETag") || string(same.Body) != string(full.Body) {
		t.Errorf("a full page has changed from %s to %s", full.Body, same.Body)
	}
	if a := h.get(eventsPath+"?wait=1s", "If-None-Match", "*").want(200); a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("ETag") != "" {
		t.Errorf("a long poll has headers %v", a.Header)
	}
}

// TestPollLargeEvents: a page that is cut for its size says that there is more.
func TestPollLargeEvents(t *testing.T) {
	h := newHarness(t)
	large := `{"type":"x","data":"` + strings.Repeat("d", 60_000) + `"}`
	for range 100 {
		h.post(eventsPath, large).want(201)
	}
	seen, after := 0, int64(0)
	for more := true; more; {
		p := decode[page](h.get(fmt.Sprintf("%s?lastEventId=%d", eventsPath, after)).want(200))
		if len(p.Events) == 0 || p.Events[0].ID != after+1 {
			t.Fatalf("after %d comes %s", after, summary(p))
		}
		seen, after, more = seen+len(p.Events), p.LastEventID, p.HasMore
	}
	if seen != 100 {
		t.Errorf("%d events", seen)
	}
}

// longPoll polls in the background; the channel gives the answer.
func (h *harness) longPoll(ctx context.Context, path string) <-chan httpAnswer {
	done := make(chan httpAnswer, 1)
	go func() {
		w := httptest.NewRecorder()
		h.handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil).WithContext(ctx))
		done <- httpAnswer{h.t, w.Code, w.Header(), w.Body.Bytes()}
	}()
	return done
}

func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		h.append("b1", "a")
		start := time.Now()
		answer := h.longPoll(t.Context(), eventsPath+"?lastEventId=1&wait=25s")
		synctest.Wait() // it waits
		select {
		case a := <-answer:
			t.Fatalf("answered %s", a.Body)
		default:
		}
		h.append("b1", "b")
		if got := summary(decode[page](<-answer)); got != "[2] 2 false" {
			t.Errorf("got %s", got)
		}
		if waited := time.Since(start); waited > 0 {
			t.Errorf("an event took %v", waited)
		}
	})
}

func TestLongPollBeforeTheBuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		answer := h.longPoll(t.Context(), eventsPath+"?wait=25")
		synctest.Wait()
		h.post(eventsPath, `[{"type":"a"},{"type":"b"},{"type":"c"}]`).want(201)
		if got := summary(decode[page](<-answer)); got != "[1 2 3] 3 false" {
			t.Errorf("got %s", got)
		}
		answer = h.longPoll(t.Context(), eventsPath+"?wait=25&lastEventId=3&limit=2")
		synctest.Wait()
		h.post(eventsPath, `[{"type":"a"},{"type":"b"},{"type":"c"}]`).want(201)
		if got := summary(decode[page](<-answer)); got != "[4 5] 5 true" {
			t.Errorf("got %s", got)
		}
	})
}

func TestLongPollEndsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping, stop := context.WithCancel(t.Context())
		h := newHarness(t, func(c *Config) { c.Stopping = stopping })
		h.append("b1", "a")
		start := time.Now()
		if got := summary(decode[page](<-h.longPoll(t.Context(), eventsPath+"?lastEventId=1&wait=25s"))); got != "[] 1 false" || time.Since(start) != 25*time.Second {
			t.Errorf("got %s after %v", got, time.Since(start))
		}

		// A finished build has no more to wait for.
		h.append("b2", buildcast.BuildCompleted)
		start = time.Now()
		if got := summary(decode[page](<-h.longPoll(t.Context(), "/api/builds/b2/events?lastEventId=1&wait=25s"))); got != "[] 1 false" || time.Since(start) > 0 {
			t.Errorf("got %s after %v", got, time.Since(start))
		}

		// The client leaves.
		ctx, leave := context.WithCancel(t.Context())
		answer := h.longPoll(ctx, eventsPath+"?lastEventId=1&wait=25s")
		synctest.Wait()
		leave()
		<-answer
		if waited := time.Since(start); waited > 0 {
			t.Errorf("it went on for %v", waited)
		}

		// The server stops.
		answer = h.longPoll(t.Context(), eventsPath+"?lastEventId=1&wait=25s")
		synctest.Wait()
		stop()
		if got := summary(decode[page](<-answer)); got != "[] 1 false" || time.Since(start) > 0 {
			t.Errorf("got %s after %v", got, time.Since(start))
		}
	})
}

// TestLongPollStoreFails: an error while it waits is an error, not an empty answer.
func TestLongPollStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		h.append("b1", "a")
		h.store.boundsStay = true
		answer := h.longPoll(t.Context(), eventsPath+"?lastEventId=1&wait=25s")
		synctest.Wait()
		// Another process appends: what it stored must be read, and cannot be.
		if _, err := h.store.AppendEvents(t.Context(), []store.Append{{BuildID: "b1", Events: []buildcast.NewEvent{{Type: "b"}}}}); err != nil {
			t.Fatal(err)
		}
		h.store.fail(nil, buildcast.Errorf(buildcast.StoreUnavailable, "away"))
		(<-answer).want(http.StatusServiceUnavailable).problem(buildcast.StoreUnavailable, "")
	})
}
