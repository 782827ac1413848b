package webhook

import (
	"context"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/webhook/counts"
)

const (
	// statusAge is how old a status, or the failure to read one, may be that is
	// answered with: the status is read from many rows.
	statusAge = 2 * time.Second

	// statusTimeout bounds reading a status.
	statusTimeout = 10 * time.Second
)

// Backlogs are what waits for the endpoints; see store.Backlogs.
type Backlogs interface {
	Waiting(ctx context.Context) (map[string]store.Waiting, error)
	Size(ctx context.Context) (int64, error)
}

// statusCache reads the status once for all who ask at the same time, and remembers
// the answer. Its lock is never held over I/O: endpoints are changed, and their
// senders told, while a store hangs.
type statusCache struct {
	reading singleflight.Group

	mu      sync.Mutex
	version int // counts the calls of forget
	at      time.Time
	status  buildcast.WebhookStatus
	err     error
}

// forget makes the next answer a new one: whoever changed an endpoint wants to see it.
func (c *statusCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	c.at = time.Time{}
}

// get returns what read returned less than statusAge ago, or returns next. The read
// goes on if one of those who wait for it leaves.
func (c *statusCache) get(ctx context.Context, read func(context.Context) (buildcast.WebhookStatus, error)) (buildcast.WebhookStatus, error) {
	c.mu.Lock()
	version := c.version
	if time.Since(c.at) < statusAge {
		defer c.mu.Unlock()
		return c.status, c.err
	}
	c.mu.Unlock()
	answer := c.reading.DoChan(strconv.Itoa(version), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusTimeout)
		defer cancel()
		status, err := read(ctx)
		c.remember(version, status, err)
		return status, err
	})
	select {
	case a := <-answer:
		return a.Val.(buildcast.WebhookStatus), a.Err
	case <-ctx.Done():
		return buildcast.WebhookStatus{}, buildcast.Errorf(buildcast.StoreUnavailable, "the status is still being read; try again shortly").After(time.Second).Because(ctx.Err())
	}
}

func (c *statusCache) remember(version int, status buildcast.WebhookStatus, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if version == c.version {
		c.at, c.status, c.err = time.Now(), status, err
	}
}

// Status is how deliveries stand, at most two seconds old.
func (s *Service) Status(ctx context.Context) (buildcast.WebhookStatus, error) {
	return s.status.get(ctx, s.readStatus)
}

func (s *Service) readStatus(ctx context.Context) (status buildcast.WebhookStatus, err error) {
	if err := s.counts.Flush(ctx, s.countStore); err != nil {
		return status, err
	}
	endpoints, err := s.endpoints.store.ListEndpoints(ctx)
	if err != nil {
		return status, err
	}
	waiting, err := s.backlogs.Waiting(ctx)
	if err != nil {
		return status, err
	}
	sums, err := counts.Read(ctx, s.countStore, time.Now())
	if err != nil {
		return status, err
	}
	if status.Log.Bytes, err = s.backlogs.Size(ctx); err != nil {
		return status, err
	}
	status.Log.Windows = map[string]buildcast.LogWindow{}
	for window := range counts.Windows {
		status.Log.Windows[window] = sums.Of("", window).Log()
	}
	status.Endpoints = make([]buildcast.EndpointStatus, len(endpoints))
	for i, e := range endpoints {
		status.Endpoints[i] = s.endpointStatus(e, waiting[e.ID], sums)
	}
	return status, nil
}

func (s *Service) endpointStatus(e store.Endpoint, w store.Waiting, sums counts.Sums) buildcast.EndpointStatus {
	windows := map[string]buildcast.DeliveryWindow{}
	for window := range counts.Windows {
		windows[window] = sums.Of(e.ID, window).Deliveries()
	}
	return buildcast.EndpointStatus{
		EndpointID: e.ID, URL: e.URL, Enabled: s.endpoints.show(e).Enabled, Breaker: e.Breaker,
		Backlog: w.Events, Cursors: w.Cursors, Retrying: w.Retrying, Dead: w.Dead, Windows: windows,
	}
}
