package delivery

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// The gate never lets more in than its limit, and lets everybody in in the end.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		g.set(3, 0)
		inside := make(chan struct{}, 3) // a fourth would block for ever
		done := make(chan struct{})
		for range 20 {
			go func() {
				if g.enter(t.Context()) {
					inside <- struct{}{}
					<-time.After(time.Second)
					<-inside
					g.leave()
				}
				done <- struct{}{}
			}()
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if g.enter(ctx) {
				t.Error("who had left was let in")
			}
			done <- struct{}{}
		}()
		synctest.Wait()
		if len(inside) != 3 {
			t.Errorf("%d are in", len(inside))
		}
		cancel()
		for range 21 {
			<-done
		}
		if g.inside != 0 || len(g.waiting) != 0 {
			t.Errorf("%d inside, %d waiting", g.inside, len(g.waiting))
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "120", "-1", "99999999999999999999", "Mon, 23 Nov 2026 12:00:00 GMT", "soon"} {
		f.Add(seed)
	}
	now := time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		if d := retryAfter(text, now); d < 0 || d > maxRetryAfter {
			t.Errorf("%q: %v", text, d)
		}
	})
}
