package buildcast

import (
	"encoding/json"
	"path"
	"slices"
)

// OperationsBuild is the log that buildcast keeps about its own webhooks: an
// endpoint that is opened by its breaker, closed, or disabled, and deliveries
// that are given up. It is followed like any build's log. Only an endpoint that
// names it in Builds is sent its events.
const OperationsBuild = "_operations"

// Endpoint is a receiver of webhooks.
type Endpoint struct {
	ID          string `json:"id"`
	URL         string `json:"url"`
	Description string `json:"description"`
	// Types are the event types that are sent, with * for any run of characters,
	// such as task_*; empty: all.
	Types []string `json:"types"`
	// Builds and Projects are those whose events are sent; both empty: all. A
	// build is sent where either names it.
	Builds   []string `json:"builds"`
	Projects []string `json:"projects"`
	// Headers are sent with each request, beside buildcast's own. Their values
	// are not shown.
	Headers map[string]string `json:"headers"`
	// RateLimit is how many requests a second one node sends at most; 0: no limit.
	RateLimit int `json:"rateLimit"`
	// TimeoutMS bounds an attempt, from the DNS query to the last byte of the answer.
	TimeoutMS int      `json:"timeoutMs"`
	Ordering  Ordering `json:"ordering"`
	Payload   Payload  `json:"payload"`
	Enabled   bool     `json:"enabled"`
	// DisabledReason says why it is not enabled, where it is the receiver's doing.
	DisabledReason string `json:"disabledReason,omitempty"`
	// Secret signs the requests. It is shown in the answer that made it, and never again.
	Secret string `json:"secret,omitempty"`
	// PreviousSecretUntil is when the secret before, which signs as well, ends.
	PreviousSecretUntil *Time   `json:"previousSecretUntil,omitempty"`
	Breaker             Breaker `json:"breaker"`
	CreatedAt           Time    `json:"createdAt"`
	UpdatedAt           Time    `json:"updatedAt"`
}

// Ordering says what becomes of a build's later events while one is retried.
type Ordering string

// The orderings.
const (
	OrderingNormal Ordering = "normal" // they go on
	OrderingStrict Ordering = "strict" // they wait until it is delivered or given up
)

// Payload says what a request's body holds.
type Payload string

// The payloads.
const (
	PayloadFull Payload = "full" // the event
	PayloadThin Payload = "thin" // the event without its data: the receiver fetches it
)

// Breaker is what keeps an endpoint that fails from being sent to.
type Breaker struct {
	State BreakerState `json:"state"`
	// Failures is how many probes have failed since it opened.
	Failures int `json:"failures"`
	// OpenedAt and ProbeAt are set while it is not closed.
	OpenedAt *Time `json:"openedAt,omitempty"`
	ProbeAt  *Time `json:"probeAt,omitempty"`
	// Reason is the failure that opened it, or the last probe's.
	Reason string `json:"reason,omitempty"`
}

// BreakerState is where a breaker stands.
type BreakerState string

// The states of a breaker.
const (
	BreakerClosed   BreakerState = "closed"    // events are sent
	BreakerOpen     BreakerState = "open"      // they wait at their cursors
	BreakerHalfOpen BreakerState = "half_open" // one is being tried
)

// Matches reports whether events of the type are sent to the endpoint.
func (e *Endpoint) Matches(eventType string) bool {
	return len(e.Types) == 0 || slices.ContainsFunc(e.Types, func(pattern string) bool {
		ok, err := path.Match(pattern, eventType)
		return err == nil && ok
	})
}

// Follows reports whether events of the build are sent to the endpoint.
func (e *Endpoint) Follows(buildID, project string) bool {
	if slices.Contains(e.Builds, buildID) {
		return true
	}
	if buildID == OperationsBuild {
		return false
	}
	return slices.Contains(e.Projects, project) || len(e.Builds) == 0 && len(e.Projects) == 0
}

// EndpointChange is what an endpoint is made from, and what is to be changed of
// one: fields that are nil stay, or get their defaults.
type EndpointChange struct {
	URL         *string            `json:"url,omitempty"`
	Description *string            `json:"description,omitempty"`
	Types       *[]string          `json:"types,omitempty"`
	Builds      *[]string          `json:"builds,omitempty"`
	Projects    *[]string          `json:"projects,omitempty"`
	Headers     *map[string]string `json:"headers,omitempty"`
	RateLimit   *int               `json:"rateLimit,omitempty"`
	TimeoutMS   *int               `json:"timeoutMs,omitempty"`
	Ordering    *Ordering          `json:"ordering,omitempty"`
	Payload     *Payload           `json:"payload,omitempty"`
	Enabled     *bool              `json:"enabled,omitempty"`
	// Secret is only for a new endpoint; it is made where it is left out.
	Secret *string `json:"secret,omitempty"`
}

// Attempt is one request that was made to deliver an event.
type Attempt struct {
	At         Time  `json:"at"`
	DurationMS int64 `json:"durationMs"`
	// Status is the answer's HTTP status; 0: there was no answer, and Error says why.
	Status int    `json:"status"`
	Error  string `json:"error,omitempty"`
	// Response is the beginning of the answer's body, at most 8 KB.
	Response string `json:"response,omitempty"`
}

// Delivery is an event that was not delivered at its first attempt, or was asked
// to be delivered again, with all attempts so far.
type Delivery struct {
	EndpointID string        `json:"endpointId"`
	BuildID    string        `json:"buildId"`
	EventID    int64         `json:"eventId"`
	EventType  string        `json:"eventType"`
	State      DeliveryState `json:"state"`
	// Tries is how many attempts count against the schedule: those since it was
	// first tried or last asked for again.
	Tries int `json:"tries"`
	// Attempts are the latest attempts, the oldest first, 20 at most.
	Attempts []Attempt `json:"attempts"`
	// RetryAt is when it is tried next, while it is retrying.
	RetryAt   *Time `json:"retryAt,omitempty"`
	CreatedAt Time  `json:"createdAt"`
	UpdatedAt Time  `json:"updatedAt"`
}

// DeliveryState is where a delivery stands.
type DeliveryState string

// The states of a delivery.
const (
	DeliveryRetrying  DeliveryState = "retrying"
	DeliveryDelivered DeliveryState = "delivered"
	DeliveryDead      DeliveryState = "dead" // given up; it can be redelivered
)

// WebhookPayload is the body of a request: the event, and for a thin one no data.
type WebhookPayload struct {
	BuildID   string          `json:"buildId"`
	ID        int64           `json:"id"`
	Type      string          `json:"type"`
	Data      json.RawMessage `json:"data,omitempty"`
	Progress  int             `json:"progress"`
	Timestamp Time            `json:"timestamp"`
}

// WebhookStatus is how deliveries to all endpoints stand.
type WebhookStatus struct {
	Endpoints []EndpointStatus `json:"endpoints"`
	Log       LogStatus        `json:"log"`
}

// EndpointStatus is how deliveries to one endpoint stand.
type EndpointStatus struct {
	EndpointID string  `json:"endpointId"`
	URL        string  `json:"url"`
	Enabled    bool    `json:"enabled"`
	Breaker    Breaker `json:"breaker"`
	// Backlog is how many events wait at the endpoint's cursors; some may not
	// match its types. Cursors is how many builds they are of.
	Backlog int64 `json:"backlog"`
	Cursors int64 `json:"cursors"`
	// Retrying and Dead count deliveries in these states now.
	Retrying int64 `json:"retrying"`
	Dead     int64 `json:"dead"`
	// Windows are the last hour, day and 7 days, to five minutes.
	Windows map[string]DeliveryWindow `json:"windows"` // 1h, 24h, 7d
}

// DeliveryWindow is what happened in a span of time up to now.
type DeliveryWindow struct {
	Delivered int64 `json:"delivered"` // events
	Failed    int64 `json:"failed"`    // attempts
	// Success is the share of attempts that were answered with 2xx, 0 to 1; null
	// where there was none.
	Success *float64 `json:"success"`
	// P50MS and P99MS are how long the receiver took to answer with 2xx, in
	// milliseconds, to within a fifth; null where there was none.
	P50MS *float64 `json:"p50Ms"`
	P99MS *float64 `json:"p99Ms"`
}

// LogStatus is how the log grows.
type LogStatus struct {
	// Bytes is what the database takes up on disk.
	Bytes int64 `json:"bytes"`
	// Windows are the events stored in the last hour, day and 7 days.
	Windows map[string]LogWindow `json:"windows"`
}

// LogWindow is what was stored in a span of time up to now.
type LogWindow struct {
	Events int64 `json:"events"`
	Bytes  int64 `json:"bytes"` // of their data
}
