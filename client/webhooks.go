package client

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
)

// testTimeout is more than a receiver may take to answer.
const testTimeout = time.Minute

// All that is about webhooks, reading too, needs an API key where the server
// has keys: Unauthenticated.

// Endpoints lists the receivers of webhooks, the oldest first.
func (c *Client) Endpoints(ctx context.Context) ([]buildcast.Endpoint, error) {
	var answer struct {
		Endpoints []buildcast.Endpoint `json:"endpoints"`
	}
	err := c.do(ctx, request{method: http.MethodGet, path: "webhooks/endpoints"}, &answer)
	return answer.Endpoints, err
}

// CreateEndpoint has events that are stored from now on sent to asked.URL. The
// answer holds the secret, which is never shown again. InvalidArgument.
func (c *Client) CreateEndpoint(ctx context.Context, asked buildcast.EndpointChange) (buildcast.Endpoint, error) {
	var e buildcast.Endpoint
	err := c.sendJSON(ctx, http.MethodPost, "webhooks/endpoints", asked, &e)
	return e, err
}

// Endpoint returns one receiver, without its secret. NotFound.
func (c *Client) Endpoint(ctx context.Context, id string) (buildcast.Endpoint, error) {
	var e buildcast.Endpoint
	err := c.onEndpoint(ctx, http.MethodGet, id, "", nil, &e)
	return e, err
}

// ChangeEndpoint changes what is set in asked. InvalidArgument, NotFound; Conflict
// where another change came between: the same call may be made again.
func (c *Client) ChangeEndpoint(ctx context.Context, id string, asked buildcast.EndpointChange) (buildcast.Endpoint, error) {
	var e buildcast.Endpoint
	err := c.onEndpoint(ctx, http.MethodPatch, id, "", asked, &e)
	return e, err
}

// DeleteEndpoint removes the endpoint, and what is still to be sent to it. NotFound.
func (c *Client) DeleteEndpoint(ctx context.Context, id string) error {
	return c.onEndpoint(ctx, http.MethodDelete, id, "", nil, nil)
}

// RotateSecret sets a new secret of the endpoint, made by the server where it is
// empty, and the answer holds it. The one before signs as well for the time of
// overlap, to the second and at most 7 days; with 0 it ends at once.
// InvalidArgument, NotFound.
func (c *Client) RotateSecret(ctx context.Context, id, secret string, overlap time.Duration) (buildcast.Endpoint, error) {
	asked := struct {
		Secret         string `json:"secret,omitempty"`
		OverlapSeconds int64  `json:"overlapSeconds"`
	}{secret, int64(overlap / time.Second)}
	var e buildcast.Endpoint
	err := c.onEndpoint(ctx, http.MethodPost, id, "/rotate-secret", asked, &e)
	return e, err
}

// TestEndpoint sends a request to the endpoint now and returns what came of it:
// the error is nil also where the receiver failed. NotFound.
func (c *Client) TestEndpoint(ctx context.Context, id string) (buildcast.Attempt, error) {
	var a buildcast.Attempt
	if err := validateEndpointID(id); err != nil {
		return a, err
	}
	err := c.do(ctx, request{method: http.MethodPost, path: "webhooks/endpoints/" + id + "/test", wait: testTimeout}, &a)
	return a, err
}

// place is an event in a build's log.
type place struct {
	BuildID string `json:"buildId"`
	EventID int64  `json:"eventId"`
}

// Rewind has delivery of the build's events to the endpoint go on with the one
// named, so that it and those after it are delivered again. InvalidArgument, NotFound.
func (c *Client) Rewind(ctx context.Context, id, buildID string, eventID int64) error {
	return c.onEndpoint(ctx, http.MethodPost, id, "/rewind", place{buildID, eventID}, nil)
}

// Redeliver has the event delivered to the endpoint again, whatever became of it
// before. InvalidArgument, NotFound.
func (c *Client) Redeliver(ctx context.Context, id, buildID string, eventID int64) error {
	return c.onEndpoint(ctx, http.MethodPost, id, "/redeliver", place{buildID, eventID}, nil)
}

// RedeliverDead does so with all deliveries to the endpoint that were given up
// at or after since, and returns how many. NotFound.
func (c *Client) RedeliverDead(ctx context.Context, id string, since time.Time) (int64, error) {
	asked := struct {
		Since buildcast.Time `json:"since"`
	}{buildcast.TimeOf(since)}
	var answer struct {
		Redelivered int64 `json:"redelivered"`
	}
	err := c.onEndpoint(ctx, http.MethodPost, id, "/redeliver", asked, &answer)
	return answer.Redelivered, err
}

// DeliveryFilter selects deliveries. The zero value is the first page of all.
type DeliveryFilter struct {
	EndpointID string                  // empty: to any
	BuildID    string                  // empty: of any
	State      buildcast.DeliveryState // empty: any
	Before     string                  // the Next of the page before; empty: the first page
	Limit      int                     // of one page; 0: the server's own
}

// DeliveryPage is one page of deliveries, the newest first.
type DeliveryPage struct {
	Deliveries []buildcast.Delivery `json:"deliveries"`
	Next       string               `json:"next"` // the next page's Before; empty: this was the last
}

// Deliveries lists events that were not delivered at their first attempt, or
// were delivered again, page by page. InvalidArgument.
func (c *Client) Deliveries(ctx context.Context, f DeliveryFilter) (DeliveryPage, error) {
	q := url.Values{}
	set(q, "endpointId", f.EndpointID)
	set(q, "buildId", f.BuildID)
	set(q, "state", string(f.State))
	set(q, "before", f.Before)
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	var p DeliveryPage
	err := c.do(ctx, request{method: http.MethodGet, path: "webhooks/deliveries", query: q}, &p)
	return p, err
}

// WebhookStatus returns how deliveries stand, by endpoint, and how the log grows.
func (c *Client) WebhookStatus(ctx context.Context) (buildcast.WebhookStatus, error) {
	var s buildcast.WebhookStatus
	err := c.do(ctx, request{method: http.MethodGet, path: "webhooks/status"}, &s)
	return s, err
}

// onEndpoint makes a request about one endpoint, with asked as its body where it is not nil.
func (c *Client) onEndpoint(ctx context.Context, method, id, below string, asked, answer any) error {
	if err := validateEndpointID(id); err != nil {
		return err
	}
	return c.sendJSON(ctx, method, "webhooks/endpoints/"+id+below, asked, answer)
}

func (c *Client) sendJSON(ctx context.Context, method, path string, asked, answer any) error {
	r := request{method: method, path: path}
	if asked != nil {
		var body bytes.Buffer
		if err := encoder(&body).Encode(asked); err != nil {
			return err
		}
		r.header, r.body = http.Header{"Content-Type": {jsonType}}, &body
	}
	return c.do(ctx, r, answer)
}

// validateEndpointID keeps an id from becoming another path.
func validateEndpointID(id string) error {
	if id == "" || id == "." || id == ".." || strings.ContainsAny(id, "/?#%") {
		return invalid("id", "an endpoint's id is missing or is none: Endpoints lists them")
	}
	return nil
}
