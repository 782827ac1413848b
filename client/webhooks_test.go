package client

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/auth"
	"github.com/buildcast/buildcast/internal/httpapi"
	"github.com/buildcast/buildcast/internal/store"
)

// receivers is a service of webhooks behind the real API. It has one endpoint,
// e1, and notes what it is asked for.
type receivers struct {
	endpoint buildcast.Endpoint
	asked    []string
}

func (s *receivers) note(id, format string, args ...any) error {
	if id != s.endpoint.ID {
		return buildcast.Errorf(buildcast.NotFound, "there is no endpoint %s", id)
	}
	s.asked = append(s.asked, fmt.Sprintf(format, args...))
	return nil
}

func (s *receivers) Endpoints(context.Context) ([]buildcast.Endpoint, error) {
	return []buildcast.Endpoint{s.endpoint}, nil
}

func (s *receivers) Endpoint(_ context.Context, id string) (buildcast.Endpoint, error) {
	return s.endpoint, s.note(id, "get")
}

func (s *receivers) Create(_ context.Context, asked buildcast.EndpointChange) (buildcast.Endpoint, error) {
	e := s.endpoint
	e.URL, e.Secret = *asked.URL, "whsec_made"
	return e, s.note("e1", "create %v", *asked.Types)
}

func (s *receivers) Change(_ context.Context, id string, asked buildcast.EndpointChange) (buildcast.Endpoint, error) {
	e := s.endpoint
	e.Enabled = *asked.Enabled
	return e, s.note(id, "change")
}

func (s *receivers) Delete(_ context.Context, id string) error { return s.note(id, "delete") }

func (s *receivers) Rotate(_ context.Context, id, secret string, overlap time.Duration) (buildcast.Endpoint, error) {
	e := s.endpoint
	e.Secret = secret
	return e, s.note(id, "rotate %v", overlap)
}

func (s *receivers) Test(_ context.Context, id string) (buildcast.Attempt, error) {
	return buildcast.Attempt{At: buildcast.Now(), Status: 500, Response: "no"}, s.note(id, "test")
}

func (s *receivers) Rewind(_ context.Context, id, buildID string, eventID int64) error {
	return s.note(id, "rewind %s:%d", buildID, eventID)
}

func (s *receivers) Redeliver(_ context.Context, r store.Redelivery) (int64, error) {
	return 3, s.note(r.EndpointID, "redeliver %s:%d %d", r.BuildID, r.EventID, r.Since.Year())
}

func (s *receivers) Deliveries(_ context.Context, f store.DeliveryFilter) (store.DeliveryPage, error) {
	d := buildcast.Delivery{EndpointID: f.EndpointID, BuildID: f.BuildID, State: f.State, CreatedAt: buildcast.Now(), UpdatedAt: buildcast.Now()}
	return store.DeliveryPage{Deliveries: []buildcast.Delivery{d}, Next: f.Before + "+"}, s.note("e1", "list %d", f.Limit)
}

func (s *receivers) Status(context.Context) (buildcast.WebhookStatus, error) {
	return buildcast.WebhookStatus{Endpoints: []buildcast.EndpointStatus{{EndpointID: "e1", Backlog: 9}}}, nil
}

// serveWebhooks gives clients of the API over the service: one with a key, one without.
func serveWebhooks(t *testing.T) (s *receivers, with, without *Client) {
	t.Helper()
	const key = "0123456789abcdef"
	guard, err := auth.New(auth.Config{Keys: []string{key}})
	if err != nil {
		t.Fatal(err)
	}
	now := buildcast.Now()
	s = &receivers{endpoint: buildcast.Endpoint{ID: "e1", URL: "https://example.com", Enabled: true, CreatedAt: now, UpdatedAt: now}}
	web := httptest.NewServer(httpapi.New(httpapi.Config{Webhooks: s, Guard: guard, Logger: slog.New(slog.DiscardHandler)}))
	with, err = New(web.URL, APIKey(key))
	if err != nil {
		t.Fatal(err)
	}
	without, err = New(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		with.CloseIdleConnections()
		without.CloseIdleConnections()
		web.Close()
	})
	return s, with, without
}

func TestWebhooks(t *testing.T) {
	s, c, _ := serveWebhooks(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	check := func(what string, ok bool, err error) {
		t.Helper()
		if err != nil || !ok {
			t.Errorf("%s: as wanted: %v, error: %v", what, ok, err)
		}
	}
	all, err := c.Endpoints(ctx)
	check("list", len(all) == 1 && all[0].ID == "e1", err)
	url, types, off := "https://example.com/a", []string{"task_*"}, false
	e, err := c.CreateEndpoint(ctx, buildcast.EndpointChange{URL: &url, Types: &types})
	check("create", e.Secret == "whsec_made" && e.URL == url, err)
	e, err = c.Endpoint(ctx, "e1")
	check("get", cmp.Equal(e, s.endpoint), err)
	e, err = c.ChangeEndpoint(ctx, "e1", buildcast.EndpointChange{Enabled: &off})
	check("change", !e.Enabled && e.ID == "e1", err)
	e, err = c.RotateSecret(ctx, "e1", "whsec_given", 90*time.Minute)
	check("rotate", e.Secret == "whsec_given", err)
	_, err = c.RotateSecret(ctx, "e1", "", 0)
	check("rotate at once", true, err)
	a, err := c.TestEndpoint(ctx, "e1")
	check("test", a.Status == 500 && a.Response == "no", err)
	check("rewind", true, c.Rewind(ctx, "e1", build, 7))
	check("redeliver", true, c.Redeliver(ctx, "e1", build, 7))
	n, err := c.RedeliverDead(ctx, "e1", time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC))
	check("redeliver the dead", n == 3, err)
	p, err := c.Deliveries(ctx, DeliveryFilter{EndpointID: "e1", BuildID: build, State: buildcast.DeliveryDead, Before: "n", Limit: 5})
	check("deliveries", p.Next == "n+" && len(p.Deliveries) == 1 && p.Deliveries[0].BuildID == build && p.Deliveries[0].State == buildcast.DeliveryDead, err)
	status, err := c.WebhookStatus(ctx)
	check("status", len(status.Endpoints) == 1 && status.Endpoints[0].Backlog == 9, err)
	check("delete", true, c.DeleteEndpoint(ctx, "e1"))
	want := []string{
		"create [task_*]", "get", "change", "rotate 1h30m0s", "rotate 0s", "test", "rewind b1:7",
		"redeliver b1:7 1", "redeliver :0 2026", "list 5", "delete",
	}
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Error(diff)
	}
}

func TestWebhookErrors(t *testing.T) {
	s, c, without := serveWebhooks(t)
	ctx := t.Context()
	_, err := without.Endpoints(ctx)
	if buildcast.CodeOf(err) != buildcast.Unauthenticated {
		t.Errorf("without a key: %v", err)
	}
	for _, id := range []string{"", "..", "a/b", "e1?x", "e1%2f"} {
		if err := c.DeleteEndpoint(ctx, id); buildcast.CodeOf(err) != buildcast.InvalidArgument {
			t.Errorf("id %q: %v", id, err)
		}
		if _, err := c.TestEndpoint(ctx, id); buildcast.CodeOf(err) != buildcast.InvalidArgument {
			t.Errorf("id %q: %v", id, err)
		}
	}
	if _, err := c.Endpoint(ctx, "none"); buildcast.CodeOf(err) != buildcast.NotFound {
		t.Errorf("an unknown endpoint: %v", err)
	}
	err = c.Rewind(ctx, "e1", "a.b", 1)
	if code, _, field := buildcast.Describe(err); code != buildcast.InvalidArgument || field != "buildId" {
		t.Errorf("a bad build: %v", err)
	}
	if len(s.asked) > 0 {
		t.Errorf("asked for %q", s.asked)
	}
}
