// Package anthropic is the planner that asks a model over Anthropic's Messages API, or
// over a gateway that imitates it.
//
// The model must call one tool, whose input is the answer. An answer counts only if
//   - the stream came to its end (message_stop),
//   - the model stopped because it called the tool (tool_use), and
//   - the tool's input, put together of its pieces, is JSON.
//
// The client is written by hand: the official SDK adds 18 MB to the program, because it
// looks up methods by their names, which keeps the linker from leaving out any.
package anthropic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/buildcast/buildcast/internal/planner"
)

const (
	// idleTimeout is how long a stream may be silent. Pings come much more often.
	idleTimeout = 90 * time.Second
	// maxAttempts is how often a request is sent at most. A 429 may also mean that the
	// account has no money left, and come for ever: it is tried less often.
	maxAttempts     = 5
	maxRateAttempts = 3
	// maxWait is the longest wait before a repeat. If the API asks for more, the request
	// fails.
	maxWait   = time.Minute
	firstWait = time.Second
)

// DefaultBaseURL is Anthropic's own API.
const DefaultBaseURL = "https://api.anthropic.com"

// Config configures the planner. All fields except Strict and Timeout are required.
type Config struct {
	APIKey  string
	BaseURL string
	Model   string
	// Strict asks the API to hold the model to the schema.
	Strict bool
	// Timeout bounds one answer with all its attempts; 0: none.
	Timeout time.Duration
}

// Planner asks a model. It may be used by many goroutines.
type Planner struct {
	config Config
	http   *http.Client
	idle   time.Duration
	wait   func(ctx context.Context, d time.Duration) error
}

var _ planner.Planner = (*Planner)(nil)

// New returns a planner.
func New(cfg Config) *Planner {
	p := &Planner{config: cfg, idle: idleTimeout, wait: wait, http: &http.Client{CheckRedirect: noRedirect}}
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		p.http.Transport = t.Clone()
	}
	return p
}

// Close closes the connections that no request uses.
func (p *Planner) Close() { p.http.CloseIdleConnections() }

// noRedirect keeps the key from following a redirect to another host.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errTooLong ends a request that takes longer than the timeout.
var errTooLong = errors.New("the timeout has passed")

// Ask asks the model, and repeats the request if that may help.
func (p *Planner) Ask(ctx context.Context, req planner.Request, progress func(planner.Progress)) (planner.Answer, error) {
	outer := ctx
	if p.config.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, p.config.Timeout, errTooLong)
		defer cancel()
	}
	params, err := p.request(&req)
	if err != nil {
		return planner.Answer{}, &planner.Error{Message: "the request to the model cannot be made; the server's log says why", Err: err}
	}
	var lost planner.Usage // of attempts that broke off
	for attempt := 1; ; attempt++ {
		answer, err := p.attempt(ctx, params, progress)
		if err == nil {
			answer.Usage.Add(lost)
			return answer, nil
		}
		if outer.Err() != nil {
			return answer, context.Cause(outer)
		}
		f := p.explain(ctx, err)
		lost.Add(answer.Usage)
		lost.Model, lost.RequestID = answer.Usage.Model, cmp.Or(f.requestID, answer.Usage.RequestID)
		pause := f.pause(attempt)
		if attempt >= f.attempts() || pause > maxWait || errors.Is(context.Cause(ctx), errTooLong) {
			return planner.Answer{}, p.giveUp(f, attempt, pause, lost)
		}
		progress(planner.Progress{Lines: []string{fmt.Sprintf("[%s; the next attempt is in %v]", f.reason, pause.Round(time.Second))}})
		if err := p.wait(ctx, pause); err != nil && outer.Err() != nil {
			return planner.Answer{}, context.Cause(outer)
		}
	}
}

// giveUp makes the error of the last attempt.
func (p *Planner) giveUp(f failure, attempts int, pause time.Duration, lost planner.Usage) error {
	e := &planner.Error{Message: f.reason, RequestID: lost.RequestID, Final: f.final, Err: f.err}
	switch {
	case pause > maxWait && f.again:
		e.Message += fmt.Sprintf(" (it asks to wait %v, and a build waits %v at most)", pause.Round(time.Second), maxWait)
	case attempts > 1:
		e.Message += fmt.Sprintf(" (after %d attempts)", attempts)
	}
	if lost.Tokens() > 0 {
		e.Usage = &lost
	}
	return e
}
