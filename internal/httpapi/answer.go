package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/buildcast/buildcast/internal/httpapi/body"
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
	text, _ := json.Marshal(p) // strings and numbers only: it cannot fail
	body.Send(w, p.Status, "application/problem+json", text)
}
