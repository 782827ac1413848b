package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

// phase is how far an attempt has come.
type phase int32

const (
	phaseConnect phase = iota // or waiting for a connection
	phaseDNS
	phaseDial // connect, after DNS
	phaseTLS
	phaseRequest // sending it
	phaseHeaders // waiting for the response's
	phaseBody    // reading the response's
)

func (p phase) String() string {
	return [...]string{"connect", "dns", "connect", "tls", "request", "headers", "body"}[p]
}

// attempt follows one request. The transport may report on it from a goroutine
// that outlives the request.
type attempt struct {
	phase    atomic.Int32
	reused   atomic.Bool     // it got a connection that had been used before
	answered atomic.Bool     // a response began
	ctx      context.Context // the request's
	proxy    *url.URL        // nil: none
	deadline time.Time       // zero: none
}

type attemptKey struct{}

func newAttempt(ctx context.Context) *attempt {
	a := &attempt{ctx: ctx}
	a.deadline, _ = ctx.Deadline()
	return a
}

// attemptOf is the attempt that ctx belongs to, or an empty one.
func attemptOf(ctx context.Context) *attempt {
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		return a
	}
	return newAttempt(ctx)
}

// context is ctx with the attempt in it, which follows what the transport does.
func (a *attempt) context(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, attemptKey{}, a)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		// Once for each connection that is tried, so that phases begin anew.
		GetConn:  func(string) { a.phase.Store(int32(phaseConnect)) },
		DNSStart: func(httptrace.DNSStartInfo) { a.reach(phaseDNS) },
		DNSDone: func(found httptrace.DNSDoneInfo) {
			if found.Err == nil { // else it is where the attempt ends
				a.reach(phaseDial)
			}
		},
		TLSHandshakeStart: func() { a.reach(phaseTLS) },
		GotConn: func(c httptrace.GotConnInfo) {
			a.reused.Store(c.Reused)
			a.reach(phaseRequest)
		},
		WroteRequest:         func(httptrace.WroteRequestInfo) { a.reach(phaseHeaders) },
		GotFirstResponseByte: func() { a.answered.Store(true) },
	})
}

// reach moves the phase forward only: a dial that was begun for this request may
// still be going on when the request has got another connection.
func (a *attempt) reach(p phase) {
	for {
		now := a.phase.Load()
		if now >= int32(p) || a.phase.CompareAndSwap(now, int32(p)) {
			return
		}
	}
}

// keptWasClosed reports whether err says that a kept connection was closed before
// any answer: most often by a receiver that had been idle for long.
func (a *attempt) keptWasClosed(err error) bool {
	if !a.reused.Load() || a.answered.Load() || a.ctx.Err() != nil {
		return false
	}
	return isReset(err) || explainConnection(err) == CutOff // a stream's reset is an answer
}

// untilDeadline gives ctx the deadline of the attempt's request.
func (a *attempt) untilDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.deadline.IsZero() {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, a.deadline)
}

// failed says in which phase err ended the attempt.
func (a *attempt) failed(err error) error {
	if cause := context.Cause(a.ctx); cause != nil && errors.Is(err, cause) && !errors.Is(err, a.ctx.Err()) {
		err = fmt.Errorf("%w: %w", a.ctx.Err(), err) // the caller's own cause hides which it was
	}
	return &phaseError{phase: phase(a.phase.Load()), err: err}
}

type phaseError struct {
	phase phase
	err   error
}

func (e *phaseError) Error() string { return e.phase.String() + ": " + e.err.Error() }
func (e *phaseError) Unwrap() error { return e.err }

// Timeout is asked for by url.Error.
func (e *phaseError) Timeout() bool {
	timeout, ok := errors.AsType[net.Error](e.err)
	return ok && timeout.Timeout()
}

// body is a response's, whose errors say that they are.
type body struct {
	io.ReadCloser
	attempt *attempt
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader's contract is io.EOF itself
		err = b.attempt.failed(err)
	}
	return n, err
}

// proxyError is a proxy that would not help.
type proxyError struct {
	status int // its answer to CONNECT; zero: its URL is not valid
}

func (e *proxyError) Error() string {
	if e.status == 0 {
		return "the proxy's URL is not valid: check HTTPS_PROXY and HTTP_PROXY"
	}
	return fmt.Sprintf("the proxy answered CONNECT with status %d", e.status)
}
