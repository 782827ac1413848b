package webhook_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/webhook"
	"github.com/buildcast/buildcast/internal/webhook/webhooktest"
)

// hanging is a store whose status hangs until the caller's time is over.
type hanging struct {
	webhook.Store
	hangs atomic.Bool
	asked atomic.Int32
}

func (h *hanging) over(c *webhook.Config) { h.Store, c.Store = c.Store, h }

func (h *hanging) Waiting(ctx context.Context) (map[string]store.Waiting, error) {
	h.asked.Add(1)
	if !h.hangs.Load() {
		return h.Store.Waiting(ctx)
	}
	<-ctx.Done()
	return nil, store.Unavailable(ctx.Err(), "the database does not answer")
}

// Ten callers of a status that hangs take one time-out together; a failure is
// answered for a moment; and meanwhile endpoints are changed, and their senders told.
func TestStatusOfAStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanging{}
		w := webhooktest.New(t, h.over)
		s, e := w.Site(buildcast.EndpointChange{})
		synctest.Wait()
		h.hangs.Store(true)
		errs := make(chan error, 10)
		for range cap(errs) {
			go func() {
				_, err := w.Status(t.Context())
				errs <- err
			}()
		}
		begun := time.Now()
		synctest.Wait()

		if _, err := w.Change(t.Context(), e.ID, buildcast.EndpointChange{URL: new("https://site0.example/new")}); err != nil {
			t.Fatal(err)
		}
		w.Add("b1", 1)
		synctest.Wait()
		if len(s.All()) != 1 || time.Since(begun) != 0 {
			t.Errorf("%d requests after %v: the senders wait for the status", len(s.All()), time.Since(begun))
		}

		for range cap(errs) {
			if err := <-errs; buildcast.CodeOf(err) != buildcast.StoreUnavailable {
				t.Errorf("%v", err)
			}
		}
		if n, took := h.asked.Load(), time.Since(begun); n != 1 || took > 10*time.Second {
			t.Errorf("ten callers: %d reads, %v", n, took)
		}
		for range 2 { // the change made the first read's failure a thing of the past
			_, _ = w.Status(t.Context())
		}
		if n := h.asked.Load(); n != 2 {
			t.Errorf("a failure is not remembered: %d reads", n)
		}
		h.hangs.Store(false)
		<-time.After(webhook.StatusAge)
		if _, err := w.Status(t.Context()); err != nil {
			t.Errorf("a failure is remembered for too long: %v", err)
		}
	})
}

// A caller that leaves does not end the read for the others, and is answered at once.
func TestStatusIsReadOnForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanging{}
		w := webhooktest.New(t, h.over)
		synctest.Wait()
		h.hangs.Store(true)
		ctx, leave := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		for _, ctx := range []context.Context{ctx, t.Context()} {
			go func() {
				_, err := w.Status(ctx)
				errs <- err
			}()
			synctest.Wait()
		}
		begun := time.Now()
		leave()
		if err := <-errs; buildcast.CodeOf(err) != buildcast.StoreUnavailable || time.Since(begun) != 0 {
			t.Errorf("who left is answered with %v after %v", err, time.Since(begun))
		}
		if <-errs; h.asked.Load() != 1 || time.Since(begun) == 0 {
			t.Errorf("%d reads, the other was answered after %v", h.asked.Load(), time.Since(begun))
		}
	})
}
