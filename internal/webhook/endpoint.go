package webhook

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/webhooksig"
)

// target is an endpoint as requests are made for it. It is not changed.
type target struct {
	store.Endpoint
	hidden
	secrets []webhooksig.Secret
}

// hidden is what is sealed in the store.
type hidden struct {
	Secret   string            `json:"secret"`
	Previous string            `json:"previous,omitempty"`
	Values   map[string]string `json:"headers,omitempty"` // of headers
}

// open makes the target of a stored endpoint.
func (s *Service) open(e store.Endpoint) (*target, error) {
	t := &target{Endpoint: e}
	text, err := s.unseal(e.ID, e.Sealed)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &t.hidden); err != nil {
		return nil, errors.New("what is sealed of it is damaged")
	}
	for _, text := range []string{t.Secret, t.Previous} {
		if text == "" {
			continue
		}
		secret, err := webhooksig.ParseSecret(text)
		if err != nil {
			return nil, err
		}
		t.secrets = append(t.secrets, secret)
	}
	return t, nil
}

// signers are the secrets that sign now: the one before as well, for a while.
func (t *target) signers(now time.Time) []webhooksig.Secret {
	if until := t.PreviousSecretUntil; len(t.secrets) > 1 && (until == nil || !now.Before(until.Std())) {
		return t.secrets[:1]
	}
	return t.secrets
}

// shown is the endpoint as the API shows it.
func (t *target) shown() buildcast.Endpoint {
	e := t.Endpoint.Endpoint
	e.Headers = make(map[string]string, len(t.Values))
	for name := range t.Values {
		e.Headers[name] = "(hidden)"
	}
	return e
}

// Endpoints gives all endpoints, the oldest first.
func (s *Service) Endpoints(ctx context.Context) ([]buildcast.Endpoint, error) {
	stored, err := s.Store.ListEndpoints(ctx)
	if err != nil {
		return nil, err
	}
	shown := make([]buildcast.Endpoint, len(stored))
	for i := range stored {
		shown[i] = s.show(stored[i])
	}
	return shown, nil
}

// show is the stored endpoint as the API shows it: one that cannot be opened as
// disabled, as nothing is sent to it.
func (s *Service) show(e store.Endpoint) buildcast.Endpoint {
	t, err := s.open(e)
	if err != nil {
		e.Headers, e.Enabled, e.DisabledReason = map[string]string{}, false, err.Error()
		return e.Endpoint
	}
	return t.shown()
}

// Endpoint gives one endpoint, or NotFound.
func (s *Service) Endpoint(ctx context.Context, id string) (buildcast.Endpoint, error) {
	e, err := s.stored(ctx, id)
	if err != nil {
		return buildcast.Endpoint{}, err
	}
	return s.show(e), nil
}

func (s *Service) stored(ctx context.Context, id string) (store.Endpoint, error) {
	all, err := s.Store.ListEndpoints(ctx)
	if err != nil {
		return store.Endpoint{}, err
	}
	i := slices.IndexFunc(all, func(e store.Endpoint) bool { return e.ID == id })
	if i < 0 {
		return store.Endpoint{}, buildcast.Errorf(buildcast.NotFound, "there is no endpoint %.40q", id)
	}
	return all[i], nil
}

func (s *Service) find(ctx context.Context, id string) (*target, error) {
	e, err := s.stored(ctx, id)
	if err != nil {
		return nil, err
	}
	t, err := s.open(e)
	if err != nil {
		return nil, buildcast.Errorf(buildcast.Conflict, "endpoint %s cannot be used: %v", id, err)
	}
	return t, nil
}

// Create makes an endpoint. Its secret is in the answer, and in none after it.
func (s *Service) Create(ctx context.Context, c buildcast.EndpointChange) (buildcast.Endpoint, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	stored, err := s.Store.ListEndpoints(ctx)
	if err != nil {
		return buildcast.Endpoint{}, err
	}
	if len(stored) >= maxEndpoints {
		return buildcast.Endpoint{}, buildcast.Errorf(buildcast.TooLarge, "there are %d endpoints, and there may be %d: delete one first", len(stored), maxEndpoints)
	}
	return s.create(ctx, ulid.Make().String(), c)
}

func (s *Service) create(ctx context.Context, id string, c buildcast.EndpointChange) (buildcast.Endpoint, error) {
	now := buildcast.Now()
	t := &target{Endpoint: store.Endpoint{Endpoint: buildcast.Endpoint{
		ID: id, Types: []string{}, Builds: []string{}, Projects: []string{},
		TimeoutMS: int(defaultTimeout.Milliseconds()), Ordering: buildcast.OrderingNormal, Payload: buildcast.PayloadFull,
		Enabled: true, Breaker: buildcast.Breaker{State: buildcast.BreakerClosed}, CreatedAt: now,
	}}}
	if c.URL == nil {
		return buildcast.Endpoint{}, invalid("url", "it is missing: give the receiver's address, such as https://example.com/hooks")
	}
	if t.Secret = "whsec_"; c.Secret == nil {
		t.Secret = newSecret()
	} else if t.Secret = *c.Secret; t.Secret == "" {
		return buildcast.Endpoint{}, invalid("secret", "it is empty: leave it out to have one made, or give one of 8 characters or more")
	}
	if _, err := webhooksig.ParseSecret(t.Secret); err != nil {
		return buildcast.Endpoint{}, invalid("secret", "%v", err)
	}
	c.Secret = nil
	if err := s.apply(t, c); err != nil {
		return buildcast.Endpoint{}, err
	}
	return s.saveShowing(ctx, t)
}

func newSecret() string { return webhooksig.NewSecret().Reveal() }

// saveShowing saves the target and gives it with its secret.
func (s *Service) saveShowing(ctx context.Context, t *target) (buildcast.Endpoint, error) {
	if err := s.save(ctx, t); err != nil {
		return buildcast.Endpoint{}, err
	}
	e := t.shown()
	e.Secret = t.Secret
	return e, nil
}

// save seals and stores the target under its version, and has its sender told.
func (s *Service) save(ctx context.Context, t *target) error {
	text, err := json.Marshal(t.hidden)
	if err != nil {
		return err
	}
	if t.Sealed, err = s.seal(t.ID, text); err != nil {
		return err
	}
	t.UpdatedAt = buildcast.Now()
	version, err := s.Store.SaveEndpoint(ctx, t.Endpoint)
	if err != nil {
		return err
	}
	t.Version = version
	s.refreshSoon()
	return nil
}

// refreshSoon has the senders told that the endpoints have changed.
func (s *Service) refreshSoon() {
	s.statuses.forget()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// alter changes the stored endpoint, again where another change came first.
func (s *Service) alter(ctx context.Context, id string, change func(*target) error) (*target, error) {
	for n := 0; ; n++ {
		t, err := s.find(ctx, id)
		if err != nil {
			return nil, err
		}
		before := t.Endpoint.Endpoint
		if err := change(t); err != nil {
			return t, err
		}
		if err = s.save(ctx, t); err == nil {
			s.reportChange(&before, &t.Endpoint.Endpoint)
		}
		if buildcast.CodeOf(err) != buildcast.Conflict || n == 10 {
			return t, err
		}
	}
}

// Change changes what is given of an endpoint. A new address, and being enabled
// again, close its breaker.
func (s *Service) Change(ctx context.Context, id string, c buildcast.EndpointChange) (buildcast.Endpoint, error) {
	if id == environmentID && c.URL != nil {
		return buildcast.Endpoint{}, invalid("url", "this endpoint's is BUILDCAST_WEBHOOK_URL: change it there and start the server again")
	}
	if c.Secret != nil {
		return buildcast.Endpoint{}, invalid("secret", "it cannot be changed here: rotate it, so that the one before signs for a while too")
	}
	t, err := s.alter(ctx, id, func(t *target) error {
		url, enabled := t.URL, t.Enabled
		if err := s.apply(t, c); err != nil {
			return err
		}
		if t.URL != url || t.Enabled && !enabled {
			t.Breaker, t.DisabledReason = buildcast.Breaker{State: buildcast.BreakerClosed}, ""
		}
		return nil
	})
	if err != nil {
		return buildcast.Endpoint{}, err
	}
	return t.shown(), nil
}

// Rotate gives the endpoint a new secret, made where it is empty. The one before
// signs as well for the overlap.
func (s *Service) Rotate(ctx context.Context, id, secret string, overlap time.Duration) (buildcast.Endpoint, error) {
	if overlap < 0 || overlap > maxOverlap {
		return buildcast.Endpoint{}, invalid("overlapSeconds", "it is %d: use 0 to %d", int(overlap.Seconds()), int(maxOverlap.Seconds()))
	}
	if secret == "" {
		secret = newSecret()
	} else if _, err := webhooksig.ParseSecret(secret); err != nil {
		return buildcast.Endpoint{}, invalid("secret", "%v", err)
	}
	t, err := s.alter(ctx, id, func(t *target) error {
		until := buildcast.TimeOf(time.Now().Add(overlap))
		t.Previous, t.Secret, t.PreviousSecretUntil = t.Secret, secret, &until
		if overlap == 0 {
			t.Previous, t.PreviousSecretUntil = "", nil
		}
		return nil
	})
	if err != nil {
		return buildcast.Endpoint{}, err
	}
	e := t.shown()
	e.Secret = secret
	return e, nil
}

// Delete removes the endpoint with all that waits for it.
func (s *Service) Delete(ctx context.Context, id string) error {
	if err := s.Store.DeleteEndpoint(ctx, id); err != nil {
		return err
	}
	s.refreshSoon()
	return nil
}

// environmentID is the endpoint that the server's settings keep.
const environmentID = "environment"

// keepEnvironment makes that endpoint, changes it or disables it as the settings say.
func (s *Service) keepEnvironment(ctx context.Context) error {
	_, err := s.find(ctx, environmentID)
	absent := buildcast.CodeOf(err) == buildcast.NotFound
	switch {
	case err != nil && !absent:
		return err
	case absent && s.EnvironmentURL == "":
		return nil
	case absent:
		c := buildcast.EndpointChange{URL: &s.EnvironmentURL, Description: new("from BUILDCAST_WEBHOOK_URL")}
		if s.EnvironmentSecret != "" {
			c.Secret = &s.EnvironmentSecret
		}
		_, err = s.create(ctx, environmentID, c)
		return err
	}
	_, err = s.alter(ctx, environmentID, func(t *target) error {
		const unset = "BUILDCAST_WEBHOOK_URL is not set any more"
		if s.EnvironmentURL == "" {
			t.Enabled, t.DisabledReason = false, unset
			return nil
		}
		if t.DisabledReason == unset || t.URL != s.EnvironmentURL {
			t.Enabled, t.DisabledReason, t.Breaker = true, "", buildcast.Breaker{State: buildcast.BreakerClosed}
		}
		if s.EnvironmentSecret != "" {
			t.Secret = s.EnvironmentSecret
		}
		return s.apply(t, buildcast.EndpointChange{URL: &s.EnvironmentURL})
	})
	return err
}

// seal encrypts what must not be read in the database, where there is a key. The
// first byte says which; the endpoint's id is bound to it, so that it cannot be
// moved to another.
func (s *Service) seal(id string, text []byte) ([]byte, error) {
	if s.Key == nil {
		return append([]byte{sealedPlain}, text...), nil
	}
	nonce := make([]byte, s.Key.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return s.Key.Seal(append([]byte{sealedEncrypted}, nonce...), nonce, text, []byte(id)), nil
}

// sealPlain encrypts what was stored before there was a key.
func (s *Service) sealPlain(ctx context.Context) error {
	if s.Key == nil {
		return nil
	}
	all, err := s.Store.ListEndpoints(ctx)
	if err != nil {
		return err
	}
	for _, e := range all {
		if len(e.Sealed) == 0 || e.Sealed[0] != sealedPlain {
			continue
		}
		if _, err := s.alter(ctx, e.ID, func(*target) error { return nil }); err != nil && buildcast.CodeOf(err) != buildcast.NotFound {
			return err
		}
	}
	return nil
}

const (
	sealedPlain     = 'p'
	sealedEncrypted = 'e'
)

func (s *Service) unseal(id string, sealed []byte) ([]byte, error) {
	switch {
	case len(sealed) > 0 && sealed[0] == sealedPlain:
		return sealed[1:], nil
	case len(sealed) == 0 || sealed[0] != sealedEncrypted:
		return nil, errors.New("what is sealed of it is damaged")
	case s.Key == nil:
		return nil, errors.New("its secret is encrypted: start the server with the --webhook-key that it was made with")
	}
	rest := sealed[1:]
	if n := s.Key.NonceSize(); len(rest) >= n {
		if text, err := s.Key.Open(nil, rest[:n], rest[n:], []byte(id)); err == nil {
			return text, nil
		}
	}
	return nil, errors.New("its secret was encrypted with another --webhook-key")
}
