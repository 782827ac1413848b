package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/request"
)

// The codes of what only HTTP can get wrong.
const (
	methodNotAllowed     buildcast.Code = "method_not_allowed"
	unsupportedMediaType buildcast.Code = "unsupported_media_type"
	timedOut             buildcast.Code = "timeout"
)

// drainTimeout bounds how long an error waits for a body that nobody wants.
const drainTimeout = 100 * time.Millisecond

// codes is the one table from an error's code to its HTTP status. The OpenAPI
// document and the docs page list it.
var codes = []struct {
	Code   buildcast.Code `json:"code"`
	Status int            `json:"status"`
	Title  string         `json:"title"` // what went wrong, whatever the occurrence
}{
	{buildcast.InvalidArgument, http.StatusBadRequest, "A field or parameter is wrong"},
	{buildcast.Unauthenticated, http.StatusUnauthorized, "An API key is missing or wrong"},
	{buildcast.PermissionDenied, http.StatusForbidden, "Not allowed from here"},
	{buildcast.NotFound, http.StatusNotFound, "There is no such thing"},
	{methodNotAllowed, http.StatusMethodNotAllowed, "The method is not allowed here"},
	{timedOut, http.StatusRequestTimeout, "The request body stopped arriving"},
	{buildcast.Conflict, http.StatusConflict, "What is there differs"},
	{buildcast.NotFinished, http.StatusConflict, "The build is not finished"},
	{buildcast.CursorAhead, http.StatusConflict, "The cursor is beyond the log's end"},
	{buildcast.CursorGone, http.StatusGone, "Events after the cursor are no longer kept"},
	{buildcast.Fenced, http.StatusConflict, "The build has moved on to another owner"},
	{buildcast.TooLarge, http.StatusRequestEntityTooLarge, "A limit was passed"},
	{unsupportedMediaType, http.StatusUnsupportedMediaType, "The body's type is not understood"},
	{buildcast.NoPlanner, http.StatusUnprocessableEntity, "No planner is configured"},
	{buildcast.Overloaded, http.StatusTooManyRequests, "Too much is waiting"},
	{buildcast.Internal, http.StatusInternalServerError, "A defect of buildcast"},
	{buildcast.Unreachable, http.StatusServiceUnavailable, "The outcome is not known"},
	{buildcast.StoreUnavailable, http.StatusServiceUnavailable, "The store or the server is not available now"},
}

// problem is the body of every error answer (RFC 9457).
type problem struct {
	Type   string `json:"type" doc:"Where the code is explained, relative to the server" example:"/docs#invalid_argument"`
	Title  string `json:"title" doc:"What went wrong, the same for each occurrence of the code"`
	Status int    `json:"status" doc:"The HTTP status" example:"400"`
	Detail string `json:"detail" doc:"What is wrong, the limit, and the fix; for people"`
	Code   string `json:"code" doc:"Stable; branch on it" example:"invalid_argument"`
	Field  string `json:"field,omitempty" doc:"The field or parameter it is about, such as tasks[2].run"`
	// RetryAfter is also sent as the Retry-After header.
	RetryAfter int `json:"retryAfter,omitempty" doc:"Seconds to wait before the same request may succeed"`
	Reached
}

// Reached says how far a request came before it failed. Its name is exported
// only because the schema is made by reflection.
type Reached struct {
	Line        int    `json:"line,omitempty" doc:"Of an NDJSON body: the first line that is not stored, from 1"`
	Count       *int64 `json:"count,omitempty" doc:"Of an NDJSON body: how many events are stored"`
	LastEventID *int64 `json:"lastEventId,omitempty" doc:"The last id given; of cursor_ahead and cursor_gone the log's last id"`
	// FirstEventID is of cursor_gone and cursor_ahead.
	FirstEventID *int64 `json:"firstEventId,omitempty" doc:"Of cursor_gone and cursor_ahead: the first event that is kept. Go on from the one before"`
}

// partial is an error that says how far the request came.
type partial struct {
	Reached
	err error
}

func (p *partial) Error() string { return p.err.Error() }
func (p *partial) Unwrap() error { return p.err }

// problemOf returns the answer to an error. An error that is not a
// *buildcast.Error is a defect, and its text stays in the log.
func problemOf(err error) problem {
	e, ok := errors.AsType[*buildcast.Error](err)
	switch {
	case ok:
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e = buildcast.Errorf(buildcast.StoreUnavailable, "the store did not answer in time; try again shortly").After(time.Second)
	default:
		e = buildcast.Errorf(buildcast.Internal, "something went wrong inside buildcast; its log says what")
	}
	p := problem{Type: "/docs#" + string(e.Code), Detail: e.Message, Code: string(e.Code), Field: e.Field}
	p.Status, p.Title = http.StatusInternalServerError, "A defect of buildcast"
	for _, c := range codes {
		if c.Code == e.Code {
			p.Status, p.Title = c.Status, c.Title
		}
	}
	if e.RetryAfter > 0 {
		p.RetryAfter = max(1, int(math.Ceil(e.RetryAfter.Seconds())))
	}
	if at, ok := errors.AsType[*partial](err); ok {
		p.Reached = at.Reached
	}
	if at, ok := errors.AsType[*buildcast.CursorError](err); ok {
		p.FirstEventID, p.LastEventID = &at.FirstEventID, &at.LastEventID
	}
	return p
}

// problem is problemOf with the address of the code's explanation.
func (a *api) problem(err error) problem {
	p := problemOf(err)
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
