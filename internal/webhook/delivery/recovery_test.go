package delivery_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/webhook"
	"github.com/buildcast/buildcast/internal/webhook/delivery"
	"github.com/buildcast/buildcast/internal/webhook/webhooktest"
)

// faulty is a store that does as it is told, around one that works.
type faulty struct {
	webhook.Store
	claimed func() error        // after a claim of cursors, which it may make fail
	retries func() error        // likewise, of deliveries
	save    func() error        // before an endpoint is saved
	moved   func([]store.Moved) // after cursors were moved
}

func (f *faulty) ClaimCursors(ctx context.Context, owner, endpointID string, builds []string, now, until time.Time, limit int) ([]store.Cursor, error) {
	got, err := f.Store.ClaimCursors(ctx, owner, endpointID, builds, now, until, limit)
	if f.claimed != nil && len(got) > 0 {
		if err := f.claimed(); err != nil {
			return nil, err
		}
	}
	return got, err
}

func (f *faulty) ClaimDeliveries(ctx context.Context, owner, endpointID string, now, until time.Time, limit int) ([]buildcast.Delivery, error) {
	got, err := f.Store.ClaimDeliveries(ctx, owner, endpointID, now, until, limit)
	if f.retries != nil && len(got) > 0 {
		if err := f.retries(); err != nil {
			return nil, err
		}
	}
	return got, err
}

func (f *faulty) SaveEndpoint(ctx context.Context, e store.Endpoint) (int64, error) {
	if f.save != nil {
		if err := f.save(); err != nil {
			return 0, err
		}
	}
	return f.Store.SaveEndpoint(ctx, e)
}

func (f *faulty) MoveCursors(ctx context.Context, owner string, moves []store.Move) ([]store.Moved, error) {
	got, err := f.Store.MoveCursors(ctx, owner, moves)
	if f.moved != nil && err == nil {
		f.moved(got)
	}
	return got, err
}

// over puts the store around the world's own.
func (f *faulty) over(c *webhook.Config) { f.Store, c.Store = c.Store, f }

var errAway = buildcast.Errorf(buildcast.StoreUnavailable, "the store is away")

// once gives the error once.
func once(err error) func() error {
	var done atomic.Bool
	return func() error {
		if done.CompareAndSwap(false, true) {
			return err
		}
		return nil
	}
}

// A claim that the store has made and that was not answered leaves nothing leased
// for ever.
func TestClaimWithoutAnswer(t *testing.T) {
	for name, f := range map[string]*faulty{"of a cursor": {claimed: once(errAway)}, "of a retry": {retries: once(errAway)}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := webhooktest.New(t, f.over)
				s, _ := w.Site(buildcast.EndpointChange{})
				s.Set(func(_ context.Context, r webhooktest.Received) (*http.Response, error) {
					if r.ID == 1 && r.Try == 1 {
						return webhooktest.Respond(500), nil
					}
					return webhooktest.Respond(200), nil
				})
				synctest.Wait()
				w.Add("b1", 2)
				<-time.After(5 * time.Minute)
				if got := s.Of("b1", 1); len(got) != 2 || len(s.Of("b1", 2)) != 1 {
					t.Errorf("%v", s.IDs("b1"))
				}
			})
		})
	}
}

// Disabled and enabled again before the sender has seen that it was disabled.
func TestDisabledAndEnabledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan struct{})
		f := &faulty{claimed: func() error { <-slow; return nil }}
		w := webhooktest.New(t, f.over)
		s, e := w.Site(buildcast.EndpointChange{})
		synctest.Wait()
		w.Add("b1", 2)
		synctest.Wait() // the claim is under way
		for _, enabled := range []bool{false, true} {
			if _, err := w.Change(t.Context(), e.ID, buildcast.EndpointChange{Enabled: &enabled}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		close(slow)
		<-time.After(2 * delivery.PollTime)
		if diff := cmp.Diff(webhooktest.UpTo(2), s.IDs("b1")); diff != "" {
			t.Error(diff)
		}
	})
}

// What a receiver asked for binds it no more once somebody has closed its breaker,
// or given another address.
func TestPauseEndsWithItsCause(t *testing.T) {
	for name, do := range map[string]struct {
		builds []string
		mend   func(*webhooktest.World, string) error
	}{
		"a test that arrives": {[]string{"b1", "b2", "b3", "b4", "b5"}, func(w *webhooktest.World, id string) error {
			_, err := w.Test(w.Context(), id)
			return err
		}},
		"another address": {[]string{"b1"}, func(w *webhooktest.World, id string) error {
			_, err := w.Change(w.Context(), id, buildcast.EndpointChange{URL: new("https://site0.example/new")})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := webhooktest.New(t)
				s, e := w.Site(buildcast.EndpointChange{})
				var asked atomic.Int32
				s.Set(func(context.Context, webhooktest.Received) (*http.Response, error) {
					if int(asked.Add(1)) < len(do.builds) {
						return webhooktest.Respond(503), nil
					}
					return webhooktest.Respond(503, "Retry-After", "86400"), nil
				})
				synctest.Wait()
				for _, id := range do.builds {
					w.Add(id, 2)
				}
				<-time.After(time.Minute)
				s.Set(nil)
				if err := do.mend(w, e.ID); err != nil {
					t.Fatal(err)
				}
				<-time.After(time.Minute) // not a day
				for _, id := range do.builds {
					if len(s.Of(id, 2)) == 0 {
						t.Errorf("%s waits: %v", id, s.IDs(id))
					}
				}
			})
		})
	}
}

// The breaker's state cannot be stored: that is tried again now and then, and not
// as fast as the store refuses.
func TestChangeThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refusing atomic.Bool
		var saves atomic.Int32
		f := &faulty{save: func() error {
			if !refusing.Load() || saves.Add(1) > 1000 {
				return nil
			}
			return buildcast.Errorf(buildcast.Conflict, "somebody else was first")
		}}
		w := webhooktest.New(t, f.over)
		s, e := w.Site(buildcast.EndpointChange{})
		s.Set(webhooktest.Always(http.StatusGone))
		synctest.Wait()
		refusing.Store(true)
		w.Add("b1", 1)
		<-time.After(time.Minute)
		if n := saves.Load(); n < 11 || n > 200 {
			t.Errorf("%d changes were tried within a minute", n)
		}
		refusing.Store(false)
		<-time.After(2 * delivery.PollTime)
		if now, err := w.Endpoint(t.Context(), e.ID); err != nil || now.Enabled || len(s.All()) != 1 {
			t.Errorf("%+v %v, %d requests", now, err, len(s.All()))
		}
	})
}

// unreadable is a log that cannot be read for a while.
type unreadable struct {
	webhook.Log
	away  atomic.Bool
	reads atomic.Int32
}

func (u *unreadable) Read(ctx context.Context, buildID string, after int64, limit int) ([]buildcast.Event, error) {
	if u.away.Load() && u.reads.Add(1) <= 1000 {
		return nil, errAway
	}
	return u.Log.Read(ctx, buildID, after, limit)
}

// A retry whose event cannot be read waits until it can, and does not spin.
func TestRetryOfWhatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		u := &unreadable{}
		w.Stop()
		w.LogAs = func(l webhook.Log) webhook.Log { u.Log = l; return u }
		w.Start()
		s, _ := w.Site(buildcast.EndpointChange{})
		s.Set(webhooktest.Always(500))
		synctest.Wait()
		w.Add("b1", 1)
		synctest.Wait()
		u.away.Store(true)
		s.Set(nil)
		<-time.After(3 * time.Minute)
		if n := u.reads.Load(); n < 5 || n > 50 {
			t.Errorf("the event was asked for %d times", n)
		}
		u.away.Store(false)
		<-time.After(time.Minute)
		if n := len(s.Of("b1", 1)); n != 2 {
			t.Errorf("%d attempts", n)
		}
	})
}

// Who gives way to others goes on right after them, and not at the next poll.
func TestGivingWayIsNoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var blocked atomic.Bool
		slow := make(chan struct{})
		w := webhooktest.New(t, (&faulty{claimed: func() error {
			if blocked.Load() {
				<-slow
			}
			return nil
		}}).over)
		s, _ := w.Site(buildcast.EndpointChange{})
		s.Set(func(context.Context, webhooktest.Received) (*http.Response, error) {
			<-time.After(10 * time.Millisecond)
			return webhooktest.Respond(200), nil
		})
		synctest.Wait()
		events := make([]buildcast.NewEvent, 600)
		for i := range events {
			events[i] = buildcast.NewEvent{Type: "task_started", Data: []byte(`"` + strings.Repeat("x", 2000) + `"`)} // several batches
		}
		if _, err := w.Log.Append(t.Context(), "b1", 0, events...); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		blocked.Store(true)
		w.Add("b2", 1)
		synctest.Wait() // its claim takes long
		w.Add("b3", 1)  // and waits for it
		<-time.After(4 * time.Second)
		if n := len(s.IDs("b1")); n < delivery.ShareEvents || n == 600 {
			t.Fatalf("b1 has not given way after %d", n)
		}
		close(slow)
		<-time.After(delivery.PollTime - 5*time.Second)
		if n := len(s.IDs("b1")); n != 600 || len(s.All()) != 602 {
			t.Errorf("%d of b1, %d of all", n, len(s.All()))
		}
	})
}

// The next event is not sent before the store knows that the last one was: what a
// kill can double is one event.
func TestOneStepAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stored := make(chan struct{})
		defer close(stored)
		w := webhooktest.New(t, (&faulty{moved: func([]store.Moved) { <-stored }}).over)
		s, _ := w.Site(buildcast.EndpointChange{})
		synctest.Wait()
		w.Add("b1", 4)
		for n := range 4 {
			<-time.After(time.Minute)
			if diff := cmp.Diff(webhooktest.UpTo(n+1), s.IDs("b1")); diff != "" {
				t.Fatalf("after %d moves: %s", n, diff)
			}
			stored <- struct{}{}
		}
	})
}

// A cursor was rewound and claimed again while its holder waited for an answer:
// what that holder says of it counts no more.
func TestStaleHolderMovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, e := w.Site(buildcast.EndpointChange{TimeoutMS: new(30_000)})
		var seen atomic.Bool
		answer := make(chan struct{})
		s.Set(func(_ context.Context, r webhooktest.Received) (*http.Response, error) {
			if r.ID == 2 && seen.CompareAndSwap(false, true) {
				<-answer
			}
			return webhooktest.Respond(200), nil
		})
		synctest.Wait()
		w.Add("b1", 4)
		synctest.Wait()
		if err := w.Rewind(t.Context(), e.ID, "b1", 1); err != nil {
			t.Fatal(err)
		}
		<-time.After(delivery.PollTime + time.Second)
		close(answer)
		synctest.Wait()
		w.Add("b1", 1)
		<-time.After(2 * delivery.PollTime)
		if diff := cmp.Diff([]int64{1, 2, 1, 2, 3, 4, 5}, s.IDs("b1")); diff != "" {
			t.Error(diff)
		}
	})
}
