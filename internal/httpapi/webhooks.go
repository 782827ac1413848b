package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/store"
)

// Endpoints are the receivers of webhooks. Errors: InvalidArgument with the
// field, NotFound, Conflict if two changes meet.
type Endpoints interface {
	// Endpoints returns all of them, the oldest first. Secrets and the values of
	// headers are never in an answer, except a secret in the answer to the call that
	// made it.
	Endpoints(ctx context.Context) ([]buildcast.Endpoint, error)
	Endpoint(ctx context.Context, id string) (buildcast.Endpoint, error)
	Create(ctx context.Context, asked buildcast.EndpointChange) (buildcast.Endpoint, error)
	Change(ctx context.Context, id string, asked buildcast.EndpointChange) (buildcast.Endpoint, error)
	Delete(ctx context.Context, id string) error
	// Rotate replaces the endpoint's secret, by a new one if it is empty. The one
	// before signs as well until the overlap ends.
	Rotate(ctx context.Context, id, secret string, overlap time.Duration) (buildcast.Endpoint, error)
}

// Deliveries is what was and is to be sent to the endpoints.
type Deliveries interface {
	// Test sends one request now and returns the outcome, also of a failure.
	Test(ctx context.Context, id string) (buildcast.Attempt, error)
	// Rewind has delivery of the build go on with the event.
	Rewind(ctx context.Context, id, buildID string, eventID int64) error
	Redeliver(ctx context.Context, r store.Redelivery) (int64, error)
	Deliveries(ctx context.Context, f store.DeliveryFilter) (store.DeliveryPage, error)
	Status(ctx context.Context) (buildcast.WebhookStatus, error)
}

// Webhooks is the service behind /api/webhooks.
type Webhooks interface {
	Endpoints
	Deliveries
}

const maxEndpointID = 64 // bytes

var (
	endpointParam   = stringParam{name: "endpointId", max: maxEndpointID, doc: "Only deliveries to this endpoint."}
	ofBuildParam    = stringParam{name: "buildId", max: 26, doc: "Only deliveries of this build's events."}
	deliveryParam   = stringParam{name: "state", enum: deliveryStates, doc: "Only deliveries that stand here."}
	deliveriesParam = intParam{"limit", 1, 200, 50, "How many deliveries to answer with at most."}

	deliveryStates = []string{string(buildcast.DeliveryRetrying), string(buildcast.DeliveryDelivered), string(buildcast.DeliveryDead)}
)

// endpointID is the endpoint's id in the request's path.
func endpointID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	return id, validateEndpointID(id, "id")
}

func validateEndpointID(id, field string) error {
	strange := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-'
	}
	if id == "" || len(id) > maxEndpointID || strings.ContainsFunc(id, strange) {
		return buildcast.Errorf(buildcast.InvalidArgument, "%s is not an endpoint's id: GET /api/webhooks/endpoints lists them", problem.Quote(id)).At(field)
	}
	return nil
}

// endpoints is the list of all endpoints.
type endpoints struct {
	Endpoints []buildcast.Endpoint `json:"endpoints" doc:"The oldest first"`
}

func (a *api) listEndpoints(w http.ResponseWriter, r *http.Request) error {
	found, err := a.Webhooks.Endpoints(r.Context())
	if err != nil {
		return err
	}
	return sendJSON(w, http.StatusOK, endpoints{append([]buildcast.Endpoint{}, found...)}) // [] and not null
}

func (a *api) createEndpoint(w http.ResponseWriter, r *http.Request) error {
	var asked buildcast.EndpointChange
	if err := a.bodies.Decode(w, r, &asked); err != nil {
		return err
	}
	if asked.URL == nil {
		return buildcast.Errorf(buildcast.InvalidArgument, "url is missing: give the address to send events to").At("url")
	}
	made, err := a.Webhooks.Create(r.Context(), asked)
	if err != nil {
		return err
	}
	w.Header().Set("Location", a.Prefix+"/api/webhooks/endpoints/"+made.ID)
	return sendJSON(w, http.StatusCreated, made)
}

func (a *api) getEndpoint(w http.ResponseWriter, r *http.Request) error {
	id, err := endpointID(r)
	if err != nil {
		return err
	}
	found, err := a.Webhooks.Endpoint(r.Context(), id)
	if err != nil {
		return err
	}
	return sendJSON(w, http.StatusOK, found)
}

func (a *api) changeEndpoint(w http.ResponseWriter, r *http.Request) error {
	id, err := endpointID(r)
	if err != nil {
		return err
	}
	var asked buildcast.EndpointChange
	if err := a.bodies.Decode(w, r, &asked); err != nil {
		return err
	}
	if asked.Secret != nil {
		return buildcast.Errorf(buildcast.InvalidArgument, "a secret is not changed here: rotate-secret changes it, and lets the one before sign for a while").At("secret")
	}
	changed, err := a.Webhooks.Change(r.Context(), id, asked)
	if err != nil {
		return err
	}
	return sendJSON(w, http.StatusOK, changed)
}

func (a *api) deleteEndpoint(w http.ResponseWriter, r *http.Request) error {
	id, err := endpointID(r)
	if err != nil {
		return err
	}
	if err := a.Webhooks.Delete(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// rotation is the body of a change of secret.
type rotation struct {
	Secret         string   `json:"secret,omitempty" doc:"The new one; made if it is absent"`
	OverlapSeconds *int64   `json:"overlapSeconds,omitempty" minimum:"0" maximum:"604800" default:"86400" doc:"How long the secret before signs as well"`
	_              struct{} `additionalProperties:"false"`
}

func (a *api) rotateSecret(w http.ResponseWriter, r *http.Request) error {
	id, err := endpointID(r)
	if err != nil {
		return err
	}
	var asked rotation
	if err := a.bodies.Decode(w, r, &asked); err != nil {
		return err
	}
	overlap := buildcast.DefaultSecretOverlap
	if s := asked.OverlapSeconds; s != nil {
		if *s < 0 || *s > int64(buildcast.MaxSecretOverlap/time.Second) {
			return buildcast.Errorf(buildcast.InvalidArgument, "overlapSeconds is %d: use 0 to %d", *s, buildcast.MaxSecretOverlap/time.Second).At("overlapSeconds")
		}
		overlap = time.Duration(*s) * time.Second
	}
	changed, err := a.Webhooks.Rotate(r.Context(), id, asked.Secret, overlap)
	if err != nil {
		return err
	}
	return sendJSON(w, http.StatusOK, changed)
}

// testEndpoint answers 200 also if the receiver fails: the attempt says so.
func (a *api) testEndpoint(w http.ResponseWriter, r *http.Request) error {
	id, err := endpointID(r)
	if err != nil {
		return err
	}
	attempt, err := a.Webhooks.Test(r.Context(), id)
	if err != nil {
		return err
	}
	return sendJSON(w, http.StatusOK, attempt)
}

// place is an event in a build's log.
type place struct {
	BuildID string   `json:"buildId" pattern:"^[A-Za-z0-9_-]{1,26}$"`
	EventID int64    `json:"eventId" minimum:"1"`
	_       struct{} `additionalProperties:"false"`
}

func (p place) validate() error {
	if err := buildcast.ValidateBuildID(p.BuildID); err != nil {
		return at(err, "buildId")
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
	if err := a.bodies.Decode(w, r, &to); err != nil {
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
	if err := a.bodies.Decode(w, r, &asked); err != nil {
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
	return sendJSON(w, http.StatusAccepted, redelivered{n})
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
	return sendJSON(w, http.StatusOK, deliveries{append([]buildcast.Delivery{}, found.Deliveries...), found.Next})
}

func readDeliveryFilter(r *http.Request) (f store.DeliveryFilter, err error) {
	q, err := query(r)
	if err != nil {
		return f, err
	}
	if f.EndpointID, err = endpointParam.read(q); err != nil {
		return f, err
	}
	if f.EndpointID != "" {
		if err := validateEndpointID(f.EndpointID, endpointParam.name); err != nil {
			return f, err
		}
	}
	if f.BuildID = q.Get(ofBuildParam.name); f.BuildID != "" {
		if err := buildcast.ValidateBuildID(f.BuildID); err != nil {
			return f, at(err, ofBuildParam.name)
		}
	}
	state, err := deliveryParam.read(q)
	if err != nil {
		return f, err
	}
	limit, err := deliveriesParam.read(q)
	if err != nil {
		return f, err
	}
	f.State, f.Limit = buildcast.DeliveryState(state), int(limit)
	f.Before, err = beforeParam.read(q)
	return f, err
}

func (a *api) webhookStatus(w http.ResponseWriter, r *http.Request) error {
	status, err := a.Webhooks.Status(r.Context())
	if err != nil {
		return err
	}
	return sendJSON(w, http.StatusOK, status)
}
