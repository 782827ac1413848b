package webhookapi

import (
	"net/http"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/httpapi/query"
	"github.com/buildcast/buildcast/internal/store"
)

var (
	endpointParam   = query.String{Name: "endpointId", Max: maxEndpointID, Doc: "Only deliveries to this endpoint."}
	ofBuildParam    = query.String{Name: "buildId", Max: 26, Doc: "Only deliveries of this build's events."}
	deliveryParam   = query.String{Name: "state", Enum: deliveryStates, Doc: "Only deliveries that stand here."}
	beforeParam     = query.String{Name: "before", Max: 200, Doc: "The next of the page before."}
	deliveriesParam = query.Int{Name: "limit", Min: 1, Max: 200, Default: 50, Doc: "How many deliveries to answer with at most."}

	deliveryStates = []string{string(buildcast.DeliveryRetrying), string(buildcast.DeliveryDelivered), string(buildcast.DeliveryDead)}
)

// place is an event in a build's log.
type place struct {
	BuildID string   `json:"buildId" pattern:"^[A-Za-z0-9_-]{1,26}$"`
	EventID int64    `json:"eventId" minimum:"1"`
	_       struct{} `additionalProperties:"false"`
}

func (p place) validate() error {
	if err := buildcast.ValidateBuildID(p.BuildID); err != nil {
		return problem.At(err, "buildId")
	}
	if p.EventID < 1 {
		return buildcast.Errorf(buildcast.InvalidArgument, "eventId is %d: give the id of an event, from 1", p.EventID).At("eventId")
	}
	return nil
}

func (a *api) rewindEndpoint(w http.ResponseWriter, r *http.Request) error {
	id, err := endpointID(r)
	if err != nil {
		return err
	}
	var to place
	if err := a.Bodies.Decode(w, r, &to); err != nil {
		return err
	}
	if err := to.validate(); err != nil {
		return err
	}
	if err := a.Webhooks.Rewind(r.Context(), id, to.BuildID, to.EventID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// redelivery is the body of a redelivery: of one event, or of all dead ones.
type redelivery struct {
	BuildID string          `json:"buildId,omitempty" pattern:"^[A-Za-z0-9_-]{1,26}$" doc:"With eventId: that event alone, whatever became of it before"`
	EventID int64           `json:"eventId,omitempty" minimum:"1"`
	Since   *buildcast.Time `json:"since,omitempty" doc:"Without the others: all dead deliveries that were last tried then or later"`
	_       struct{}        `additionalProperties:"false"`
}

// redelivered is the answer to a redelivery.
type redelivered struct {
	Redelivered int64 `json:"redelivered" doc:"How many deliveries are due again"`
}

func (a *api) redeliver(w http.ResponseWriter, r *http.Request) error {
	id, err := endpointID(r)
	if err != nil {
		return err
	}
	var asked redelivery
	if err := a.Bodies.Decode(w, r, &asked); err != nil {
		return err
	}
	want := store.Redelivery{EndpointID: id, BuildID: asked.BuildID, EventID: asked.EventID}
	one := asked.BuildID != "" || asked.EventID != 0
	switch {
	case one && asked.Since != nil, !one && asked.Since == nil:
		return buildcast.Errorf(buildcast.InvalidArgument, "say what to deliver again: either buildId and eventId, or since").At("since")
	case one:
		if err := (place{BuildID: asked.BuildID, EventID: asked.EventID}).validate(); err != nil {
			return err
		}
	default:
		want.Since = asked.Since.Std()
	}
	n, err := a.Webhooks.Redeliver(r.Context(), want)
	if err != nil {
		return err
	}
	return body.SendJSON(w, http.StatusAccepted, redelivered{n})
}

// deliveries is one page of the list of deliveries.
type deliveries struct {
	Deliveries []buildcast.Delivery `json:"deliveries" doc:"The newest first"`
	Next       string               `json:"next" doc:"Send it as before to get the next page; empty on the last one"`
}

func (a *api) listDeliveries(w http.ResponseWriter, r *http.Request) error {
	f, err := readDeliveryFilter(r)
	if err != nil {
		return err
	}
	found, err := a.Webhooks.Deliveries(r.Context(), f)
	if err != nil {
		return err
	}
	return body.SendJSON(w, http.StatusOK, deliveries{append([]buildcast.Delivery{}, found.Deliveries...), found.Next})
}

func readDeliveryFilter(r *http.Request) (f store.DeliveryFilter, err error) {
	q, err := query.Of(r)
	if err != nil {
		return f, err
	}
	if f.EndpointID, err = endpointParam.Read(q); err != nil {
		return f, err
	}
	if f.EndpointID != "" {
		if err := validateEndpointID(f.EndpointID, endpointParam.Name); err != nil {
			return f, err
		}
	}
	if f.BuildID = q.Get(ofBuildParam.Name); f.BuildID != "" {
		if err := buildcast.ValidateBuildID(f.BuildID); err != nil {
			return f, problem.At(err, ofBuildParam.Name)
		}
	}
	state, err := deliveryParam.Read(q)
	if err != nil {
		return f, err
	}
	limit, err := deliveriesParam.Read(q)
	if err != nil {
		return f, err
	}
	f.State, f.Limit = buildcast.DeliveryState(state), int(limit)
	f.Before, err = beforeParam.Read(q)
	return f, err
}

func (a *api) webhookStatus(w http.ResponseWriter, r *http.Request) error {
	status, err := a.Webhooks.Status(r.Context())
	if err != nil {
		return err
	}
	return body.SendJSON(w, http.StatusOK, status)
}
