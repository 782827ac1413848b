package delivery

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/oklog/ulid/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// Types of the events in the log of operations.
const (
	TypeOpened   = "webhook.opened"   // an endpoint's breaker
	TypeClosed   = "webhook.closed"   // an endpoint's breaker
	TypeDisabled = "webhook.disabled" // an endpoint
	TypeDead     = "webhook.dead"     // a delivery
	TypeGap      = "webhook.gap"      // events that were deleted before they were sent
)

// maxReports bounds the operational events that wait for the store. Those beyond it
// are only in the server's own log.
const maxReports = 1000

// Appender appends to builds' logs; see eventlog.Log.
type Appender interface {
	Append(ctx context.Context, buildID string, generation int64, events ...buildcast.NewEvent) (store.Appended, error)
}

// Reports appends events about endpoints to the log of operations while Run runs.
// Reporting waits for nothing.
type Reports struct {
	log    Appender
	logger *slog.Logger
	queue  chan buildcast.NewEvent
}

// NewReports makes the reports.
func NewReports(log Appender, logger *slog.Logger) *Reports {
	return &Reports{log: log, logger: logger, queue: make(chan buildcast.NewEvent, maxReports)}
}

// operation is the data of an operational event.
type operation struct {
	EndpointID string `json:"endpointId"`
	Reason     string `json:"reason,omitempty"`
	BuildID    string `json:"buildId,omitempty"`
	EventID    int64  `json:"eventId,omitempty"`
	// LastEventID is set for a gap, which begins with EventID.
	LastEventID int64 `json:"lastEventId,omitempty"`
}

func (r *Reports) add(eventType string, o operation) {
	r.logger.Warn("webhooks: "+eventType, "endpoint", o.EndpointID, "reason", o.Reason, "build", o.BuildID, "event", o.EventID)
	data, err := json.Marshal(o)
	if err != nil {
		return
	}
	select {
	case r.queue <- buildcast.NewEvent{Type: eventType, Data: data, Key: ulid.Make().String()}:
	default:
		r.logger.Warn("webhooks: too many operational events wait: one is not stored", "type", eventType, "endpoint", o.EndpointID)
	}
}

// Endpoint reports a change of an endpoint that its receiver's owner wants to know of.
func (r *Reports) Endpoint(before, after *buildcast.Endpoint) {
	was, is := before.Breaker.State, after.Breaker.State
	switch {
	case before.Enabled && !after.Enabled:
		r.add(TypeDisabled, operation{EndpointID: after.ID, Reason: after.DisabledReason})
	case was == buildcast.BreakerClosed && is != buildcast.BreakerClosed:
		r.add(TypeOpened, operation{EndpointID: after.ID, Reason: after.Breaker.Reason})
	case was != buildcast.BreakerClosed && is == buildcast.BreakerClosed:
		r.add(TypeClosed, operation{EndpointID: after.ID})
	}
}

// dead reports that an event was given up. For an event of the log of operations it
// does not: that report could fail in turn, without end.
func (r *Reports) dead(d buildcast.Delivery) {
	if d.BuildID == buildcast.OperationsBuild {
		return
	}
	why := ""
	if n := len(d.Attempts); n > 0 {
		why = reason(outcome{Attempt: d.Attempts[n-1]})
	}
	r.add(TypeDead, operation{EndpointID: d.EndpointID, Reason: why, BuildID: d.BuildID, EventID: d.EventID})
}

// gap reports that events were deleted before they were sent.
func (r *Reports) gap(endpointID, buildID string, first, last int64) {
	if buildID == buildcast.OperationsBuild {
		return // as for dead
	}
	r.add(TypeGap, operation{
		EndpointID: endpointID, BuildID: buildID, EventID: first, LastEventID: last,
		Reason: "the events were deleted before they were sent",
	})
}

// Run appends until ctx ends.
func (r *Reports) Run(ctx context.Context) {
	for {
		select {
		case e := <-r.queue:
			err := Persist(ctx, r.logger, "an operational event", func(ctx context.Context) error { return r.append(ctx, e) })
			if err != nil && ctx.Err() != nil {
				select {
				case r.queue <- e: // for Flush; the key prevents a second copy
				default:
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// Flush appends what Run left.
func (r *Reports) Flush(ctx context.Context) {
	for {
		select {
		case e := <-r.queue:
			if err := r.append(ctx, e); err != nil {
				r.logger.Warn("webhooks: an operational event is not stored", "type", e.Type, "error", err)
			}
		default:
			return
		}
	}
}

func (r *Reports) append(ctx context.Context, e buildcast.NewEvent) error {
	_, err := r.log.Append(ctx, buildcast.OperationsBuild, 0, e)
	return err
}
