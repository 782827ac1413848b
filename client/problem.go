package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/buildcast/buildcast"
)

const (
	maxProblem = 64 << 10 // bytes of an error's answer that are read
	maxDetail  = 1000     // bytes of its text that are kept
)

// problem is an error answer (RFC 9457), as buildcast sends it.
type problem struct {
	Detail      string         `json:"detail"`
	Code        buildcast.Code `json:"code"`
	Field       string         `json:"field"`
	RetryAfter  float64        `json:"retryAfter"`  // seconds
	Count       int64          `json:"count"`       // of a stream: how many events are stored
	LastEventID int64          `json:"lastEventId"` // likewise: the last id given; of a cursor's error the log's
	// FirstEventID is of a cursor's error: the first event that is kept.
	FirstEventID int64 `json:"firstEventId"`
}

// rejected is a problem and the error that it means.
type rejected struct {
	problem problem
	err     error
}

func (r *rejected) Error() string { return r.err.Error() }
func (r *rejected) Unwrap() error { return r.err }

// problemOf is the error that the answer means, whoever on the way wrote it.
func problemOf(resp *http.Response) error {
	var p problem
	if body, err := readAnswer(resp.Body, maxProblem); err == nil {
		_ = json.Unmarshal(body, &p) // it may be a proxy's page: then the status alone counts
	}
	status := resp.StatusCode
	switch {
	case p.Code == "":
		p.Code = codeOf(status)
		p.Detail = fmt.Sprintf("%s answered %d %s", resp.Request.URL.Host, status, http.StatusText(status))
	case status == http.StatusRequestTimeout:
		p.Code = codeOf(status) // its own code does not say that it may be sent again
	}
	if to, err := resp.Location(); err == nil && status < 400 {
		p.Detail = fmt.Sprintf("%s redirects to %s://%s: use that server's address", resp.Request.URL.Host, to.Scheme, to.Host)
	}
	e := buildcast.Errorf(p.Code, "%s", p.Detail[:min(len(p.Detail), maxDetail)]).At(p.Field)
	e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), p.RetryAfter)
	if p.FirstEventID > 0 && (p.Code == buildcast.CursorGone || p.Code == buildcast.CursorAhead) {
		return &rejected{p, buildcast.NewCursorError(p.FirstEventID, p.LastEventID, e)}
	}
	return &rejected{p, e}
}

// codeOf is what a status means that comes without a code of buildcast's.
func codeOf(status int) buildcast.Code {
	switch status {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		return buildcast.Unauthenticated
	case http.StatusForbidden:
		return buildcast.PermissionDenied
	case http.StatusConflict:
		return buildcast.Conflict
	case http.StatusRequestEntityTooLarge:
		return buildcast.TooLarge
	case http.StatusBadRequest:
		return buildcast.InvalidArgument
	case http.StatusTooManyRequests:
		return buildcast.Overloaded
	case http.StatusRequestTimeout:
		return buildcast.StoreUnavailable
	}
	if status >= http.StatusInternalServerError { // a proxy's: whether the request came through is not known
		return buildcast.Unreachable
	}
	return buildcast.NotFound // 404, a redirect, and the rest of 4xx: buildcast is not at this address
}

// retryAfter reads the header, seconds or a date, or takes the body's seconds.
func retryAfter(header string, seconds float64) time.Duration {
	if n, err := strconv.Atoi(header); err == nil {
		seconds = float64(n)
	} else if at, err := http.ParseTime(header); err == nil {
		seconds = time.Until(at).Seconds()
	}
	const most = 24 * time.Hour // beyond, a Duration could overflow
	return time.Duration(min(max(seconds, 0), most.Seconds()) * float64(time.Second))
}
