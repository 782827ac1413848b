package counts

import (
	"context"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/buildcast/buildcast"
)

// Windows are the spans of time that are summed up, by the name that the API
// gives them.
var Windows = map[string]time.Duration{"1h": time.Hour, "24h": 24 * time.Hour, "7d": Retention}

// Retention is how long counts are kept: as long as the longest window.
const Retention = 7 * 24 * time.Hour

// Numbers are what one endpoint, or the log, did in one bucket or window.
type Numbers struct {
	Delivered int64 `json:"delivered,omitempty"` // events
	Failed    int64 `json:"failed,omitempty"`    // attempts
	// Took counts the deliveries by how long they took; see step.
	Took   map[int]int64 `json:"took,omitempty"`
	Events int64         `json:"events,omitempty"` // stored
	Bytes  int64         `json:"bytes,omitempty"`  // of their data
}

// step is the power of 1.2 that reaches the duration in microseconds.
func step(d time.Duration) int {
	return int(math.Ceil(math.Log(float64(max(d.Microseconds(), 1))) / math.Log(1.2)))
}

// milliseconds is the upper end of a step.
func milliseconds(step int) float64 {
	return math.Round(math.Pow(1.2, float64(step))) / 1000
}

func (n *Numbers) add(m *Numbers) {
	n.Delivered += m.Delivered
	n.Failed += m.Failed
	n.Events += m.Events
	n.Bytes += m.Bytes
	for s, count := range m.Took {
		n.took(s, count)
	}
}

func (n *Numbers) took(step int, count int64) {
	if n.Took == nil {
		n.Took = map[int]int64{}
	}
	n.Took[step] += count
}

// Deliveries is what the API shows of an endpoint's numbers.
func (n *Numbers) Deliveries() buildcast.DeliveryWindow {
	w := buildcast.DeliveryWindow{Delivered: n.Delivered, Failed: n.Failed}
	if all := n.Delivered + n.Failed; all > 0 {
		w.Success = new(float64(n.Delivered) / float64(all))
	}
	w.P50MS, w.P99MS = n.quantile(0.5), n.quantile(0.99)
	return w
}

// Log is what the API shows of the log's numbers.
func (n *Numbers) Log() buildcast.LogWindow {
	return buildcast.LogWindow{Events: n.Events, Bytes: n.Bytes}
}

// quantile is the time within which the given share of deliveries was done; nil
// without deliveries.
func (n *Numbers) quantile(share float64) *float64 {
	var all, seen int64
	for _, count := range n.Took {
		all += count
	}
	for _, s := range slices.Sorted(maps.Keys(n.Took)) {
		if seen += n.Took[s]; float64(seen) >= share*float64(all) {
			return new(milliseconds(s))
		}
	}
	return nil
}

// Sums are the numbers of endpoints, and of the log, by window.
type Sums map[sum]*Numbers

// sum names one endpoint's numbers in one window.
type sum struct{ endpoint, window string }

// Of returns an endpoint's numbers in one of Windows. The empty id has the log's.
func (s Sums) Of(endpointID, window string) *Numbers {
	if n := s[sum{endpointID, window}]; n != nil {
		return n
	}
	return &Numbers{}
}

// Read sums up what all nodes have stored.
func Read(ctx context.Context, from Store, now time.Time) (Sums, error) {
	rows, err := from.ReadCounts(ctx, now.Add(-Retention))
	if err != nil {
		return nil, err
	}
	sums := Sums{}
	for _, row := range rows {
		var n Numbers
		if json.Unmarshal(row.Numbers, &n) != nil {
			continue // another version's: nothing depends on it
		}
		for window, length := range Windows {
			if row.Bucket.Add(bucketTime).Before(now.Add(-length)) {
				continue
			}
			at := sum{row.EndpointID, window}
			if sums[at] == nil {
				sums[at] = &Numbers{}
			}
			sums[at].add(&n)
		}
	}
	return sums, nil
}
