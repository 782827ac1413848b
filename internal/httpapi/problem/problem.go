// Package problem turns errors into RFC 9457 problems. It has the one table
// from an error's code to its status.
package problem

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
)

// The codes of what only HTTP can get wrong.
const (
	MethodNotAllowed     buildcast.Code = "method_not_allowed"
	UnsupportedMediaType buildcast.Code = "unsupported_media_type"
	TimedOut             buildcast.Code = "timeout"
)

// Codes is the one table from an error's code to its HTTP status. The OpenAPI
// document and the docs page list it.
var Codes = []struct {
	Code   buildcast.Code `json:"code"`
	Status int            `json:"status"`
	Title  string         `json:"title"` // what went wrong, whatever the occurrence
}{
	{buildcast.InvalidArgument, http.StatusBadRequest, "A field or parameter is wrong"},
	{buildcast.Unauthenticated, http.StatusUnauthorized, "An API key is missing or wrong"},
	{buildcast.PermissionDenied, http.StatusForbidden, "Not allowed from here"},
	{buildcast.NotFound, http.StatusNotFound, "There is no such thing"},
	{MethodNotAllowed, http.StatusMethodNotAllowed, "The method is not allowed here"},
	{TimedOut, http.StatusRequestTimeout, "The request body stopped arriving"},
	{buildcast.Conflict, http.StatusConflict, "What is there differs"},
	{buildcast.NotFinished, http.StatusConflict, "The build is not finished"},
	{buildcast.CursorAhead, http.StatusConflict, "The cursor is beyond the log's end"},
	{buildcast.CursorGone, http.StatusGone, "Events after the cursor are no longer kept"},
	{buildcast.Fenced, http.StatusConflict, "The build has moved on to another owner"},
	{buildcast.TooLarge, http.StatusRequestEntityTooLarge, "A limit was passed"},
	{UnsupportedMediaType, http.StatusUnsupportedMediaType, "The body's type is not understood"},
	{buildcast.NoPlanner, http.StatusUnprocessableEntity, "No planner is configured"},
	{buildcast.PlanningFailed, http.StatusBadGateway, "The planner made no plan"},
	{buildcast.Overloaded, http.StatusTooManyRequests, "Too much is waiting"},
	{buildcast.Internal, http.StatusInternalServerError, "A defect of buildcast"},
	{buildcast.Unreachable, http.StatusServiceUnavailable, "The outcome is not known"},
	{buildcast.StoreUnavailable, http.StatusServiceUnavailable, "The store or the server is not available now"},
}

// Problem is the body of every error answer (RFC 9457).
type Problem struct {
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

// Reached says how far a request came before it failed.
type Reached struct {
	Line        int    `json:"line,omitempty" doc:"Of an NDJSON body: the first line that is not stored, from 1"`
	Count       *int64 `json:"count,omitempty" doc:"Of an NDJSON body: how many events are stored"`
	LastEventID *int64 `json:"lastEventId,omitempty" doc:"The last id given; of cursor_ahead and cursor_gone the log's last id"`
	// FirstEventID is of cursor_gone and cursor_ahead.
	FirstEventID *int64 `json:"firstEventId,omitempty" doc:"Of cursor_gone and cursor_ahead: the first event that is kept. Go on from the one before"`
}

// Partial is an error that says how far the request came.
type Partial struct {
	Reached
	Err error
}

func (p *Partial) Error() string { return p.Err.Error() }
func (p *Partial) Unwrap() error { return p.Err }

// Of returns the answer to an error. An error that is not a
// *buildcast.Error is a defect, and its text stays in the log.
func Of(err error) Problem {
	e, ok := errors.AsType[*buildcast.Error](err)
	switch {
	case ok:
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e = buildcast.Errorf(buildcast.StoreUnavailable, "the store did not answer in time; try again shortly").After(time.Second)
	default:
		e = buildcast.Errorf(buildcast.Internal, "something went wrong inside buildcast; its log says what")
	}
	p := Problem{Type: "/docs#" + string(e.Code), Detail: e.Message, Code: string(e.Code), Field: e.Field}
	p.Status, p.Title = http.StatusInternalServerError, "A defect of buildcast"
	for _, c := range Codes {
		if c.Code == e.Code {
			p.Status, p.Title = c.Status, c.Title
		}
	}
	if e.RetryAfter > 0 {
		p.RetryAfter = max(1, int(math.Ceil(e.RetryAfter.Seconds())))
	}
	if at, ok := errors.AsType[*Partial](err); ok {
		p.Reached = at.Reached
	}
	if at, ok := errors.AsType[*buildcast.CursorError](err); ok {
		p.FirstEventID, p.LastEventID = &at.FirstEventID, &at.LastEventID
	}
	return p
}

const MaxQuoted = 40 // bytes

// Quote shows a piece of input in a message, cut and escaped.
func Quote(s string) string {
	if len(s) > MaxQuoted {
		return strconv.QuoteToASCII(s[:MaxQuoted]) + "…"
	}
	return strconv.QuoteToASCII(s)
}

// FieldOf is the field that the error is about.
func FieldOf(err error) string {
	if e, ok := errors.AsType[*buildcast.Error](err); ok {
		return e.Field
	}
	return ""
}

// At returns the error with another field; the original may be shared.
func At(err error, field string) error {
	e, ok := errors.AsType[*buildcast.Error](err)
	if !ok {
		return err
	}
	moved := *e
	return moved.At(strings.Trim(field, "."))
}
