// Package backoff spaces attempts: exponential, with jitter, and never sooner
// than the error asks for.
package backoff

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/buildcast/buildcast"
)

// maxRetryAfter bounds the wait that an answer can ask for: a wrong header must not
// keep a build's events back for a day.
const maxRetryAfter = time.Minute

// Backoff spaces attempts: about Min after the first failure, twice as long
// after each further one, at most Max. The jitter keeps many clients that lost
// the same server from coming back in step. It belongs to one goroutine.
type Backoff struct {
	Min, Max time.Duration

	failures int
}

// Reset begins anew after a success.
func (b *Backoff) Reset() { b.failures = 0 }

// Failures returns how many failures there were since the last success.
func (b *Backoff) Failures() int { return b.failures }

// Wait counts the failure and waits until the next attempt, or until ctx ends.
func (b *Backoff) Wait(ctx context.Context, err error) {
	Pause(ctx, b.next(err))
}

// next returns a random delay between half of the exponential delay and all of it,
// and never less than the error's RetryAfter.
func (b *Backoff) next(err error) time.Duration {
	d := b.Max
	if b.failures < 30 { // beyond, the shift could overflow
		d = min(b.Min<<b.failures, b.Max)
	}
	b.failures++
	d = d/2 + jitter(d/2)
	if e, ok := errors.AsType[*buildcast.Error](err); ok && e.RetryAfter > 0 {
		after := min(e.RetryAfter, maxRetryAfter)
		d = max(d, after+jitter(after/4))
	}
	return d
}

func jitter(d time.Duration) time.Duration {
	return rand.N(d + 1) //nolint:gosec // spreads load, guards nothing
}

// Pause waits for d, or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
