package buildcast

import (
	"path"
	"slices"
	"time"
)

// How long a replaced secret of an endpoint signs requests too, beside the new one.
const (
	DefaultSecretOverlap = 24 * time.Hour
	MaxSecretOverlap     = 7 * 24 * time.Hour
)

// OperationsBuild is the id of the log in which buildcast reports on its own
// webhooks: that a breaker has opened or closed, that an endpoint was disabled, and
// that a delivery was given up. It is read like any build's log. Its events are sent
// only to endpoints that name it in Builds.
const OperationsBuild = "_operations"

// Endpoint is a receiver of webhooks.
type Endpoint struct {
	ID          string `json:"id"`
	URL         string `json:"url"`
	Description string `json:"description"`
	// Types are the event types that are sent, with * for any run of characters,
	// such as task_*; empty: all.
	Types []string `json:"types"`
	// Builds and Projects select the builds whose events are sent: those that either
	// list names; both empty: all.
	Builds   []string `json:"builds"`
	Projects []string `json:"projects"`
	// Headers are sent with each request, in addition to buildcast's own. Answers of
	// the API hide their values.
	Headers map[string]string `json:"headers"`
	// RateLimit is the maximum of requests per second that one node sends; 0: no limit.
	RateLimit int `json:"rateLimit"`
	// TimeoutMS bounds an attempt, from the DNS query to the last byte of the answer.
	TimeoutMS int      `json:"timeoutMs"`
	Ordering  Ordering `json:"ordering"`
	Payload   Payload  `json:"payload"`
	Enabled   bool     `json:"enabled"`
	// DisabledReason says why buildcast disabled the endpoint; empty if a user did.
	DisabledReason string `json:"disabledReason,omitempty"`
	// Secret signs the requests. Only the answer to the request that made it shows it.
	Secret string `json:"secret,omitempty"`
	// PreviousSecretUntil is the time until which the previous secret signs too.
	PreviousSecretUntil *Time   `json:"previousSecretUntil,omitempty"`
	Breaker             Breaker `json:"breaker"`
	CreatedAt           Time    `json:"createdAt"`
	UpdatedAt           Time    `json:"updatedAt"`
}

// Ordering says what happens to a build's later events while one is retried.
type Ordering string

// The orderings.
const (
	OrderingNormal Ordering = "normal" // they are sent
	OrderingStrict Ordering = "strict" // they wait until that one is delivered or given up
)

// Payload says what a request's body holds.
type Payload string

// The payloads.
const (
	PayloadFull Payload = "full" // the event
	PayloadThin Payload = "thin" // the event without its data: the receiver fetches it
)

// Breaker stops the requests to an endpoint that fails.
type Breaker struct {
	State BreakerState `json:"state"`
	// Failures counts the probes that have failed since it opened.
	Failures int `json:"failures"`
	// OpenedAt and ProbeAt are set while it is not closed.
	OpenedAt *Time `json:"openedAt,omitempty"`
	ProbeAt  *Time `json:"probeAt,omitempty"`
	// Reason is the failure of the last probe, or the one that opened the breaker.
	Reason string `json:"reason,omitempty"`
}

// BreakerState is the state of a breaker.
type BreakerState string

// The states of a breaker.
const (
	BreakerClosed   BreakerState = "closed"    // events are sent
	BreakerOpen     BreakerState = "open"      // they wait at their cursors
	BreakerHalfOpen BreakerState = "half_open" // one is sent as a probe
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

// EndpointChange creates or changes an endpoint. A field that is nil gets its default
// in a new endpoint, and stays as it is in an existing one.
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
	// Secret is only for a new endpoint; nil: buildcast makes one.
	Secret *string `json:"secret,omitempty"`
}
