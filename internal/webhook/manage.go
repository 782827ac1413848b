package webhook

import (
	"context"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/webhook/delivery"
	"github.com/buildcast/buildcast/webhooksig"
)

// Redeliveries change what is delivered, and list it; see store.Deliveries.
type Redeliveries interface {
	Rewind(ctx context.Context, endpointID, buildID string, next int64) error
	Redeliver(ctx context.Context, r store.Redelivery, now time.Time) (int64, error)
	ListDeliveries(ctx context.Context, f store.DeliveryFilter) (store.DeliveryPage, error)
}

// Endpoints returns all endpoints, the oldest first.
func (s *Service) Endpoints(ctx context.Context) ([]buildcast.Endpoint, error) {
	stored, err := s.endpoints.store.ListEndpoints(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]buildcast.Endpoint, len(stored))
	for i := range stored {
		all[i] = s.endpoints.show(stored[i])
	}
	return all, nil
}

// Endpoint returns one endpoint, or NotFound.
func (s *Service) Endpoint(ctx context.Context, id string) (buildcast.Endpoint, error) {
	e, err := s.endpoints.stored(ctx, id)
	if err != nil {
		return buildcast.Endpoint{}, err
	}
	return s.endpoints.show(e), nil
}

// Create makes an endpoint. This answer has its secret, and no later one.
func (s *Service) Create(ctx context.Context, c buildcast.EndpointChange) (buildcast.Endpoint, error) {
	return s.endpoints.create(ctx, c)
}

// Change changes the fields of an endpoint that are given. The breaker closes if the
// URL changes or the endpoint is enabled again.
func (s *Service) Change(ctx context.Context, id string, c buildcast.EndpointChange) (buildcast.Endpoint, error) {
	if err := s.environment.checkURL(id, c); err != nil {
		return buildcast.Endpoint{}, err
	}
	if c.Secret != nil {
		return buildcast.Endpoint{}, invalid("secret", "it cannot be changed here: rotate it, so that the one before signs too for a while")
	}
	ep, err := s.endpoints.Alter(ctx, id, func(ep *delivery.Endpoint) error {
		url, enabled := ep.URL, ep.Enabled
		if err := s.endpoints.apply(ep, c); err != nil {
			return err
		}
		if ep.URL != url || ep.Enabled && !enabled {
			ep.Breaker = buildcast.Breaker{State: buildcast.BreakerClosed}
		}
		return nil
	})
	if err != nil {
		return buildcast.Endpoint{}, err
	}
	return shown(ep), nil
}

// Rotate replaces the endpoint's secret, by a new one if the text is empty. The one
// before signs too until the overlap ends.
func (s *Service) Rotate(ctx context.Context, id, text string, overlap time.Duration) (buildcast.Endpoint, error) {
	if overlap < 0 || overlap > buildcast.MaxSecretOverlap {
		return buildcast.Endpoint{}, invalid("overlapSeconds", "it is %d: use 0 to %d", int(overlap.Seconds()), int(buildcast.MaxSecretOverlap.Seconds()))
	}
	if err := s.environment.checkRotation(id); err != nil {
		return buildcast.Endpoint{}, err
	}
	var given *string
	if text != "" {
		given = &text
	}
	var secret webhooksig.Secret
	secret, err := secretOf(given)
	if err != nil {
		return buildcast.Endpoint{}, err
	}
	ep, err := s.endpoints.Alter(ctx, id, func(ep *delivery.Endpoint) error {
		replaceSecret(ep, secret, overlap)
		return nil
	})
	if err != nil {
		return buildcast.Endpoint{}, err
	}
	return revealed(ep), nil
}

// Delete removes the endpoint with its cursors, deliveries and counts.
func (s *Service) Delete(ctx context.Context, id string) error {
	if err := s.endpoints.store.DeleteEndpoint(ctx, id); err != nil {
		return err
	}
	s.endpoints.notify()
	return nil
}

// Test sends a ping and returns the outcome. If the ping arrives, the endpoint's
// breaker closes.
func (s *Service) Test(ctx context.Context, id string) (buildcast.Attempt, error) {
	ep, err := s.endpoints.find(ctx, id)
	if err != nil {
		return buildcast.Attempt{}, err
	}
	attempt, ok := s.delivery.Ping(ep)
	if ok && ep.Breaker.State != buildcast.BreakerClosed {
		_, err = s.endpoints.Alter(ctx, id, func(ep *delivery.Endpoint) error {
			ep.Breaker = buildcast.Breaker{State: buildcast.BreakerClosed}
			return nil
		})
	}
	return attempt, err
}

// Rewind makes delivery of a build's events go on with the given one, or with the
// first that still exists if that is later. Events after it are sent again.
func (s *Service) Rewind(ctx context.Context, id, buildID string, eventID int64) error {
	first, err := s.checkEvent(ctx, buildID, eventID)
	if err != nil {
		return err
	}
	if err := s.redeliveries.Rewind(ctx, id, buildID, max(eventID, first)); err != nil {
		return err
	}
	s.delivery.Rewound(id, buildID)
	return nil
}

// checkEvent refuses an event that the log has not reached. It returns the id of the
// event, or of the first one after it that still exists.
func (s *Service) checkEvent(ctx context.Context, buildID string, eventID int64) (first int64, err error) {
	if err := buildcast.ValidateBuildID(buildID); err != nil {
		return 0, invalid("buildId", "%q is not a build id: %v", buildID, err)
	}
	if eventID < 1 {
		return 0, invalid("eventId", "it is %d: events count from 1", eventID)
	}
	found, err := s.statuses(ctx, []string{buildID})
	if err != nil {
		return 0, err
	}
	status, ok := found[buildID]
	if !ok || eventID > status.LastEventID {
		return 0, buildcast.Errorf(buildcast.NotFound, "build %s has no event %d", buildID, eventID)
	}
	return max(status.FirstEventID, eventID), nil
}

// Redeliver makes deliveries due now, with a new schedule. It returns how many.
func (s *Service) Redeliver(ctx context.Context, r store.Redelivery) (int64, error) {
	switch {
	case r.BuildID != "" && !r.Since.IsZero():
		return 0, invalid("since", "send either since, for all dead ones, or buildId and eventId for one")
	case r.BuildID == "" && r.EventID != 0:
		return 0, invalid("buildId", "it is missing: eventId alone names no event")
	case r.BuildID == "" && r.Since.IsZero():
		return 0, invalid("since", "it is missing: send the time since which dead deliveries are to be tried again, or buildId and eventId")
	case r.BuildID != "":
		first, err := s.checkEvent(ctx, r.BuildID, r.EventID)
		if err != nil {
			return 0, err
		}
		if first != r.EventID {
			return 0, buildcast.Errorf(buildcast.NotFound, "event %d of build %s was deleted; the first that still exists is %d", r.EventID, r.BuildID, first)
		}
	}
	count, err := s.redeliveries.Redeliver(ctx, r, time.Now())
	if err == nil {
		s.delivery.RetriesDue(r.EndpointID)
	}
	return count, err
}

// Deliveries lists deliveries, the newest first.
func (s *Service) Deliveries(ctx context.Context, f store.DeliveryFilter) (store.DeliveryPage, error) {
	return s.redeliveries.ListDeliveries(ctx, f)
}
