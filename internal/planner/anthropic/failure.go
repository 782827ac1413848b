package anthropic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/buildcast/buildcast/internal/planner"
)

// The types of the API's errors that are told apart.
const (
	typeRateLimit  = "rate_limit_error"
	typeOverloaded = "overloaded_error"
	typeAPI        = "api_error"
	typeTimeout    = "timeout_error"
	typeNotFound   = "not_found_error"
)

// failure is why an attempt failed.
type failure struct {
	reason    string
	requestID string
	again     bool          // a repeat may help
	rate      bool          // too many requests, or no money left
	final     bool          // the model's own decision: the same question ends in the same way
	after     time.Duration // what the API asks to wait; 0: nothing
	err       error
}

// attempts is how often such a request is sent at most.
func (f *failure) attempts() int {
	switch {
	case !f.again:
		return 1
	case f.rate:
		return maxRateAttempts
	}
	return maxAttempts
}

// pause is how long to wait after the attempt.
func (f *failure) pause(attempt int) time.Duration {
	if f.after > 0 {
		return f.after
	}
	return min(firstWait<<(attempt-1), maxWait)
}

// stopped is an answer that ended, but not with the tool's input.
type stopped struct {
	reason, requestID string
	final             bool
}

func (s *stopped) Error() string { return s.reason }

// explain describes the error of an attempt for users. Whatever comes from the API is
// bounded and holds no key.
func (p *Planner) explain(ctx context.Context, err error) failure {
	f := failure{err: errors.New(p.redact(err.Error()))}
	var end *stopped
	var api *apiError
	switch {
	case errors.Is(context.Cause(ctx), errTooLong):
		f.reason = fmt.Sprintf("the model did not answer within %v: set a longer --planner-timeout, or ask for less", p.config.Timeout)
	case errors.As(err, &end):
		f.reason, f.requestID, f.final = end.reason, end.requestID, end.final
	case errors.Is(err, errIdle):
		f.reason, f.again = fmt.Sprintf("the model's answer broke off: nothing came for %v", p.idle), true
	case errors.Is(err, errCut):
		f.reason, f.again = "the model's answer broke off before its end", true
	case errors.As(err, &api):
		p.explainAPI(ctx, &f, api)
	default:
		f.reason, f.again = fmt.Sprintf("%s cannot be reached: %s", p.host(), p.redact(rootOf(err).Error())), true
	}
	return f
}

// explainAPI decides by the error's type: one inside a stream has no status but 200.
func (p *Planner) explainAPI(ctx context.Context, f *failure, api *apiError) {
	f.requestID = short(api.requestID)
	message := p.messageOf(api)
	typ := api.typ
	if typ == "" {
		typ = typeOf(api.status)
	}
	switch typ {
	case typeRateLimit:
		f.again, f.rate, f.after = true, true, retryAfter(api.header)
	case typeOverloaded, typeAPI, typeTimeout:
		f.again, f.after = true, retryAfter(api.header)
	case typeNotFound:
		message += p.models(ctx)
	}
	f.reason = fmt.Sprintf("the model's API answered %s: %s", short(typ), message)
}

// typeOf returns the type of an error whose body has none, as a proxy's.
func typeOf(status int) string {
	switch {
	case status == http.StatusTooManyRequests:
		return typeRateLimit
	case status == http.StatusRequestTimeout || status == http.StatusConflict || status >= 500:
		return typeAPI
	}
	return fmt.Sprintf("HTTP %d", status)
}

func (p *Planner) messageOf(api *apiError) string {
	if api.message == "" {
		return http.StatusText(api.status)
	}
	return p.redact(short(api.message))
}

// redact removes the key, in case an answer repeats it.
func (p *Planner) redact(text string) string {
	return strings.ReplaceAll(text, p.config.APIKey, "[key]")
}

// retryAfter returns what the API asks to wait, in its two forms; 0: nothing.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, 1e6) * float64(time.Second))
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// modelsTimeout bounds the question which models exist.
const modelsTimeout = 10 * time.Second

// models tells which models exist, for the error that the configured one does not.
func (p *Planner) models(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, modelsTimeout)
	defer cancel()
	var page struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	resp, err := p.send(ctx, http.MethodGet, "/v1/models", nil)
	if err == nil {
		defer resp.Body.Close()
		err = json.NewDecoder(io.LimitReader(resp.Body, maxErrorBody)).Decode(&page)
	}
	if err != nil || len(page.Data) == 0 {
		return "; set --model to a model that exists"
	}
	var ids []string
	for _, m := range page.Data[:min(len(page.Data), 20)] {
		ids = append(ids, short(m.ID))
	}
	return "; set --model to one that exists: " + strings.Join(ids, ", ")
}

// ended explains a stop reason other than tool_use.
func ended(reason, requestID, category string, usage planner.Usage) error {
	s := &stopped{requestID: requestID}
	switch reason {
	case "max_tokens":
		s.reason = fmt.Sprintf("the model's answer is longer than its bound of %d tokens and was cut: ask for less, or set a higher --planner-max-tokens", usage.OutputTokens)
		s.final = true
	case "refusal":
		s.reason, s.final = "the model refuses this prompt", true
		if category != "" {
			s.reason += " (" + short(category) + ")"
		}
		s.reason += ": change it"
	case "model_context_window_exceeded":
		s.reason, s.final = "the prompt and the workspace's files are more than the model takes: ask for less, or set another --model", true
	default:
		s.reason, s.final = fmt.Sprintf("the model ended its answer without a plan or files (%s)", short(reason)), true
	}
	return s
}

func (p *Planner) host() string { return "the model's API at " + p.config.BaseURL }

// rootOf returns the innermost cause, which has no addresses with queries in it.
func rootOf(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func short(text string) string {
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return text
}
