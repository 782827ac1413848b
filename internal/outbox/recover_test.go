package outbox

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
)

// After an event was stored, or left out, the next failure is the first of its kind:
// the wait after it is the shortest one again.
func TestBackoffStartsAgainAfterProgress(t *testing.T) {
	for name, end := range map[string]error{"stored": nil, "left out": buildcast.Errorf(buildcast.InvalidArgument, "not that one")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answers := []error{errReset, errReset, errReset, errReset, end, errReset, nil}
				log := &memoryLog{before: func([]buildcast.NewEvent) error {
					err := answers[0]
					answers = answers[1:]
					return err
				}}
				e, stop := start(log.append, Options{BatchEvents: 1, MinBackoff: time.Second, MaxBackoff: time.Hour})
				emitAll(t, e, "a", "b")
				if err := e.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				if d := log.attempts[6].Sub(log.attempts[5]); d > time.Second {
					t.Errorf("%v after the first failure, not at most 1s", d)
				}
				_ = stop()
			})
		})
	}
}

// The log may have stored the events of an attempt that timed out.
func TestAnAttemptThatTimesOutIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(func(ctx context.Context, _ []buildcast.NewEvent) error { <-ctx.Done(); return ctx.Err() }, Options{})
		if err := e.attempt(t.Context(), nil); buildcast.CodeOf(err) != buildcast.Unreachable {
			t.Errorf("code %v of %v, not unreachable", buildcast.CodeOf(err), err)
		}
	})
}
