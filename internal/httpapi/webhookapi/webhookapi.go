// Package webhookapi is the part of the REST API below /api/webhooks: the endpoints,
// and what was and is to be sent to them.
package webhookapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/openapi"
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

// Config is what the routes need.
type Config struct {
	Webhooks Webhooks // nil: all routes answer 404
	Bodies   *body.Bodies
	// Prefix is the path of the server's public URL, for links.
	Prefix string
}

type handler = func(w http.ResponseWriter, r *http.Request) error

type api struct {
	Config
	doc    openapi.Document
	handle func(op *huma.Operation, serve handler)
}

// Add adds the routes to the document. handle serves an operation, with what all
// operations have in common.
func Add(c Config, doc openapi.Document, handle func(op *huma.Operation, serve handler)) {
	a := &api{c, doc, handle}
	a.endpointRoutes()
	a.deliveryRoutes()
	a.describeWebhook()
}
