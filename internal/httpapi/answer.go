package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/request"
)

// drainTimeout bounds how long an error waits for a body that nobody wants.
const drainTimeout = 100 * time.Millisecond

// problem is problem.Of with the address of the code's explanation.
func (a *api) problem(err error) problem.Problem {
	p := problem.Of(err)
	p.Type = a.Prefix + p.Type
	return p
}

// fail answers with the error, and has it logged with the request.
// What was cancelled was so because the client has left, or the server stops.
// It is answered all the same: without an answer net/http would send a 200.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	request.Failed(r.Context(), err)
	p := a.problem(err)
	if r.ContentLength != 0 {
		// net/http reads what is left of the body before it answers: not for long.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTimeout))
	}
	h := w.Header()
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	h.Set("Cache-Control", "no-store")
	body, _ := json.Marshal(p) // strings and numbers only: it cannot fail
	send(w, p.Status, "application/problem+json", body)
}

const (
	// An answer of more than largeAnswer bytes may not fit into the socket's
	// buffers, so a client that reads nothing would keep it in memory for ever.
	largeAnswer = 64 << 10
	sendTimeout = time.Minute
)

// send writes a whole answer. The length lets gzip pass small ones by.
func send(w http.ResponseWriter, status int, contentType string, body []byte) {
	if len(body) > largeAnswer {
		conn := http.NewResponseController(w)
		_ = conn.SetWriteDeadline(time.Now().Add(sendTimeout))
		defer func() { _ = conn.SetWriteDeadline(time.Time{}) }() // the next answer's time is its own
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // JSON, and sent as such; it fails only where the client has left
}

// sendJSON writes v as a whole answer.
func sendJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	send(w, status, "application/json", body)
	return nil
}
