package httpapi

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store/sqlite"
)

func newSQLiteHarness(t testing.TB) *harness {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "buildcast.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the log, which was started later, has ended
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return newHarnessOver(t, s)
}

// TestOverSQLite is one build's life, from its creation to its deletion, on a
// store as users have it.
func TestOverSQLite(t *testing.T) {
	h := newSQLiteHarness(t)
	plan := `{"id":"b1","project":"web","plan":` + planJSON + `}`
	h.post("/api/builds", plan).want(http.StatusCreated)
	h.post("/api/builds", plan).want(http.StatusOK)
	h.post("/api/builds", `{"id":"b1"}`).want(http.StatusConflict).problem(buildcast.Conflict, "id")

	waiting := h.longPoll(t.Context(), eventsPath+"?wait=25s")
	h.post(eventsPath, `{"type":"plan_started","key":"p"}`).want(http.StatusCreated)
	if got := summary(decode[page](<-waiting)); got != "[1] 1 false" {
		t.Errorf("the poll that waited got %s", got)
	}
	if a := decode[appended](h.post(eventsPath, `{"type":"plan_started","key":"p"}`)); a.IDs[0] != 1 || a.LastEventID != 1 {
		t.Errorf("the repeat gives %+v", a)
	}
	if a := decode[streamed](h.stream("b1", lines(5000)).want(http.StatusCreated)); a.Count != 5000 || len(a.IDRanges) != 1 {
		t.Errorf("the stream gives %+v", a)
	}
	after, pages := int64(0), 0
	for more := true; more; pages++ {
		p := decode[page](h.get(fmt.Sprintf("%s?limit=1000&lastEventId=%d", eventsPath, after)).want(http.StatusOK))
		for _, e := range p.Events {
			if after++; e.ID != after || e.Progress != 10 {
				t.Fatalf("after %d comes %+v", after-1, e)
			}
		}
		more = p.HasMore
	}
	if after != 5001 || pages != 6 {
		t.Errorf("%d events in %d pages", after, pages)
	}
	h.get(eventsPath+"?lastEventId=9999").want(http.StatusConflict).problem(buildcast.CursorAhead, "lastEventId")

	h.do("DELETE", "/api/builds/b1", "").want(http.StatusConflict).problem(buildcast.NotFinished, "")
	h.post("/api/builds/b1/cancel", "").want(http.StatusAccepted)
	h.post("/api/builds/b1/cancel", "").want(http.StatusOK)
	if l := decode[builds](h.get("/api/builds?status=cancelled&project=web").want(http.StatusOK)); len(l.Builds) != 1 || l.Builds[0].LastEventID != 5002 {
		t.Errorf("the list is %+v", l)
	}
	if l := decode[builds](h.get("/api/builds?q=WEB&status=cancelled").want(http.StatusOK)); len(l.Builds) != 1 || l.Builds[0].LastEventID != 5002 {
		t.Errorf("a search: %+v", l)
	}
	if l := decode[builds](h.get("/api/builds?q=nobody").want(http.StatusOK)); len(l.Builds) != 0 {
		t.Errorf("a search for nothing: %+v", l)
	}
	h.get("/api/builds?q="+strings.Repeat("x", 201)).want(http.StatusBadRequest).problem(buildcast.InvalidArgument, "q")
	h.get("/api/builds?before=nonsense").want(http.StatusBadRequest).problem(buildcast.InvalidArgument, "before")
	h.do("DELETE", "/api/builds/b1", "").want(http.StatusNoContent)
	h.get("/api/builds/b1/status").want(http.StatusNotFound).problem(buildcast.NotFound, "")
}

func BenchmarkStreamSQLite(b *testing.B) {
	h := newSQLiteHarness(b)
	body := strings.Repeat(`{"type":"build_log","data":`+benchData+"}\n", 10_000)
	n := 0
	for b.Loop() {
		n++
		h.stream(fmt.Sprintf("b%d", n), body).want(http.StatusCreated)
	}
	b.ReportMetric(float64(n)*10_000/b.Elapsed().Seconds(), "events/s")
}
