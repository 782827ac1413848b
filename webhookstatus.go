package buildcast

// WebhookStatus is the state of the deliveries to all endpoints.
type WebhookStatus struct {
	Endpoints []EndpointStatus `json:"endpoints"`
	Log       LogStatus        `json:"log"`
}

// EndpointStatus is the state of the deliveries to one endpoint.
type EndpointStatus struct {
	EndpointID string  `json:"endpointId"`
	URL        string  `json:"url"`
	Enabled    bool    `json:"enabled"`
	Breaker    Breaker `json:"breaker"`
	// Backlog counts the events that wait at the endpoint's cursors, including those
	// whose types it does not follow. Cursors counts the builds that they belong to.
	Backlog int64 `json:"backlog"`
	Cursors int64 `json:"cursors"`
	// Retrying and Dead count deliveries in these states now.
	Retrying int64 `json:"retrying"`
	Dead     int64 `json:"dead"`
	// Windows are the last hour, day and 7 days, with a precision of five minutes.
	Windows map[string]DeliveryWindow `json:"windows"` // 1h, 24h, 7d
}

// DeliveryWindow is what happened in a span of time up to now.
type DeliveryWindow struct {
	Delivered int64 `json:"delivered"` // events
	Failed    int64 `json:"failed"`    // attempts
	// Success is the share of attempts that were answered with 2xx, 0 to 1; null if
	// there was no attempt.
	Success *float64 `json:"success"`
	// P50MS and P99MS are how long the receiver took to answer with 2xx, in
	// milliseconds, with an error of at most a fifth; null if there was no such answer.
	P50MS *float64 `json:"p50Ms"`
	P99MS *float64 `json:"p99Ms"`
}

// LogStatus is the size of the log and its growth.
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
