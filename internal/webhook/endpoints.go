package webhook

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/webhook/delivery"
	"github.com/buildcast/buildcast/webhooksig"
)

// maxAlterations is how often a change is tried again because another one came first.
const maxAlterations = 10

// EndpointStore keeps the endpoints; see store.Endpoints.
type EndpointStore interface {
	SaveEndpoint(ctx context.Context, e store.Endpoint) (version int64, err error)
	ListEndpoints(ctx context.Context) ([]store.Endpoint, error)
	DeleteEndpoint(ctx context.Context, id string) error
}

// endpoints are the stored endpoints, opened.
type endpoints struct {
	store    EndpointStore
	seal     sealer
	checkURL func(url string) error
	reports  *delivery.Reports
	logger   *slog.Logger

	creating sync.Mutex    // held while an endpoint is made: their number is bounded
	changed  chan struct{} // capacity 1: see delivery.Endpoints
	onChange func()        // called after each change
}

// Usable implements delivery.Endpoints.
func (s *endpoints) Usable(ctx context.Context) ([]*delivery.Endpoint, error) {
	stored, err := s.store.ListEndpoints(ctx)
	if err != nil {
		return nil, err
	}
	usable := make([]*delivery.Endpoint, 0, len(stored))
	for _, e := range stored {
		ep, err := s.seal.open(e)
		if err != nil {
			s.logger.Error("webhooks: the endpoint cannot be used", "endpoint", e.ID, "error", err)
			continue
		}
		usable = append(usable, ep)
	}
	return usable, nil
}

// Changed implements delivery.Endpoints.
func (s *endpoints) Changed() <-chan struct{} { return s.changed }

// notify tells the dispatcher and the status that endpoints have changed.
func (s *endpoints) notify() {
	s.onChange()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// stored returns one endpoint as it is stored, or NotFound.
func (s *endpoints) stored(ctx context.Context, id string) (store.Endpoint, error) {
	all, err := s.store.ListEndpoints(ctx)
	if err != nil {
		return store.Endpoint{}, err
	}
	i := slices.IndexFunc(all, func(e store.Endpoint) bool { return e.ID == id })
	if i < 0 {
		return store.Endpoint{}, buildcast.Errorf(buildcast.NotFound, "there is no endpoint %.40q", id)
	}
	return all[i], nil
}

// find returns one endpoint. NotFound, Conflict if it cannot be opened.
func (s *endpoints) find(ctx context.Context, id string) (*delivery.Endpoint, error) {
	e, err := s.stored(ctx, id)
	if err != nil {
		return nil, err
	}
	ep, err := s.seal.open(e)
	if err != nil {
		return nil, buildcast.Errorf(buildcast.Conflict, "endpoint %s cannot be used: %v", id, err)
	}
	return ep, nil
}

// save seals and stores the endpoint under its version.
func (s *endpoints) save(ctx context.Context, ep *delivery.Endpoint) error {
	if err := s.seal.close(ep); err != nil {
		return err
	}
	ep.UpdatedAt = buildcast.Now()
	version, err := s.store.SaveEndpoint(ctx, ep.Endpoint)
	if err != nil {
		return err
	}
	ep.Version = version
	s.notify()
	return nil
}

// Alter implements delivery.Endpoints.
func (s *endpoints) Alter(ctx context.Context, id string, change func(*delivery.Endpoint) error) (*delivery.Endpoint, error) {
	for n := 0; ; n++ {
		ep, err := s.find(ctx, id)
		if err != nil {
			return nil, err
		}
		before := ep.Endpoint.Endpoint
		if err := change(ep); err != nil {
			return ep, err
		}
		if err = s.save(ctx, ep); err == nil {
			s.reports.Endpoint(&before, &ep.Endpoint.Endpoint)
		}
		if buildcast.CodeOf(err) != buildcast.Conflict || n == maxAlterations {
			return ep, err
		}
	}
}

// create makes an endpoint. The answer has its secret.
func (s *endpoints) create(ctx context.Context, c buildcast.EndpointChange) (buildcast.Endpoint, error) {
	s.creating.Lock()
	defer s.creating.Unlock()
	stored, err := s.store.ListEndpoints(ctx)
	if err != nil {
		return buildcast.Endpoint{}, err
	}
	if len(stored) >= maxEndpoints {
		return buildcast.Endpoint{}, buildcast.Errorf(buildcast.TooLarge, "there are %d endpoints, the limit is %d: delete one first", len(stored), maxEndpoints)
	}
	return s.createAs(ctx, ulid.Make().String(), c)
}

func (s *endpoints) createAs(ctx context.Context, id string, c buildcast.EndpointChange) (buildcast.Endpoint, error) {
	ep := &delivery.Endpoint{Endpoint: store.Endpoint{Endpoint: buildcast.Endpoint{
		ID: id, Types: []string{}, Builds: []string{}, Projects: []string{},
		TimeoutMS: int(defaultTimeout.Milliseconds()), Ordering: buildcast.OrderingNormal, Payload: buildcast.PayloadFull,
		Enabled: true, Breaker: buildcast.Breaker{State: buildcast.BreakerClosed}, CreatedAt: buildcast.Now(),
	}}}
	if c.URL == nil {
		return buildcast.Endpoint{}, invalid("url", "it is missing: send the receiver's address, such as https://example.com/hooks")
	}
	if c.Secret != nil && *c.Secret == "" {
		return buildcast.Endpoint{}, invalid("secret", "it is empty: leave it out to have one made, or send one of 8 characters or more")
	}
	var err error
	if ep.Secret, err = secretOf(c.Secret); err != nil {
		return buildcast.Endpoint{}, err
	}
	c.Secret = nil
	if err := s.apply(ep, c); err != nil {
		return buildcast.Endpoint{}, err
	}
	if err := s.save(ctx, ep); err != nil {
		return buildcast.Endpoint{}, err
	}
	return revealed(ep), nil
}

// secretOf parses a secret, and makes one if there is none.
func secretOf(text *string) (webhooksig.Secret, error) {
	if text == nil {
		return webhooksig.NewSecret(), nil
	}
	secret, err := webhooksig.ParseSecret(*text)
	if err != nil {
		return webhooksig.Secret{}, invalid("secret", "%v", err)
	}
	return secret, nil
}

// replaceSecret makes secret the endpoint's. The one before signs too until the
// overlap ends.
func replaceSecret(ep *delivery.Endpoint, secret webhooksig.Secret, overlap time.Duration) {
	previous, until := ep.Secret, buildcast.TimeOf(time.Now().Add(overlap))
	ep.Secret, ep.Previous, ep.PreviousSecretUntil = secret, previous, &until
	if overlap == 0 {
		ep.Previous, ep.PreviousSecretUntil = webhooksig.Secret{}, nil
	}
}

// shown is the endpoint as the API shows it.
func shown(ep *delivery.Endpoint) buildcast.Endpoint {
	e := ep.Endpoint.Endpoint
	e.Headers = make(map[string]string, len(ep.Values))
	for name := range ep.Values {
		e.Headers[name] = "(hidden)"
	}
	return e
}

// revealed is the endpoint as the API shows it once, with its secret.
func revealed(ep *delivery.Endpoint) buildcast.Endpoint {
	e := shown(ep)
	e.Secret = ep.Secret.Reveal()
	return e
}

// show is the stored endpoint as the API shows it. Nothing is sent to an endpoint
// that cannot be opened, so it is shown as disabled.
func (s *endpoints) show(e store.Endpoint) buildcast.Endpoint {
	ep, err := s.seal.open(e)
	if err != nil {
		e.Headers, e.Enabled, e.DisabledReason = map[string]string{}, false, err.Error()
		return e.Endpoint
	}
	return shown(ep)
}
