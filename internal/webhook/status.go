package webhook

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
)

// statusAge is how old a status may be that is shown: it is read from many rows.
const statusAge = 2 * time.Second

// windows are the spans of time that a status sums up.
var windows = map[string]time.Duration{"1h": time.Hour, "24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour}

type statusCache struct {
	mu     sync.Mutex // held while it is read: others wait for the same answer
	at     time.Time
	status buildcast.WebhookStatus
}

// forget has the status read anew: who has changed an endpoint wants to see it.
func (c *statusCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = time.Time{}
}

// Status is how deliveries stand, at most two seconds old.
func (s *Service) Status(ctx context.Context) (buildcast.WebhookStatus, error) {
	c := &s.statuses
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) < statusAge {
		return c.status, nil
	}
	status, err := s.readStatus(ctx)
	if err == nil {
		c.at, c.status = time.Now(), status
	}
	return status, err
}

func (s *Service) readStatus(ctx context.Context) (status buildcast.WebhookStatus, err error) {
	if err := s.flush(ctx); err != nil {
		return status, err
	}
	endpoints, err := s.Store.ListEndpoints(ctx)
	if err != nil {
		return status, err
	}
	waiting, err := s.Store.Waiting(ctx)
	if err != nil {
		return status, err
	}
	sums, err := s.sums(ctx, time.Now())
	if err != nil {
		return status, err
	}
	if status.Log.Bytes, err = s.Store.Size(ctx); err != nil {
		return status, err
	}
	status.Log.Windows = map[string]buildcast.LogWindow{}
	for window := range windows {
		n := sums[sum{"", window}]
		status.Log.Windows[window] = buildcast.LogWindow{Events: n.Events, Bytes: n.Bytes}
	}
	status.Endpoints = make([]buildcast.EndpointStatus, len(endpoints))
	for i, e := range endpoints {
		w := waiting[e.ID]
		status.Endpoints[i] = buildcast.EndpointStatus{
			EndpointID: e.ID, URL: e.URL, Enabled: s.show(e).Enabled, Breaker: e.Breaker,
			Backlog: w.Events, Cursors: w.Cursors, Retrying: w.Retrying, Dead: w.Dead,
			Windows: map[string]buildcast.DeliveryWindow{},
		}
		for window := range windows {
			n := sums[sum{e.ID, window}]
			status.Endpoints[i].Windows[window] = n.window()
		}
	}
	return status, nil
}

// sum names the sum of one endpoint's counts over one window.
type sum struct{ endpoint, window string }

func (s *Service) sums(ctx context.Context, now time.Time) (map[sum]numbers, error) {
	rows, err := s.Store.ReadCounts(ctx, now.Add(-windows["7d"]))
	if err != nil {
		return nil, err
	}
	sums := map[sum]numbers{}
	for _, row := range rows {
		var n numbers
		if json.Unmarshal(row.Numbers, &n) != nil {
			continue // another version's: nothing hangs on it
		}
		for window, length := range windows {
			if row.Bucket.Add(bucketTime).Before(now.Add(-length)) {
				continue
			}
			at := sum{row.EndpointID, window}
			total := sums[at]
			total.add(&n)
			sums[at] = total
		}
	}
	return sums, nil
}

func (n *numbers) window() buildcast.DeliveryWindow {
	w := buildcast.DeliveryWindow{Delivered: n.Delivered, Failed: n.Failed}
	if all := n.Delivered + n.Failed; all > 0 {
		w.Success = new(float64(n.Delivered) / float64(all))
	}
	w.P50MS, w.P99MS = n.quantile(0.5), n.quantile(0.99)
	return w
}

// quantile is how long the given share of deliveries took at most.
func (n *numbers) quantile(share float64) *float64 {
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
