package buildcast

import (
	"path"
	"slices"
	"time"
)

// How long an endpoint's secret signs requests beside the one that replaced it.
const (
	DefaultSecretOverlap = 24 * time.Hour
	MaxSecretOverlap     = 7 * 24 * time.Hour
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
