package delivery

import (
	"context"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/webhooksig"
)

// Endpoint is an endpoint with all that a request to it needs. It is shared and
// not changed; a change to the stored endpoint makes another one.
type Endpoint struct {
	store.Endpoint
	// Values are those of the headers, by name.
	Values map[string]string
	// Secret signs the requests; Previous signs too, until PreviousSecretUntil.
	Secret, Previous webhooksig.Secret
}

// Endpoints are the stored endpoints.
type Endpoints interface {
	// Usable returns the endpoints that requests can be made for. It logs the others.
	Usable(ctx context.Context) ([]*Endpoint, error)
	// Alter changes a copy of the stored endpoint and stores it, again if another
	// change came first. It stores nothing if change fails, and returns that error.
	Alter(ctx context.Context, id string, change func(*Endpoint) error) (*Endpoint, error)
	// Changed receives after endpoints were made, changed or deleted.
	Changed() <-chan struct{}
}

// signers are the secrets that sign at a time.
func (ep *Endpoint) signers(now time.Time) []webhooksig.Secret {
	if until := ep.PreviousSecretUntil; ep.Previous.IsZero() || until == nil || !now.Before(until.Std()) {
		return []webhooksig.Secret{ep.Secret}
	}
	return []webhooksig.Secret{ep.Secret, ep.Previous}
}

// sending reports whether events go out to the endpoint as they come.
func (ep *Endpoint) sending() bool {
	return ep.Enabled && ep.Breaker.State == buildcast.BreakerClosed
}

// probeDue reports whether the next event is sent as a probe.
func (ep *Endpoint) probeDue() bool {
	return ep.Enabled && ep.Breaker.ProbeAt != nil && !time.Now().Before(ep.Breaker.ProbeAt.Std())
}
