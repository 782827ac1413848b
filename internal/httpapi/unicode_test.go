package httpapi

import (
	"net/http"
	"testing"

	"github.com/buildcast/buildcast"
)

// Three keys that a lenient decoder makes one are two mistakes and a key: no event is
// lost as another's repeat, whichever way it comes in.
func TestKeysThatBecomeOneAreRefused(t *testing.T) {
	h := newHarness(t)
	for _, key := range []string{`job-\ud83d`, `job-\ud83e`} {
		event := `{"type":"x","key":"` + key + `"}`
		h.post(eventsPath, event).want(http.StatusBadRequest).problem(buildcast.InvalidArgument, "key")
		h.post(eventsPath, `[{"type":"x"},`+event+`]`).want(http.StatusBadRequest).problem(buildcast.InvalidArgument, "[1].key")
		h.post(eventsPath, event, "Content-Type", ndjsonBody).want(http.StatusBadRequest).problem(buildcast.InvalidArgument, "key")
	}
	h.post(eventsPath, `{"type":"x","key":"job-\ufffd"}`).want(http.StatusCreated)
	if got := h.store.events("b1"); len(got) != 1 || got[0].ID != 1 {
		t.Errorf("stored %+v", got)
	}
}
