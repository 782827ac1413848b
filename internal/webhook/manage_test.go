package webhook

import (
	"context"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

func TestWhatIsRefusedOfAnEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) {
			c.CheckURL = func(url string) error {
				if url == "ftp://x" {
					return invalid("url", "it is refused")
				}
				return nil
			}
		})
		url := new("https://example.com/hook")
		many := make([]string, 1001)
		for i := range many {
			many[i] = "b"
		}
		long := strings.Repeat("x", 1001)
		for _, tt := range []struct {
			field string
			c     buildcast.EndpointChange
		}{
			{"url", buildcast.EndpointChange{}},
			{"url", buildcast.EndpointChange{URL: new("ftp://x")}},
			{"secret", buildcast.EndpointChange{URL: url, Secret: new("short")}},
			{"secret", buildcast.EndpointChange{URL: url, Secret: new("")}},
			{"description", buildcast.EndpointChange{URL: url, Description: &long}},
			{"description", buildcast.EndpointChange{URL: url, Description: new("a\x07b")}},
			{"types", buildcast.EndpointChange{URL: url, Types: &[]string{""}}},
			{"types", buildcast.EndpointChange{URL: url, Types: &[]string{"Task"}}},
			{"types", buildcast.EndpointChange{URL: url, Types: &[]string{"task[1"}}},
			{"types", buildcast.EndpointChange{URL: url, Types: new(many[:51])}},
			{"builds", buildcast.EndpointChange{URL: url, Builds: &[]string{"a/b"}}},
			{"builds", buildcast.EndpointChange{URL: url, Builds: &many}},
			{"projects", buildcast.EndpointChange{URL: url, Projects: &[]string{""}}},
			{"headers", buildcast.EndpointChange{URL: url, Headers: &map[string]string{"Host": "x"}}},
			{"headers", buildcast.EndpointChange{URL: url, Headers: &map[string]string{"webhook-id": "x"}}},
			{"headers", buildcast.EndpointChange{URL: url, Headers: &map[string]string{"a b": "x"}}},
			{"headers", buildcast.EndpointChange{URL: url, Headers: &map[string]string{"A": "x\r\nB: y"}}},
			{"headers", buildcast.EndpointChange{URL: url, Headers: &map[string]string{"A": long}}},
			{"rateLimit", buildcast.EndpointChange{URL: url, RateLimit: new(-1)}},
			{"timeoutMs", buildcast.EndpointChange{URL: url, TimeoutMS: new(999)}},
			{"timeoutMs", buildcast.EndpointChange{URL: url, TimeoutMS: new(math.MaxInt64)}},
			{"ordering", buildcast.EndpointChange{URL: url, Ordering: new(buildcast.Ordering("any"))}},
			{"payload", buildcast.EndpointChange{URL: url, Payload: new(buildcast.Payload("none"))}},
		} {
			_, err := w.Create(t.Context(), tt.c)
			e, ok := err.(*buildcast.Error) //nolint:errorlint // it is what the API shows
			if !ok || e.Code != buildcast.InvalidArgument || e.Field != tt.field {
				t.Errorf("%s: %v", tt.field, err)
			}
		}
		if all, err := w.Endpoints(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("%v, %v", all, err)
		}
		for i := range maxEndpoints {
			if _, err := w.Create(t.Context(), buildcast.EndpointChange{URL: url, Enabled: new(i == 0)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Create(t.Context(), buildcast.EndpointChange{URL: url}); buildcast.CodeOf(err) != buildcast.TooLarge {
			t.Errorf("one too many: %v", err)
		}
	})
}

func TestEndpointOfTheSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := func(url, secret string) func(*Config) {
			return func(c *Config) { c.EnvironmentURL, c.EnvironmentSecret = url, secret }
		}
		w := newWorld(t, set("https://site0.example/a", "the secret of the settings"))
		s := &site{}
		w.sites["site0.example"] = s
		synctest.Wait()
		w.add("b1", 1)
		synctest.Wait()
		if got := s.all(); len(got) != 1 || signed(got[0], "the secret of the settings") != nil {
			t.Fatalf("%+v", got)
		}
		if _, err := w.Change(t.Context(), environmentID, buildcast.EndpointChange{URL: new("https://site0.example/b")}); buildcast.CodeOf(err) != buildcast.InvalidArgument {
			t.Errorf("its address is not the API's: %v", err)
		}
		restart := func(tweak func(*Config)) buildcast.Endpoint {
			w.stop()
			w.start(tweak)
			synctest.Wait()
			e, err := w.Endpoint(t.Context(), environmentID)
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		if e := restart(set("", "")); e.Enabled || e.DisabledReason == "" {
			t.Errorf("not set any more: %+v", e)
		}
		if e := restart(set("https://site0.example/c", "another secret")); !e.Enabled || e.URL != "https://site0.example/c" {
			t.Errorf("set again: %+v", e)
		}
		w.add("b1", 1)
		synctest.Wait()
		if got := s.all(); len(got) != 2 || signed(got[1], "another secret") != nil {
			t.Errorf("%+v", got)
		}
	})
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s, e := w.site(buildcast.EndpointChange{})
		s.set(func(ctx context.Context, r received) (*http.Response, error) {
			<-time.After(100 * time.Millisecond)
			if r.ID == 4 {
				return respond(500), nil
			}
			return respond(200), nil
		})
		synctest.Wait()
		w.add("b1", 9)
		<-time.After(5 * time.Second)
		status, err := w.Status(t.Context())
		if err != nil || len(status.Endpoints) != 1 {
			t.Fatal(status, err)
		}
		got := status.Endpoints[0]
		hour := got.Windows["1h"]
		if got.EndpointID != e.ID || hour.Delivered != 8 || hour.Failed != 1 || got.Retrying != 1 || *hour.Success != 8.0/9 {
			t.Errorf("%+v, %+v", got, hour)
		}
		if p50 := *hour.P50MS; p50 < 100 || p50 > 120 {
			t.Errorf("p50 of 100 ms: %v", p50)
		}
		if l := status.Log.Windows["1h"]; l.Events != 9 || l.Bytes != 9*int64(len(`{"n":1}`)) || status.Log.Bytes == 0 {
			t.Errorf("%+v", status.Log)
		}
		w.stop() // counts outlive the process
		w.start()
		<-time.After(2 * time.Hour)
		status, err = w.Status(t.Context())
		if err != nil || status.Endpoints[0].Windows["1h"].Delivered > 1 || status.Endpoints[0].Windows["24h"].Delivered < 8 {
			t.Errorf("two hours later: %+v, %v", status.Endpoints, err)
		}
	})
}

func TestRedeliveryIsAskedForInOneWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, e := w.site(buildcast.EndpointChange{})
		w.add("b1", 1)
		for field, r := range map[string]store.Redelivery{
			"since":   {EndpointID: e.ID},
			"buildId": {EndpointID: e.ID, EventID: 1},
			"eventId": {EndpointID: e.ID, BuildID: "b1"},
		} {
			_, err := w.Redeliver(t.Context(), r)
			if got, ok := err.(*buildcast.Error); !ok || got.Field != field { //nolint:errorlint // it is what the API shows
				t.Errorf("%s: %v", field, err)
			}
		}
		if _, err := w.Redeliver(t.Context(), store.Redelivery{EndpointID: e.ID, BuildID: "b1", EventID: 1, Since: time.Now()}); err == nil {
			t.Error("both at once")
		}
	})
}

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

// A step's upper end is what a quantile tells: within a fifth above the truth.
func TestSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(int64(100*time.Microsecond), int64(time.Minute)).Draw(t, "ns"))
		got, real := milliseconds(step(d)), float64(d.Microseconds())/1000
		if got < real*0.99 || got > real*1.22 {
			t.Fatalf("%v is told as %v ms", d, got)
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
