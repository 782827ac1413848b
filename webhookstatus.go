package buildcast

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
