package cloudflare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
)

// Codes of the service that are acted upon.
const (
	codeNoProject     = 8000007
	codeTryAgain      = 8000000
	codeTokenExpired  = 8000013
	maxAnswer         = 16 << 20 // bytes of an answer that are read
	maxErrorText      = 1000     // bytes of the service's own words that are handed on
	longestRetryAfter = 6 * time.Minute
)

// apiError is an answer of the service that is not a success.
type apiError struct {
	status     int
	code       int // 0: the answer had none
	message    string
	retryAfter time.Duration
}

func (e *apiError) Error() string {
	if e.code == 0 {
		return fmt.Sprintf("HTTP %d: %s", e.status, e.message)
	}
	return fmt.Sprintf("%s (code %d)", e.message, e.code)
}

// overloaded reports whether the service says that it is, or a proxy before it.
func (e *apiError) overloaded() bool {
	switch e.status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, 524:
		return true
	}
	return false
}

// expired reports whether an upload token is no longer taken. The asset service has
// said so in plain text.
func (e *apiError) expired() bool {
	return e.code == codeTokenExpired || (e.status == http.StatusForbidden || e.status == http.StatusUnauthorized) && strings.Contains(strings.ToLower(e.message), "expired")
}

// temporary reports whether the same request may succeed later.
func (e *apiError) temporary() bool {
	return e.status >= 500 || e.status == http.StatusTooManyRequests || e.status == http.StatusRequestTimeout || e.code == codeTryAgain
}

// body makes a request's body anew for each attempt.
type body struct {
	contentType string
	length      int64 // -1: not known
	open        func() io.ReadCloser
}

func jsonBody(v any) (*body, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return &body{"application/json", int64(len(b)), func() io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }}, nil
}

// call makes one request and decodes the answer's result into result, unless it is
// nil. It does not repeat. An answer that is not a success is an *apiError.
func (t *Target) call(ctx context.Context, token, method, path string, b *body, result any) error {
	ctx, cancel := context.WithTimeout(ctx, t.config.RequestTimeout)
	defer cancel()
	var reader io.Reader = http.NoBody
	if b != nil {
		reader = b.open()
	}
	req, err := http.NewRequestWithContext(ctx, method, t.config.BaseURL+path, reader)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("User-Agent", "buildcast")
	if b != nil {
		req.Header.Set("Content-Type", b.contentType)
		req.ContentLength = b.length
	}
	resp, err := t.config.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	return decode(resp, text, result)
}

// envelope is the form of the service's answers.
type envelope struct {
	Success *bool           `json:"success"`
	Errors  []apiMessage    `json:"errors"`
	Result  json.RawMessage `json:"result"`
}

type apiMessage struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func decode(resp *http.Response, text []byte, result any) error {
	var e envelope
	isJSON := json.Unmarshal(text, &e) == nil
	if isJSON && e.Success != nil && *e.Success && resp.StatusCode/100 == 2 {
		if result == nil {
			return nil
		}
		if err := json.Unmarshal(e.Result, result); err != nil {
			return fmt.Errorf("the service's answer is not what its documentation says: %w", err)
		}
		return nil
	}
	failure := &apiError{status: resp.StatusCode, retryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	if isJSON && len(e.Errors) > 0 {
		failure.code, failure.message = e.Errors[0].Code, e.Errors[0].Message
	} else if failure.message = strings.Join(strings.Fields(string(text)), " "); failure.message == "" {
		failure.message = http.StatusText(resp.StatusCode)
	}
	failure.message = cut(failure.message, maxErrorText)
	return failure
}

// retryAfter reads seconds or an HTTP date.
func retryAfter(text string) time.Duration {
	if text == "" {
		return 0
	}
	d := time.Duration(0)
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		d = time.Duration(min(seconds, 3600)) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), longestRetryAfter)
}

// cut cuts s to at most n bytes, at the start of a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// repeat calls do until it succeeds, fails for good, or has failed in a temporary way
// more often than retries allows. It waits pace·2^n between, or as long as the answer
// asks for.
func (t *Target) repeat(ctx context.Context, retries int, do func() error) error {
	for n := 0; ; n++ {
		err := do()
		wait, again := t.wait(err, n)
		if err == nil || !again || n >= retries || ctx.Err() != nil {
			return err
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// wait is how long to wait after the n-th failure; again is false if a repeat is
// of no use. A connection that broke is worth one.
func (t *Target) wait(err error, n int) (d time.Duration, again bool) {
	d = t.config.Pace << n
	failure, answered := errors.AsType[*apiError](err)
	if !answered {
		return d, true
	}
	if failure.overloaded() {
		d += 5 * t.config.Pace << n
	}
	return max(d, failure.retryAfter), failure.temporary()
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// describe makes what people are told of a failure: what was being done, and the
// service's own words and code.
func describe(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*buildcast.Error](err); ok || errors.Is(err, context.Canceled) {
		return err
	}
	failure, answered := errors.AsType[*apiError](err)
	switch {
	case !answered:
		return buildcast.Errorf(buildcast.Unreachable, "Cloudflare did not answer while %s", doing).Because(err)
	case failure.status == http.StatusUnauthorized || failure.status == http.StatusForbidden:
		return buildcast.Errorf(buildcast.PermissionDenied, "Cloudflare refused %s: %s; the API token needs the permission Cloudflare Pages: Edit for the account", doing, failure).Because(err)
	case failure.temporary():
		return buildcast.Errorf(buildcast.Unreachable, "Cloudflare failed while %s: %s", doing, failure).Because(err)
	}
	return buildcast.Errorf(buildcast.InvalidArgument, "Cloudflare refused %s: %s", doing, failure).Because(err)
}
