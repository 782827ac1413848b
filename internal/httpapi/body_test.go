package httpapi

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/buildcast/buildcast"
)

// Attack: many clients begin a large body and stop. What has arrived of all bodies is
// bounded; small bodies are taken all the same.
func TestArrivingBodiesAreBounded(t *testing.T) {
	h := newHarness(t)
	large := append(bytes.Repeat([]byte(" "), 3<<20), `{"type":"x"}`...)
	var requests sync.WaitGroup
	var senders []*io.PipeWriter
	for range maxArriving/len(large) + 1 {
		pipe, sender := io.Pipe()
		senders = append(senders, sender)
		requests.Go(func() {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, eventsPath, pipe)
			r.Header.Set("Content-Type", jsonBody)
			h.handler.ServeHTTP(httptest.NewRecorder(), r)
			pipe.Close()
		})
		_, _ = sender.Write(large[:3<<20]) // returns when all of it has been read
	}
	refused := h.post(eventsPath, string(large)).want(http.StatusTooManyRequests)
	refused.problem(buildcast.Overloaded, "")
	if refused.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	h.post(eventsPath, `{"type":"x","data":"`+strings.Repeat("d", smallBody/2)+`"}`).want(http.StatusCreated)
	for _, sender := range senders {
		sender.Close()
	}
	requests.Wait()
	h.post(eventsPath, string(large)).want(http.StatusCreated)
}
