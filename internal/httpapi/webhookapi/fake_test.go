package webhookapi_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// receivers is a service of webhooks in memory, as far as the API shows one. It
// notes what it is asked for.
type receivers struct {
	all   []buildcast.Endpoint
	asked []any
	fails error // what each call gives, where it is set
	page  store.DeliveryPage
}

func receiver(id, url string) buildcast.Endpoint {
	now := buildcast.Now()
	return buildcast.Endpoint{
		ID: id, URL: url, Types: []string{}, Builds: []string{}, Projects: []string{}, Headers: map[string]string{}, TimeoutMS: 20_000,
		Ordering: buildcast.OrderingNormal, Payload: buildcast.PayloadFull, Enabled: true,
		Breaker: buildcast.Breaker{State: buildcast.BreakerClosed}, CreatedAt: now, UpdatedAt: now,
	}
}

func (s *receivers) note(what ...any) error {
	s.asked = append(s.asked, what...)
	return s.fails
}

func (s *receivers) find(id string) (*buildcast.Endpoint, error) {
	i := slices.IndexFunc(s.all, func(e buildcast.Endpoint) bool { return e.ID == id })
	if i < 0 {
		return nil, buildcast.Errorf(buildcast.NotFound, "there is no endpoint %s", id)
	}
	return &s.all[i], s.fails
}

func (s *receivers) Endpoints(context.Context) ([]buildcast.Endpoint, error) { return s.all, s.fails }

func (s *receivers) Endpoint(_ context.Context, id string) (buildcast.Endpoint, error) {
	e, err := s.find(id)
	if err != nil {
		return buildcast.Endpoint{}, err
	}
	return *e, nil
}

func (s *receivers) Create(_ context.Context, asked buildcast.EndpointChange) (buildcast.Endpoint, error) {
	if *asked.URL == "ftp://example.com" {
		return buildcast.Endpoint{}, buildcast.Errorf(buildcast.InvalidArgument, "url is no http address").At("url")
	}
	e := receiver(fmt.Sprintf("e%d", len(s.all)+1), *asked.URL)
	s.all = append(s.all, e)
	e.Secret = "whsec_made"
	return e, s.note(asked)
}

func (s *receivers) Change(_ context.Context, id string, asked buildcast.EndpointChange) (buildcast.Endpoint, error) {
	e, err := s.find(id)
	if err != nil {
		return buildcast.Endpoint{}, err
	}
	if asked.Description != nil {
		e.Description = *asked.Description
	}
	return *e, s.note(asked)
}

func (s *receivers) Delete(_ context.Context, id string) error {
	if _, err := s.find(id); err != nil {
		return err
	}
	s.all = slices.DeleteFunc(s.all, func(e buildcast.Endpoint) bool { return e.ID == id })
	return nil
}

func (s *receivers) Rotate(_ context.Context, id, secret string, overlap time.Duration) (buildcast.Endpoint, error) {
	e, err := s.Endpoint(context.Background(), id)
	if err != nil {
		return e, err
	}
	e.Secret = secret
	return e, s.note(overlap)
}

func (s *receivers) Test(_ context.Context, id string) (buildcast.Attempt, error) {
	if _, err := s.find(id); err != nil {
		return buildcast.Attempt{}, err
	}
	return buildcast.Attempt{At: buildcast.Now(), Status: 500, Response: "no"}, nil
}

func (s *receivers) Rewind(_ context.Context, id, buildID string, eventID int64) error {
	if _, err := s.find(id); err != nil {
		return err
	}
	return s.note(fmt.Sprintf("%s to %s:%d", id, buildID, eventID))
}

func (s *receivers) Redeliver(_ context.Context, r store.Redelivery) (int64, error) {
	if _, err := s.find(r.EndpointID); err != nil {
		return 0, err
	}
	return 3, s.note(r)
}

func (s *receivers) Deliveries(_ context.Context, f store.DeliveryFilter) (store.DeliveryPage, error) {
	return s.page, s.note(f)
}

func (s *receivers) Status(context.Context) (buildcast.WebhookStatus, error) {
	return buildcast.WebhookStatus{
		Endpoints: []buildcast.EndpointStatus{{EndpointID: "e1", Windows: map[string]buildcast.DeliveryWindow{"1h": {}}}},
		Log:       buildcast.LogStatus{Windows: map[string]buildcast.LogWindow{}},
	}, s.fails
}
