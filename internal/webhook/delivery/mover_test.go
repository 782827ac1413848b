package delivery_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
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

// errRefused is an error that no repeat mends.
var errRefused = buildcast.Errorf(buildcast.Internal, "the store refuses it")

// refusing is a store that refuses the moves it is told to, and with them all moves
// of the same call.
type refusing struct {
	webhook.Store
	hold chan struct{} // moves wait until it is closed; nil: they do not

	mu      sync.Mutex
	refuse  func(store.Move) bool
	save    func(buildcast.Delivery) bool
	largest int // how many moves came together at most
}

func (r *refusing) over(c *webhook.Config) { r.Store, c.Store = c.Store, r }

func (r *refusing) set(refuse func(store.Move) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = refuse
}

func (r *refusing) MoveCursors(ctx context.Context, owner string, moves []store.Move) ([]store.Moved, error) {
	if r.hold != nil {
		<-r.hold
	}
	r.mu.Lock()
	r.largest = max(r.largest, len(moves))
	refuse := r.refuse
	r.mu.Unlock()
	for _, m := range moves {
		if refuse != nil && refuse(m) {
			return nil, errRefused
		}
	}
	return r.Store.MoveCursors(ctx, owner, moves)
}

func (r *refusing) SaveDelivery(ctx context.Context, owner string, d buildcast.Delivery) error {
	r.mu.Lock()
	save := r.save
	r.mu.Unlock()
	if save != nil && save(d) {
		return errRefused
	}
	return r.Store.SaveDelivery(ctx, owner, d)
}

// One move of a large group can never be stored: the others are, each once, and the
// one cursor rests and goes on.
func TestRefusedMoveFailsAlone(t *testing.T) {
	const builds = 100
	synctest.Test(t, func(t *testing.T) {
		f := &refusing{hold: make(chan struct{})}
		w := webhooktest.New(t, f.over)
		s, _ := w.Site(buildcast.EndpointChange{})
		synctest.Wait()
		for b := range builds {
			w.Add(fmt.Sprintf("b%d", b), 3)
		}
		synctest.Wait() // one move is being stored, and the others wait for it
		f.set(func(m store.Move) bool { return m.BuildID == "b7" && m.Leave == nil })
		close(f.hold)
		<-time.After(30 * time.Second)
		if f.largest < builds-1 {
			t.Fatalf("at most %d moves came together", f.largest)
		}
		for b := range builds {
			id := fmt.Sprintf("b%d", b)
			if diff := cmp.Diff(webhooktest.UpTo(3), s.IDs(id)); id != "b7" && diff != "" {
				t.Fatalf("%s: %s", id, diff)
			}
		}
		if n := len(s.IDs("b7")); n != 1 {
			t.Errorf("%d requests for the build whose moves are refused, within half a minute", n)
		}
		f.set(nil)
		<-time.After(delivery.RefusedWait)
		if diff := cmp.Diff(webhooktest.UpTo(3), s.IDs("b7")); diff != "" {
			t.Errorf("its event was sent, and a minute later that could be stored: %s", diff)
		}
	})
}

// The store refuses every move, also those that let cursors go: they are not leased
// until the next start, but go on when the store takes moves again.
func TestCursorsGoOnAfterEveryMoveWasRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &refusing{refuse: func(store.Move) bool { return true }}
		w := webhooktest.New(t, f.over)
		s, _ := w.Site(buildcast.EndpointChange{})
		synctest.Wait()
		for b := range 10 {
			w.Add(fmt.Sprintf("b%d", b), 2)
		}
		<-time.After(5 * time.Minute)
		f.set(nil)
		<-time.After(3 * time.Minute)
		for b := range 10 {
			id := fmt.Sprintf("b%d", b)
			if diff := cmp.Diff(webhooktest.UpTo(2), s.IDs(id)); diff != "" {
				t.Errorf("%s: %s", id, diff)
			}
		}
	})
}

// That an event failed cannot be stored: the event is sent again later.
func TestRefusedFailureIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &refusing{refuse: func(m store.Move) bool { return m.Failed != nil }}
		w := webhooktest.New(t, f.over)
		s, _ := w.Site(buildcast.EndpointChange{})
		first := true
		s.Set(func(context.Context, webhooktest.Received) (*http.Response, error) {
			if first {
				first = false
				return webhooktest.Respond(500), nil
			}
			return webhooktest.Respond(200), nil
		})
		synctest.Wait()
		w.Add("b1", 2)
		<-time.After(2 * delivery.RefusedWait)
		if diff := cmp.Diff([]int64{1, 1, 2}, s.IDs("b1")); diff != "" {
			t.Error(diff)
		}
	})
}

// What became of a retry cannot be stored: it is tried again later, and its lease is
// not renewed for ever.
func TestRefusedRetryIsDueAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &refusing{save: func(d buildcast.Delivery) bool { return d.Tries == 2 }}
		w := webhooktest.New(t, f.over)
		s, _ := w.Site(buildcast.EndpointChange{})
		s.Set(webhooktest.Always(500))
		synctest.Wait()
		w.Add("b1", 1)
		<-time.After(30 * time.Second)
		s.Set(nil)
		<-time.After(3 * time.Minute)
		if n := len(s.Of("b1", 1)); n < 3 {
			t.Errorf("%d attempts", n)
		}
		f.mu.Lock()
		f.save = nil
		f.mu.Unlock()
		<-time.After(3 * time.Minute)
		if d := w.Listed(store.DeliveryFilter{}); len(d) != 1 || d[0].State != buildcast.DeliveryDelivered {
			t.Errorf("%+v", d)
		}
	})
}
