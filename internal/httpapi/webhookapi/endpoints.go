package webhookapi

import (
	"net/http"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
)

const maxEndpointID = 64 // bytes

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
	return body.SendJSON(w, http.StatusOK, endpoints{append([]buildcast.Endpoint{}, found...)}) // [] and not null
}

func (a *api) createEndpoint(w http.ResponseWriter, r *http.Request) error {
	var asked buildcast.EndpointChange
	if err := a.Bodies.Decode(w, r, &asked); err != nil {
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
	return body.SendJSON(w, http.StatusCreated, made)
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
	return body.SendJSON(w, http.StatusOK, found)
}

func (a *api) changeEndpoint(w http.ResponseWriter, r *http.Request) error {
	id, err := endpointID(r)
	if err != nil {
		return err
	}
	var asked buildcast.EndpointChange
	if err := a.Bodies.Decode(w, r, &asked); err != nil {
		return err
	}
	if asked.Secret != nil {
		return buildcast.Errorf(buildcast.InvalidArgument, "a secret is not changed here: rotate-secret changes it, and lets the one before sign for a while").At("secret")
	}
	changed, err := a.Webhooks.Change(r.Context(), id, asked)
	if err != nil {
		return err
	}
	return body.SendJSON(w, http.StatusOK, changed)
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
	if err := a.Bodies.Decode(w, r, &asked); err != nil {
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
	return body.SendJSON(w, http.StatusOK, changed)
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
	return body.SendJSON(w, http.StatusOK, attempt)
}
