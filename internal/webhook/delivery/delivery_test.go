package delivery_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
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

func TestDeliversInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, _ := w.Site(buildcast.EndpointChange{})
		synctest.Wait()
		for range 5 {
			for b := range 20 {
				w.Add(fmt.Sprintf("b%d", b), 7)
			}
		}
		synctest.Wait()
		for b := range 20 {
			if diff := cmp.Diff(webhooktest.UpTo(35), s.IDs(fmt.Sprintf("b%d", b))); diff != "" {
				t.Fatalf("b%d: %s", b, diff)
			}
		}
		for _, r := range s.All() {
			if err := webhooktest.Signed(r, webhooktest.SecretText); err != nil || r.Try != 1 || r.MessageID != fmt.Sprintf("msg_%s_%d", r.BuildID, r.ID) {
				t.Fatalf("%+v: %v", r, err)
			}
		}
		if d := w.Listed(store.DeliveryFilter{}); len(d) != 0 {
			t.Errorf("a row for events that arrived: %+v", d)
		}
		<-time.After(2 * delivery.IdleTime) // the cursors are parked, and made again by the next event
		if n, err := w.DB.Waiting(t.Context()); err != nil || len(n) != 0 {
			t.Errorf("cursors are left: %v %v", n, err)
		}
		w.Add("b3", 1)
		synctest.Wait()
		if diff := cmp.Diff(webhooktest.UpTo(36), s.IDs("b3")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWhoIsSentWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		all, _ := w.Site(buildcast.EndpointChange{})
		one, _ := w.Site(buildcast.EndpointChange{Builds: &[]string{"b1"}})
		types, _ := w.Site(buildcast.EndpointChange{Types: &[]string{"build_*", "plan_started"}})
		thin, _ := w.Site(buildcast.EndpointChange{Payload: new(buildcast.PayloadThin), Headers: &map[string]string{"X-Team": "blue"}})
		synctest.Wait()
		for _, id := range []string{"b1", "b2"} {
			for _, typ := range []string{"plan_started", "task_started", "build_completed"} {
				if _, err := w.Log.Append(t.Context(), id, 0, buildcast.NewEvent{Type: typ, Data: []byte(`{"secret":1}`)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		<-time.After(2 * delivery.PollTime)
		for name, got := range map[string][]int64{
			"all b1": all.IDs("b1"), "all b2": all.IDs("b2"), "one b1": one.IDs("b1"), "one b2": one.IDs("b2"), "types b1": types.IDs("b1"),
		} {
			want := map[string][]int64{"all b1": {1, 2, 3}, "all b2": {1, 2, 3}, "one b1": {1, 2, 3}, "types b1": {1, 3}}[name]
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		for _, r := range thin.All() {
			if strings.Contains(string(r.Body), "data") || r.Header.Get("X-Team") != "blue" {
				t.Errorf("a thin request: %s %v", r.Body, r.Header)
			}
		}
		if body := string(all.All()[0].Body); !strings.Contains(body, `"data":{"secret":1}`) {
			t.Errorf("a full request: %s", body)
		}
	})
}

// A receiver that fails three of ten requests gets every event within the schedule.
func TestRandomFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, _ := w.Site(buildcast.EndpointChange{})
		failed := 0
		arrived, asked := map[string]int{}, map[string]int{}
		s.Set(func(_ context.Context, r webhooktest.Received) (*http.Response, error) {
			s.Lock()
			defer s.Unlock()
			asked[r.MessageID]++
			// By lot, but the same in each run of the test.
			lot := fnv.New32a()
			fmt.Fprint(lot, r.MessageID, "#", asked[r.MessageID])
			if lot.Sum32()%10 < 3 {
				failed++
				return webhooktest.Respond(500), nil
			}
			arrived[r.MessageID]++
			return webhooktest.Respond(204), nil
		})
		synctest.Wait()
		for range 50 {
			for b := range 20 {
				w.Add(fmt.Sprintf("b%d", b), 1)
			}
			<-time.After(time.Second)
		}
		<-time.After(2 * time.Hour) // the schedule is some half an hour
		if len(arrived) != 1000 || failed < 300 {
			t.Errorf("%d of 1000 events arrived, %d requests failed", len(arrived), failed)
		}
	})
}

func TestScheduleThenDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, e := w.Site(buildcast.EndpointChange{})
		s.Set(func(_ context.Context, r webhooktest.Received) (*http.Response, error) {
			if r.BuildID == "b1" && r.ID == 2 {
				res := webhooktest.Respond(500)
				res.Body = http.NoBody
				res.Body = body(strings.Repeat("x", 20_000))
				return res, nil
			}
			return webhooktest.Respond(200), nil
		})
		synctest.Wait()
		w.Add("b1", 4)
		synctest.Wait()
		if diff := cmp.Diff(webhooktest.UpTo(4), s.IDs("b1")); diff != "" {
			t.Fatalf("later events do not wait: %s", diff)
		}
		<-time.After(time.Hour)
		tries := s.Of("b1", 2)
		if len(tries) != 6 {
			t.Fatalf("%d attempts", len(tries))
		}
		for i, want := range []time.Duration{1, 2, 4, 8, 16} {
			want *= time.Minute
			got := tries[i+1].At.Sub(tries[i].At)
			if got < want*9/10 || got > want*11/10+time.Second || tries[i+1].Try != i+2 {
				t.Errorf("retry %d came after %v, as attempt %d", i+1, got, tries[i+1].Try)
			}
		}
		d := w.Listed(store.DeliveryFilter{EndpointID: e.ID})
		if len(d) != 1 || d[0].State != buildcast.DeliveryDead || len(d[0].Attempts) != 6 || d[0].RetryAt != nil {
			t.Fatalf("%+v", d)
		}
		if a := d[0].Attempts[5]; a.Status != 500 || len(a.Response) != delivery.KeptBody {
			t.Errorf("status %d, %d bytes kept", a.Status, len(a.Response))
		}
		if b := w.Breaker(e.ID); b.State != buildcast.BreakerClosed {
			t.Errorf("one event's failures opened the breaker: %+v", b)
		}

		s.Set(webhooktest.Always(200))
		if n, err := w.Redeliver(t.Context(), store.Redelivery{EndpointID: e.ID, Since: time.Now().Add(-2 * time.Hour)}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		synctest.Wait()
		if d := w.Listed(store.DeliveryFilter{}); len(s.Of("b1", 2)) != 7 || d[0].State != buildcast.DeliveryDelivered {
			t.Errorf("redelivered: %+v", d)
		}
	})
}

// Retries that are due one shortly after the other are each made on time.
func TestRetriesOnTime(t *testing.T) {
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
		for range 10 {
			w.Add("b1", 2)
			<-time.After(700 * time.Millisecond)
		}
		<-time.After(2 * time.Minute)
		for id := int64(2); id <= 20; id += 2 {
			tries := s.Of("b1", id)
			if len(tries) != 2 {
				t.Fatalf("event %d: %d attempts", id, len(tries))
			}
			if took := tries[1].At.Sub(tries[0].At); took > 67*time.Second {
				t.Errorf("event %d was tried again after %v", id, took)
			}
		}
	})
}

func TestStrictWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, _ := w.Site(buildcast.EndpointChange{Ordering: new(buildcast.OrderingStrict)})
		fails := 3
		s.Set(func(_ context.Context, r webhooktest.Received) (*http.Response, error) {
			if r.BuildID == "b1" && r.ID == 2 && fails > 0 {
				fails--
				return webhooktest.Respond(500), nil
			}
			return webhooktest.Respond(200), nil
		})
		synctest.Wait()
		w.Add("b1", 4)
		w.Add("b2", 4)
		<-time.After(5 * time.Minute)
		if diff := cmp.Diff([]int64{1, 2, 2, 2}, s.IDs("b1")); diff != "" {
			t.Errorf("b1 waits: %s", diff)
		}
		if diff := cmp.Diff(webhooktest.UpTo(4), s.IDs("b2")); diff != "" {
			t.Errorf("b2 does not: %s", diff)
		}
		<-time.After(5 * time.Minute)
		if diff := cmp.Diff([]int64{1, 2, 2, 2, 2, 3, 4}, s.IDs("b1")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, _ := w.Site(buildcast.EndpointChange{})
		first := true
		s.Set(func(context.Context, webhooktest.Received) (*http.Response, error) {
			if first {
				first = false
				return webhooktest.Respond(429, "Retry-After", "300"), nil
			}
			return webhooktest.Respond(200), nil
		})
		synctest.Wait()
		w.Add("b1", 3)
		<-time.After(15 * time.Minute)
		all := s.All()
		if len(all) != 4 {
			t.Fatalf("%d requests", len(all))
		}
		for _, r := range all[1:] {
			if waited := r.At.Sub(all[0].At); waited < 5*time.Minute {
				t.Errorf("event %d was sent %v after a Retry-After of 5 minutes", r.ID, waited)
			}
		}
	})
}

func TestTimeoutIsOneDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, e := w.Site(buildcast.EndpointChange{TimeoutMS: new(2000)})
		s.Set(func(ctx context.Context, r webhooktest.Received) (*http.Response, error) {
			res := webhooktest.Respond(200)
			if r.ID == 1 { // the body drips
				res.Body = drip{ctx}
			}
			return res, nil
		})
		synctest.Wait()
		began := time.Now()
		w.Add("b1", 2)
		<-time.After(30 * time.Second)
		second := s.Of("b1", 2)
		if len(second) != 1 || second[0].At.Sub(began) != 2*time.Second {
			t.Errorf("the second event was not sent when the first had timed out: %+v", second)
		}
		d := w.Listed(store.DeliveryFilter{EndpointID: e.ID})
		if len(d) != 1 || d[0].EventID != 1 || !strings.HasPrefix(d[0].Attempts[0].Error, "timeout") {
			t.Errorf("%+v", d)
		}
	})
}

func TestGoneDisables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, e := w.Site(buildcast.EndpointChange{})
		operations, _ := w.Site(buildcast.EndpointChange{Builds: &[]string{buildcast.OperationsBuild}})
		s.Set(webhooktest.Always(http.StatusGone))
		synctest.Wait()
		w.Add("b1", 3)
		<-time.After(time.Hour)
		if n := len(s.All()); n != 1 {
			t.Errorf("%d requests", n)
		}
		now, err := w.Endpoint(t.Context(), e.ID)
		if err != nil || now.Enabled || !strings.Contains(now.DisabledReason, "410") {
			t.Errorf("%+v %v", now, err)
		}
		told := operations.All()
		if len(told) != 1 || told[0].Type != delivery.TypeDisabled || !strings.Contains(string(told[0].Data), e.ID) {
			t.Errorf("the log of operations: %+v", told)
		}
		if d := w.Listed(store.DeliveryFilter{}); len(d) != 0 {
			t.Errorf("the event is not to blame: %+v", d)
		}
		s.Set(webhooktest.Always(200))
		if _, err := w.Change(t.Context(), e.ID, buildcast.EndpointChange{Enabled: new(true)}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if diff := cmp.Diff([]int64{1, 1, 2, 3}, s.IDs("b1")); diff != "" {
			t.Errorf("enabled again, it goes on where it stood: %s", diff)
		}
	})
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, _ := w.Site(buildcast.EndpointChange{RateLimit: new(10)})
		synctest.Wait()
		for b := range 5 {
			w.Add(fmt.Sprintf("b%d", b), 10)
		}
		<-time.After(time.Minute)
		all := s.All()
		if len(all) != 50 {
			t.Fatalf("%d requests", len(all))
		}
		for i := range all[10:] {
			if took := all[i+10].At.Sub(all[i].At); took < time.Second {
				t.Fatalf("eleven requests within %v", took)
			}
		}
	})
}

func TestRewind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, e := w.Site(buildcast.EndpointChange{})
		synctest.Wait()
		w.Add("b1", 4)
		synctest.Wait()
		if err := w.Rewind(t.Context(), e.ID, "b1", 3); err != nil { // while the cursor is held
			t.Fatal(err)
		}
		synctest.Wait() // at once
		if diff := cmp.Diff([]int64{1, 2, 3, 4, 3, 4}, s.IDs("b1")); diff != "" {
			t.Error(diff)
		}
		<-time.After(2 * delivery.IdleTime)
		if err := w.Rewind(t.Context(), e.ID, "b1", 4); err != nil { // and once it is parked
			t.Fatal(err)
		}
		<-time.After(2 * delivery.IdleTime)
		if diff := cmp.Diff([]int64{1, 2, 3, 4, 3, 4, 4}, s.IDs("b1")); diff != "" {
			t.Error(diff)
		}
		for _, err := range []error{
			w.Rewind(t.Context(), e.ID, "b1", 5), w.Rewind(t.Context(), e.ID, "b9", 1), w.Rewind(t.Context(), "nobody", "b1", 1),
		} {
			if buildcast.CodeOf(err) != buildcast.NotFound {
				t.Errorf("%v", err)
			}
		}
	})
}

// A slow endpoint keeps no other from its events.
func TestOneStuckEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		stuck, _ := w.Site(buildcast.EndpointChange{})
		fine, _ := w.Site(buildcast.EndpointChange{})
		stuck.Set(func(ctx context.Context, _ webhooktest.Received) (*http.Response, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		synctest.Wait()
		for b := range 200 {
			w.Add(fmt.Sprintf("b%d", b), 2)
		}
		synctest.Wait() // without any time passing
		if n := len(fine.All()); n != 400 {
			t.Errorf("%d of 400", n)
		}
		if n := len(stuck.All()); n != delivery.MaxRequests {
			t.Errorf("%d requests are under way to the stuck one", n)
		}
	})
}

// More builds than places: each comes to its turn, although none ends.
func TestCrowdedBuildsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, _ := w.Site(buildcast.EndpointChange{})
		synctest.Wait()
		for b := range 3 * delivery.MaxBusy {
			w.Add(fmt.Sprintf("b%d", b), 3)
		}
		<-time.After(time.Minute)
		for b := range 3 * delivery.MaxBusy {
			if diff := cmp.Diff(webhooktest.UpTo(3), s.IDs(fmt.Sprintf("b%d", b))); diff != "" {
				t.Fatalf("b%d: %s", b, diff)
			}
		}
	})
}

func TestRotatedSecretsOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, e := w.Site(buildcast.EndpointChange{})
		synctest.Wait()
		rotated, err := w.Rotate(t.Context(), e.ID, "", time.Hour)
		if err != nil || rotated.Secret == "" || rotated.Secret == webhooktest.SecretText {
			t.Fatal(rotated.Secret, err)
		}
		synctest.Wait()
		w.Add("b1", 1)
		<-time.After(2 * time.Hour)
		w.Add("b1", 1)
		synctest.Wait()
		verdicts := []bool{}
		for _, r := range s.All() {
			verdicts = append(verdicts, webhooktest.Signed(r, webhooktest.SecretText) == nil, webhooktest.Signed(r, rotated.Secret) == nil)
		}
		if !slices.Equal(verdicts, []bool{true, true, false, true}) {
			t.Errorf("old and new, within the overlap and after it: %v", verdicts)
		}
	})
}
