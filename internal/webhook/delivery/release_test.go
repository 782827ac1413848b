package delivery_test

import (
	"context"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/webhook/delivery"
	"github.com/buildcast/buildcast/internal/webhook/webhooktest"
)

// countedBody is a body that tells how many are open.
type countedBody struct{ open *atomic.Int32 }

func (countedBody) Read([]byte) (int, error) { return 0, context.Canceled }

func (b countedBody) Close() error {
	b.open.Add(-1)
	return nil
}

// Every answer's body is closed, also one that cannot be read: an open one holds its
// connection.
func TestBodiesAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, _ := w.Site(buildcast.EndpointChange{})
		var open, answers atomic.Int32
		s.Set(func(context.Context, webhooktest.Received) (*http.Response, error) {
			res := webhooktest.Respond(200)
			res.Body = countedBody{&open}
			open.Add(1)
			answers.Add(1)
			return res, nil
		})
		synctest.Wait()
		w.Add("b1", 3)
		<-time.After(time.Minute)
		if open.Load() != 0 || answers.Load() == 0 {
			t.Errorf("%d of %d bodies are open", open.Load(), answers.Load())
		}
	})
}

// A build whose cursor is parked is not watched any longer.
func TestParkedIsNotWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		w.Site(buildcast.EndpointChange{})
		synctest.Wait()
		w.Add("b1", 3)
		<-time.After(2 * time.Second)
		if !slices.Contains(w.Watched(), "b1") {
			t.Fatal("it is not watched while its cursor is held")
		}
		<-time.After(2 * delivery.IdleTime)
		w.Watched()
		<-time.After(5 * time.Second)
		if ids := w.Watched(); len(ids) > 0 {
			t.Errorf("%v are watched still", ids)
		}
	})
}

// A retry leaves the gate: more retries than may be under way do not close it.
func TestRetriesLeaveTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, _ := w.Site(buildcast.EndpointChange{})
		s.Set(func(_ context.Context, r webhooktest.Received) (*http.Response, error) {
			if r.ID%2 == 0 && r.Try == 1 {
				return webhooktest.Respond(500), nil
			}
			return webhooktest.Respond(200), nil
		})
		synctest.Wait()
		const events = 2 * (delivery.MaxRequests + 5)
		w.Add("b1", events)
		<-time.After(2 * time.Minute)
		w.Add("b1", 1)
		synctest.Wait()
		if n := len(s.Of("b1", events+1)); n != 1 {
			t.Errorf("the gate is closed: %d requests of %d", len(s.All()), events*3/2+1)
		}
	})
}
