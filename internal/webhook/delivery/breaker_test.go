package delivery_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/webhook/delivery"
	"github.com/buildcast/buildcast/internal/webhook/webhooktest"
)

func body(text string) io.ReadCloser { return io.NopCloser(strings.NewReader(text)) }

// drip is a body of which a byte comes now and then.
type drip struct{ ctx context.Context }

func (d drip) Read(p []byte) (int, error) {
	select {
	case <-time.After(300 * time.Millisecond):
		p[0] = 'x'
		return 1, nil
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}
func (d drip) Close() error { return nil }

// An endpoint is down for a day under 50,000 events.
func TestDayOfOutage(t *testing.T) {
	const builds, batches, size = 50, 20, 50
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, e := w.Site(buildcast.EndpointChange{})
		s.Set(webhooktest.Refuse)
		synctest.Wait()
		for range batches {
			for b := range builds {
				w.Add(fmt.Sprintf("b%d", b), size)
			}
			<-time.After(24 * time.Hour / batches)
		}
		attempts := len(s.All())
		t.Logf("%d attempts within the day", attempts)
		if attempts > 100 || attempts < 30 {
			t.Errorf("%d attempts within the day", attempts)
		}
		if d := w.Listed(store.DeliveryFilter{}); len(d) != 0 {
			t.Errorf("%d rows of failures", len(d))
		}
		if b := w.Breaker(e.ID); b.State != buildcast.BreakerOpen || b.Reason == "" || b.OpenedAt == nil {
			t.Errorf("the breaker: %+v", b)
		}
		s.Set(nil)
		<-time.After(delivery.ProbeMax*11/10 + time.Minute)
		if b := w.Breaker(e.ID); b.State != buildcast.BreakerClosed {
			t.Errorf("the breaker: %+v", b)
		}
		for b := range builds {
			id := fmt.Sprintf("b%d", b)
			var after []int64
			for _, r := range s.All()[attempts:] {
				if r.BuildID == id {
					after = append(after, r.ID)
				}
			}
			if diff := cmp.Diff(webhooktest.UpTo(batches*size), after); diff != "" {
				t.Fatalf("%s, all in order: %s", id, diff)
			}
		}
	})
}

// Nothing but one event comes, which the receiver takes from nobody. A ping tells
// that it is the event's fault.
func TestPoisonIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, e := w.Site(buildcast.EndpointChange{})
		s.Set(func(_ context.Context, r webhooktest.Received) (*http.Response, error) {
			if r.Type == delivery.PingType {
				return webhooktest.Respond(200), nil
			}
			return webhooktest.Respond(500), nil
		})
		synctest.Wait()
		w.Add("b1", 1)
		<-time.After(time.Hour)
		d := w.Listed(store.DeliveryFilter{EndpointID: e.ID})
		if len(d) != 1 || d[0].State != buildcast.DeliveryDead || len(s.Of("b1", 1)) != 6 {
			t.Errorf("%d requests, %+v", len(s.Of("b1", 1)), d)
		}
	})
}

// The same, but the receiver is away: then nothing is given up.
func TestQuietOutageGivesNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, e := w.Site(buildcast.EndpointChange{})
		s.Set(webhooktest.Refuse)
		synctest.Wait()
		w.Add("b1", 1)
		<-time.After(24 * time.Hour)
		if b := w.Breaker(e.ID); b.State != buildcast.BreakerOpen {
			t.Errorf("the breaker: %+v", b)
		}
		if n := len(s.All()); n > 100 {
			t.Errorf("%d requests", n)
		}
		s.Set(nil)
		<-time.After(time.Hour)
		got := s.Of("b1", 1)
		if d := w.Listed(store.DeliveryFilter{State: buildcast.DeliveryDead}); len(d) != 0 || len(got) == 0 {
			t.Errorf("dead: %+v", d)
		}
		if b := w.Breaker(e.ID); b.State != buildcast.BreakerClosed {
			t.Errorf("the breaker: %+v", b)
		}
	})
}

// The breaker is open, and the only event that waits is one that never arrives.
func TestPoisonAtTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, e := w.Site(buildcast.EndpointChange{})
		s.Set(webhooktest.Refuse)
		synctest.Wait()
		w.Add("b1", 10)
		<-time.After(20 * time.Second)
		if b := w.Breaker(e.ID); b.State != buildcast.BreakerOpen {
			t.Fatalf("the breaker: %+v", b)
		}
		s.Set(func(_ context.Context, r webhooktest.Received) (*http.Response, error) {
			if r.ID == 1 && r.BuildID == "b1" {
				return webhooktest.Respond(500), nil
			}
			return webhooktest.Respond(200), nil
		})
		<-time.After(3 * time.Hour)
		d := w.Listed(store.DeliveryFilter{})
		if len(d) != 1 || d[0].EventID != 1 || d[0].State != buildcast.DeliveryDead {
			t.Errorf("%+v", d)
		}
		if last := s.Of("b1", 10); len(last) != 1 || w.Breaker(e.ID).State != buildcast.BreakerClosed {
			t.Errorf("the others have not arrived: %d, %+v", len(last), w.Breaker(e.ID))
		}
	})
}

// What others do to an endpoint closes its breaker.
func TestClosedByHand(t *testing.T) {
	for name, do := range map[string]func(*webhooktest.World, string) error{
		"a test that arrives": func(w *webhooktest.World, id string) error {
			a, err := w.Test(w.Context(), id)
			if a.Status != 200 || a.Response != "said 200" {
				return fmt.Errorf("the test: %+v, %w", a, err)
			}
			return err
		},
		"another address": func(w *webhooktest.World, id string) error {
			_, err := w.Change(w.Context(), id, buildcast.EndpointChange{URL: new("https://site0.example/new")})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := webhooktest.New(t)
				s, e := w.Site(buildcast.EndpointChange{})
				operations, _ := w.Site(buildcast.EndpointChange{Builds: &[]string{buildcast.OperationsBuild}})
				s.Set(webhooktest.Always(503))
				synctest.Wait()
				w.Add("b1", 8)
				<-time.After(2 * time.Hour)
				if b := w.Breaker(e.ID); b.State != buildcast.BreakerOpen || b.Reason != "status 503" {
					t.Fatalf("the breaker: %+v", b)
				}
				s.Set(webhooktest.Always(200))
				before := len(s.All())
				if err := do(w, e.ID); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if n := len(s.All()) - before; n < 8 || n > 9 { // at once, and the test's ping
					t.Errorf("%d requests", n)
				}
				var told []string
				for _, r := range operations.All() {
					told = append(told, r.Type)
				}
				if diff := cmp.Diff([]string{delivery.TypeOpened, delivery.TypeClosed}, told); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// A restart in the middle of an outage forgets nothing.
func TestRestartWhileOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, e := w.Site(buildcast.EndpointChange{})
		s.Set(webhooktest.Refuse)
		synctest.Wait()
		w.Add("b1", 20)
		<-time.After(time.Minute)
		w.Stop()
		w.Start()
		<-time.After(time.Minute)
		if b := w.Breaker(e.ID); b.State != buildcast.BreakerOpen {
			t.Errorf("the breaker: %+v", b)
		}
		before := len(s.All())
		s.Set(nil)
		<-time.After(time.Hour)
		var after []int64
		for _, r := range s.All()[before:] {
			after = append(after, r.ID)
		}
		if diff := cmp.Diff(webhooktest.UpTo(20), after); diff != "" {
			t.Error(diff)
		}
	})
}
