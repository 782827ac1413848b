package webhook

import (
	"context"
	"encoding/json"

	"github.com/oklog/ulid/v2"

	"github.com/buildcast/buildcast"
)

// Types of the events in the log of operations.
const (
	typeOpened   = "webhook.opened"
	typeClosed   = "webhook.closed"
	typeDisabled = "webhook.disabled"
	typeDead     = "webhook.dead"
)

// maxReports bounds the operational events that wait for the store. Those beyond
// are only in the server's own log.
const maxReports = 1000

// operation is the data of an operational event.
type operation struct {
	EndpointID string `json:"endpointId"`
	Reason     string `json:"reason,omitempty"`
	BuildID    string `json:"buildId,omitempty"`
	EventID    int64  `json:"eventId,omitempty"`
}

// tell logs an operational event, and has it appended to the log of operations.
func (s *Service) tell(eventType string, o operation) {
	s.Logger.Warn("webhooks: "+eventType, "endpoint", o.EndpointID, "reason", o.Reason, "build", o.BuildID, "event", o.EventID)
	data, err := json.Marshal(o)
	if err != nil {
		return
	}
	select {
	case s.reports <- buildcast.NewEvent{Type: eventType, Data: data, Key: ulid.Make().String()}:
	default:
		s.Logger.Warn("webhooks: there are too many operational events: one is not stored", "type", eventType, "endpoint", o.EndpointID)
	}
}

// reportChange tells what happened to an endpoint, if it matters to those who run
// its receiver.
func (s *Service) reportChange(before, after *buildcast.Endpoint) {
	was, is := before.Breaker.State, after.Breaker.State
	switch {
	case before.Enabled && !after.Enabled:
		s.tell(typeDisabled, operation{EndpointID: after.ID, Reason: after.DisabledReason})
	case was == buildcast.BreakerClosed && is != buildcast.BreakerClosed:
		s.tell(typeOpened, operation{EndpointID: after.ID, Reason: after.Breaker.Reason})
	case was != buildcast.BreakerClosed && is == buildcast.BreakerClosed:
		s.tell(typeClosed, operation{EndpointID: after.ID})
	}
}

// reportDead tells that an event was given up. That a report itself was is not
// reported: it would be without end.
func (s *Service) reportDead(d buildcast.Delivery) {
	if d.BuildID == buildcast.OperationsBuild {
		return
	}
	why := ""
	if n := len(d.Attempts); n > 0 {
		why = reason(outcome{Attempt: d.Attempts[n-1]})
	}
	s.tell(typeDead, operation{EndpointID: d.EndpointID, Reason: why, BuildID: d.BuildID, EventID: d.EventID})
}

// report appends what was told, until ctx ends.
func (s *Service) report(ctx context.Context) {
	for {
		select {
		case e := <-s.reports:
			if !s.persist(ctx, "an operational event", func(ctx context.Context) error { return s.append(ctx, e) }) && ctx.Err() != nil {
				select {
				case s.reports <- e: // reportRest appends it: its key lets nothing be doubled
				default:
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// reportRest appends what was told and not appended when report ended.
func (s *Service) reportRest(ctx context.Context) {
	for {
		select {
		case e := <-s.reports:
			if err := s.append(ctx, e); err != nil {
				s.Logger.Warn("webhooks: an operational event is not stored", "type", e.Type, "error", err)
			}
		default:
			return
		}
	}
}

func (s *Service) append(ctx context.Context, e buildcast.NewEvent) error {
	_, err := s.Log.Append(ctx, buildcast.OperationsBuild, 0, e)
	return err
}
