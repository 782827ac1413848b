package webhook_test

import (
	"context"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/webhook"
	"github.com/buildcast/buildcast/internal/webhook/webhooktest"
)

func TestWhatIsRefusedOfAnEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t, func(c *webhook.Config) {
			c.CheckURL = func(url string) error {
				if url == "ftp://x" {
					return webhook.Invalid("url", "it is refused")
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
		for i := range webhook.MaxEndpoints {
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
		set := func(url, secret string) func(*webhook.Config) {
			return func(c *webhook.Config) { c.EnvironmentURL, c.EnvironmentSecret = url, secret }
		}
		w := webhooktest.New(t, set("https://site0.example/a", "the secret of the settings"))
		s := &webhooktest.Site{}
		w.Sites["site0.example"] = s
		synctest.Wait()
		w.Add("b1", 1)
		synctest.Wait()
		if got := s.All(); len(got) != 1 || webhooktest.Signed(got[0], "the secret of the settings") != nil {
			t.Fatalf("%+v", got)
		}
		if _, err := w.Change(t.Context(), webhook.EnvironmentID, buildcast.EndpointChange{URL: new("https://site0.example/b")}); buildcast.CodeOf(err) != buildcast.InvalidArgument {
			t.Errorf("its address is not the API's: %v", err)
		}
		restart := func(tweak func(*webhook.Config)) buildcast.Endpoint {
			w.Stop()
			w.Start(tweak)
			synctest.Wait()
			e, err := w.Endpoint(t.Context(), webhook.EnvironmentID)
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
		w.Add("b1", 1)
		synctest.Wait()
		if got := s.All(); len(got) != 2 || webhooktest.Signed(got[1], "another secret") != nil {
			t.Errorf("%+v", got)
		}
	})
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, e := w.Site(buildcast.EndpointChange{})
		s.Set(func(ctx context.Context, r webhooktest.Received) (*http.Response, error) {
			<-time.After(100 * time.Millisecond)
			if r.ID == 4 {
				return webhooktest.Respond(500), nil
			}
			return webhooktest.Respond(200), nil
		})
		synctest.Wait()
		w.Add("b1", 9)
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
		w.Stop() // counts outlive the process
		w.Start()
		<-time.After(2 * time.Hour)
		status, err = w.Status(t.Context())
		if err != nil || status.Endpoints[0].Windows["1h"].Delivered > 1 || status.Endpoints[0].Windows["24h"].Delivered < 8 {
			t.Errorf("two hours later: %+v, %v", status.Endpoints, err)
		}
	})
}

func TestRedeliveryIsAskedForInOneWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		_, e := w.Site(buildcast.EndpointChange{})
		w.Add("b1", 1)
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

// A rotation of the secret that the settings say would be lost at the next start: it
// is refused. A new value of the setting is a rotation.
func TestRotationOfTheSettingsEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const first, second = "the first secret of the settings", "the second secret of the settings"
		with := func(secret string) func(*webhook.Config) {
			return func(c *webhook.Config) {
				c.EnvironmentURL, c.EnvironmentSecret = "https://site0.example/a", secret
			}
		}
		w := webhooktest.New(t, with(first))
		s := &webhooktest.Site{}
		w.Sites["site0.example"] = s
		synctest.Wait()
		restart := func(secret string) {
			w.Stop()
			w.Start(with(secret))
			synctest.Wait()
		}
		// verdict tells which secrets the next request is signed with.
		verdict := func() [2]bool {
			w.Add("b1", 1)
			synctest.Wait()
			all := s.All()
			r := all[len(all)-1]
			return [2]bool{webhooktest.Signed(r, first) == nil, webhooktest.Signed(r, second) == nil}
		}
		_, err := w.Rotate(t.Context(), webhook.EnvironmentID, second, time.Hour)
		if buildcast.CodeOf(err) != buildcast.Conflict || !strings.Contains(err.Error(), "--webhook-secret") || !strings.Contains(err.Error(), "24 hours") {
			t.Errorf("%v", err)
		}
		restart(first)
		if got := verdict(); got != [2]bool{true, false} {
			t.Errorf("refused: %v", got)
		}
		restart(second)
		restart(second)
		if got := verdict(); got != [2]bool{true, true} {
			t.Errorf("a new value, and a start with the same: %v", got)
		}
		e, err := w.Endpoint(t.Context(), webhook.EnvironmentID)
		if err != nil || e.PreviousSecretUntil == nil || time.Until(e.PreviousSecretUntil.Std()).Round(time.Minute) != buildcast.DefaultSecretOverlap {
			t.Errorf("the overlap: %+v %v", e, err)
		}
	})
}

// The settings say where the endpoint is and not its secret: rotations of the secret
// that was made for it outlast a start.
func TestRotationOfTheSettingsEndpointWithoutASecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		with := func(c *webhook.Config) { c.EnvironmentURL = "https://site0.example/a" }
		w := webhooktest.New(t, with)
		s := &webhooktest.Site{}
		w.Sites["site0.example"] = s
		synctest.Wait()
		rotated, err := w.Rotate(t.Context(), webhook.EnvironmentID, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		w.Stop()
		w.Start(with)
		synctest.Wait()
		w.Add("b1", 1)
		synctest.Wait()
		if got := s.All(); len(got) != 1 || webhooktest.Signed(got[0], rotated.Secret) != nil {
			t.Errorf("%d requests", len(got))
		}
	})
}

// An endpoint that is enabled again has no reason why it is not.
func TestEnabledAgainHasNoReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, e := w.Site(buildcast.EndpointChange{})
		s.Set(webhooktest.Always(http.StatusGone))
		synctest.Wait()
		w.Add("b1", 1)
		synctest.Wait()
		if now, err := w.Endpoint(t.Context(), e.ID); err != nil || now.DisabledReason == "" {
			t.Fatalf("%+v %v", now, err)
		}
		for _, enabled := range []bool{false, true} {
			now, err := w.Change(t.Context(), e.ID, buildcast.EndpointChange{Enabled: &enabled})
			if err != nil || now.Enabled != enabled || (now.DisabledReason == "") != enabled {
				t.Errorf("enabled: %v gives %+v %v", enabled, now, err)
			}
		}
	})
}
