package buildcast

import "encoding/json"

// Attempt is one request that was made to deliver an event.
type Attempt struct {
	At         Time  `json:"at"`
	DurationMS int64 `json:"durationMs"`
	// Status is the answer's HTTP status. It is 0 if there was no answer: Error says why.
	Status int    `json:"status"`
	Error  string `json:"error,omitempty"`
	// Response is the beginning of the answer's body, at most 8 KB.
	Response string `json:"response,omitempty"`
}

// Delivery is an event whose first attempt failed, or that a user asked to deliver
// again, with its latest attempts.
type Delivery struct {
	EndpointID string        `json:"endpointId"`
	BuildID    string        `json:"buildId"`
	EventID    int64         `json:"eventId"`
	EventType  string        `json:"eventType"`
	State      DeliveryState `json:"state"`
	// Tries counts the attempts that the retry schedule counts: all of them, or those
	// since a user last asked to deliver the event again.
	Tries int `json:"tries"`
	// Attempts are the latest attempts, at most 20, the oldest first.
	Attempts []Attempt `json:"attempts"`
	// RetryAt is the time of the next attempt, if State is retrying.
	RetryAt   *Time `json:"retryAt,omitempty"`
	CreatedAt Time  `json:"createdAt"`
	UpdatedAt Time  `json:"updatedAt"`
}

// DeliveryState is the state of a delivery.
type DeliveryState string

// The states of a delivery.
const (
	DeliveryRetrying  DeliveryState = "retrying"
	DeliveryDelivered DeliveryState = "delivered"
	DeliveryDead      DeliveryState = "dead" // given up; it can be redelivered
)

// WebhookPayload is the body of a webhook request: the event, without its data if
// the endpoint's payload is thin.
type WebhookPayload struct {
	BuildID   string          `json:"buildId"`
	ID        int64           `json:"id"`
	Type      string          `json:"type"`
	Data      json.RawMessage `json:"data,omitempty"`
	Progress  int             `json:"progress"`
	Timestamp Time            `json:"timestamp"`
}
