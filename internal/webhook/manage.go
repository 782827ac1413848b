package webhook

import (
	"context"
	"slices"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// Test sends a ping and gives what the receiver said. One that arrives closes the
// endpoint's breaker.
func (s *Service) Test(ctx context.Context, id string) (buildcast.Attempt, error) {
	t, err := s.find(ctx, id)
	if err != nil {
		return buildcast.Attempt{}, err
	}
	o := s.ping(t)
	if o.ok && t.Breaker.State != buildcast.BreakerClosed {
		_, err = s.alter(ctx, id, func(t *target) error {
			t.Breaker = buildcast.Breaker{State: buildcast.BreakerClosed}
			return nil
		})
	}
	return o.Attempt, err
}

// Rewind has delivery of a build's events go on with the given one. Those after
// it are sent again.
func (s *Service) Rewind(ctx context.Context, id, buildID string, eventID int64) error {
	if err := s.checkEvent(ctx, buildID, eventID); err != nil {
		return err
	}
	if err := s.Store.Rewind(ctx, id, buildID, eventID); err != nil {
		return err
	}
	if n := s.sender(id); n != nil {
		n.rewound(buildID)
	}
	return nil
}

// checkEvent refuses what is in no log.
func (s *Service) checkEvent(ctx context.Context, buildID string, eventID int64) error {
	if err := buildcast.ValidateBuildID(buildID); err != nil {
		return invalid("buildId", "%q is not a build id: %v", buildID, err)
	}
	if eventID < 1 {
		return invalid("eventId", "it is %d: events count from 1", eventID)
	}
	events, err := s.Log.Read(ctx, buildID, eventID-1, 1)
	if err != nil && buildcast.CodeOf(err) != buildcast.CursorAhead {
		return err
	}
	if len(events) == 0 || events[0].ID != eventID {
		return buildcast.Errorf(buildcast.NotFound, "build %s has no event %d", buildID, eventID)
	}
	return nil
}

// Redeliver has deliveries tried again, at once and with a new schedule. It gives
// how many.
func (s *Service) Redeliver(ctx context.Context, r store.Redelivery) (int64, error) {
	switch {
	case r.BuildID != "" && !r.Since.IsZero():
		return 0, invalid("since", "give either since, for all dead ones, or buildId and eventId for one")
	case r.BuildID == "" && r.EventID != 0:
		return 0, invalid("buildId", "it is missing: eventId alone names no event")
	case r.BuildID == "" && r.Since.IsZero():
		return 0, invalid("since", "it is missing: give the time since which dead deliveries are to be tried again, or buildId and eventId")
	case r.BuildID != "":
		if err := s.checkEvent(ctx, r.BuildID, r.EventID); err != nil {
			return 0, err
		}
	}
	count, err := s.Store.Redeliver(ctx, r, time.Now())
	if n := s.sender(r.EndpointID); err == nil && n != nil {
		n.expect(new(buildcast.Now()))
	}
	return count, err
}

// Deliveries lists deliveries, the newest first.
func (s *Service) Deliveries(ctx context.Context, f store.DeliveryFilter) (store.DeliveryPage, error) {
	return s.Store.ListDeliveries(ctx, f)
}

// sender gives the endpoint's, or nil.
func (s *Service) sender(id string) *sender {
	all := *s.senders.Load()
	i := slices.IndexFunc(all, func(n *sender) bool { return n.id == id })
	if i < 0 {
		return nil
	}
	return all[i]
}
