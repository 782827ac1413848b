package buildcast

import "encoding/json"

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
