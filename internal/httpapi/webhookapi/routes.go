package webhookapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/openapi"
	"github.com/buildcast/buildcast/internal/httpapi/query"
)

// add adds an operation on webhooks: with a key only, reading too, and never from a
// cache, for a secret may be in the answer.
func (a *api) add(op *huma.Operation, serve handler) {
	op.Tags, op.Security = []string{"webhooks"}, openapi.NeedsKey
	a.handle(op, func(w http.ResponseWriter, r *http.Request) error {
		if a.Webhooks == nil {
			return buildcast.Errorf(buildcast.NotFound, "this server sends no webhooks")
		}
		w.Header().Set("Cache-Control", "no-store")
		return serve(w, r)
	})
}

const (
	endpointsPath = "/api/webhooks/endpoints"
	endpointPath  = endpointsPath + "/{id}"
)

var (
	keyProblems     = openapi.Problems(buildcast.InvalidArgument, buildcast.Unauthenticated, buildcast.PermissionDenied, buildcast.StoreUnavailable)
	onEndpoint      = openapi.Problems(buildcast.InvalidArgument, buildcast.NotFound)
	changedEndpoint = openapi.Problems(buildcast.Conflict)
)

func (a *api) endpointRoutes() {
	change := openapi.Content[buildcast.EndpointChange](a.doc, body.JSON)
	change[body.JSON].Example = map[string]any{
		"url": "https://example.com/hooks/builds", "types": []string{"task_*", "deploy_completed"}, "projects": []string{"web"},
	}
	a.add(&huma.Operation{
		Method: http.MethodGet, Path: endpointsPath, OperationID: "listEndpoints", Summary: "List the endpoints", Description: "Without their secrets.",
		Responses: a.doc.Answers(openapi.Answer[endpoints](http.StatusOK, "All of them."), keyProblems),
	}, a.listEndpoints)
	a.add(&huma.Operation{
		Method: http.MethodPost, Path: endpointsPath, OperationID: "createEndpoint", Summary: "Have events sent to an address",
		Description: "Events that are stored from now on are sent. The url is needed; what else is left out has its default.",
		RequestBody: openapi.Body(true, change),
		Responses: a.doc.Answers(openapi.Answer[buildcast.Endpoint](http.StatusCreated, "The endpoint, with its secret, which is never shown again."),
			openapi.Problems(buildcast.InvalidArgument, buildcast.Conflict), openapi.WriteProblems),
	}, a.createEndpoint)
	a.add(&huma.Operation{
		Method: http.MethodGet, Path: endpointPath, OperationID: "getEndpoint", Summary: "Get an endpoint", Description: "With how its receiver fares, and without its secret.", Parameters: endpointInPath(),
		Responses: a.doc.Answers(openapi.Answer[buildcast.Endpoint](http.StatusOK, "The endpoint, without its secret."), onEndpoint, keyProblems),
	}, a.getEndpoint)
	a.add(&huma.Operation{
		Method: http.MethodPatch, Path: endpointPath, OperationID: "changeEndpoint", Summary: "Change an endpoint", Parameters: endpointInPath(),
		Description: "Fields that are left out stay as they are. A disabled endpoint is enabled again with enabled: true.",
		RequestBody: openapi.Body(true, change),
		Responses:   a.doc.Answers(openapi.Answer[buildcast.Endpoint](http.StatusOK, "The endpoint after the change."), onEndpoint, changedEndpoint, openapi.WriteProblems),
	}, a.changeEndpoint)
	a.add(&huma.Operation{
		Method: http.MethodDelete, Path: endpointPath, OperationID: "deleteEndpoint", Summary: "Delete an endpoint and what is still to be sent to it", Description: "A request that is under way may still arrive.",
		Parameters: endpointInPath(),
		Responses:  a.doc.Answers(openapi.Empty(http.StatusNoContent, "It is gone."), onEndpoint, keyProblems),
	}, a.deleteEndpoint)
	rotate := openapi.Content[rotation](a.doc, body.JSON)
	rotate[body.JSON].Example = map[string]any{"overlapSeconds": int(buildcast.DefaultSecretOverlap.Seconds())}
	a.add(&huma.Operation{
		Method: http.MethodPost, Path: endpointPath + "/rotate-secret", OperationID: "rotateSecret", Summary: "Give an endpoint a new secret",
		Description: "Requests carry the signatures of both secrets until the overlap ends. With an overlap of 0 the secret before ends at once.",
		Parameters:  endpointInPath(), RequestBody: openapi.Body(false, rotate),
		Responses: a.doc.Answers(openapi.Answer[buildcast.Endpoint](http.StatusOK, "The endpoint, with its new secret, which is never shown again."),
			onEndpoint, changedEndpoint, openapi.WriteProblems),
	}, a.rotateSecret)
	a.add(&huma.Operation{
		Method: http.MethodPost, Path: endpointPath + "/test", OperationID: "testEndpoint", Summary: "Send a request to an endpoint now", Description: "It is a ping, sent once; it leaves no delivery. If it arrives, the breaker closes.",
		Parameters: endpointInPath(),
		Responses:  a.doc.Answers(openapi.Answer[buildcast.Attempt](http.StatusOK, "What the receiver said, or why it said nothing."), onEndpoint, keyProblems),
	}, a.testEndpoint)
}

func (a *api) deliveryRoutes() {
	event := map[string]any{"buildId": "27", "eventId": 7}
	to := openapi.Content[place](a.doc, body.JSON)
	to[body.JSON].Example = event
	a.add(&huma.Operation{
		Method: http.MethodPost, Path: endpointPath + "/rewind", OperationID: "rewindEndpoint", Summary: "Deliver a build's events again, from one of them on", Description: "Events that were delivered before are sent again, with the same webhook-id.",
		Parameters: endpointInPath(), RequestBody: openapi.Body(true, to),
		Responses: a.doc.Answers(openapi.Empty(http.StatusAccepted, "Delivery goes on with that event."), onEndpoint, openapi.WriteProblems),
	}, a.rewindEndpoint)
	again := openapi.Content[redelivery](a.doc, body.JSON)
	again[body.JSON].Examples = map[string]*huma.Example{
		"one event": {Value: event},
		"all dead":  {Value: map[string]any{"since": "2026-11-23T00:00:00Z"}},
	}
	a.add(&huma.Operation{
		Method: http.MethodPost, Path: endpointPath + "/redeliver", OperationID: "redeliver", Summary: "Deliver one event again, or all that were given up", Description: "Name one event by buildId and eventId, or all that were given up since a time.",
		Parameters: endpointInPath(), RequestBody: openapi.Body(true, again),
		Responses: a.doc.Answers(openapi.Answer[redelivered](http.StatusAccepted, "They are due at once, and tried as if for the first time."), onEndpoint, openapi.WriteProblems),
	}, a.redeliver)
	a.add(&huma.Operation{
		Method: http.MethodGet, Path: "/api/webhooks/deliveries", OperationID: "listDeliveries",
		Summary:     "List deliveries that did not go well at once, the newest first",
		Description: "Events that were delivered at their first attempt leave no delivery.",
		Parameters:  query.Describe(endpointParam, ofBuildParam, deliveryParam, deliveriesParam, beforeParam),
		Responses:   a.doc.Answers(openapi.Answer[deliveries](http.StatusOK, "One page of them."), openapi.Problems(buildcast.InvalidArgument), keyProblems),
	}, a.listDeliveries)
	a.add(&huma.Operation{
		Method: http.MethodGet, Path: "/api/webhooks/status", OperationID: "webhookStatus", Summary: "How deliveries stand, by endpoint, and how the log grows", Description: "Counts of the last hour, day and week.",
		Responses: a.doc.Answers(openapi.Answer[buildcast.WebhookStatus](http.StatusOK, "As it is now."), keyProblems),
	}, a.webhookStatus)
}

// describeWebhook says what receivers get.
func (a *api) describeWebhook() {
	header := func(name, what string) *huma.Param {
		return &huma.Param{Name: name, In: "header", Required: true, Description: what, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	payload := openapi.Content[buildcast.WebhookPayload](a.doc, body.JSON)
	payload[body.JSON].Schema = a.doc.Schemas().Map()["WebhookPayload"] // see schema.Complete
	a.doc.Webhooks = map[string]*huma.PathItem{"event": {Post: &huma.Operation{
		OperationID: "receiveEvent", Tags: []string{"webhooks"}, Summary: "An event, as it is sent to an endpoint",
		Description: "At least once: an event may come again, with the same webhook-id. Any 2xx is taken as received; 410 disables the endpoint.",
		Parameters: []*huma.Param{
			header("webhook-id", "The same for every attempt at this event"),
			header("webhook-timestamp", "Of the attempt, in seconds since 1970"),
			header("webhook-signature", "v1, and the base64 HMAC-SHA256 of id.timestamp.body by the secret; one for each secret, with a space between (Standard Webhooks)"),
			header("X-Webhook-Signature", "The hex HMAC-SHA256 of the body by the secret as it is written"),
		},
		RequestBody: openapi.Body(true, payload),
		Responses:   a.doc.Answers(openapi.Empty(http.StatusNoContent, "It is received.")),
	}}}
}

func endpointInPath() []*huma.Param {
	longest := maxEndpointID
	return []*huma.Param{{
		Name: "id", In: "path", Required: true, Description: "The endpoint's id.",
		Schema: &huma.Schema{Type: huma.TypeString, Pattern: "^[A-Za-z0-9_-]+$", MaxLength: &longest},
	}}
}
