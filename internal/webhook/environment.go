package webhook

import (
	"context"
	"strings"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/webhook/delivery"
)

// environmentID is the endpoint that the server's settings keep.
const environmentID = "environment"

const urlVariable = "BUILDCAST_WEBHOOK_URL"

// environment is what the settings say of that endpoint. Where they say something,
// they win over the API: it would be lost at the next start.
type environment struct{ url, secret string }

// keep makes the endpoint of the settings, changes it, or disables it.
func (env environment) keep(ctx context.Context, s *endpoints) error {
	_, err := s.find(ctx, environmentID)
	absent := buildcast.CodeOf(err) == buildcast.NotFound
	switch {
	case err != nil && !absent:
		return err
	case absent && env.url == "":
		return nil
	case absent:
		c := buildcast.EndpointChange{URL: &env.url, Description: new("from --webhook-url")}
		if env.secret != "" {
			c.Secret = &env.secret
		}
		_, err = s.createAs(ctx, environmentID, c)
		return err
	}
	_, err = s.Alter(ctx, environmentID, func(ep *delivery.Endpoint) error { return env.apply(s, ep) })
	return err
}

func (env environment) apply(s *endpoints, ep *delivery.Endpoint) error {
	if env.url == "" {
		ep.Enabled, ep.DisabledReason = false, "--webhook-url ("+urlVariable+") is no longer set"
		return nil
	}
	if strings.Contains(ep.DisabledReason, urlVariable) || ep.URL != env.url {
		ep.Enabled, ep.DisabledReason, ep.Breaker = true, "", buildcast.Breaker{State: buildcast.BreakerClosed}
	}
	if env.secret != "" && env.secret != ep.Secret.Reveal() {
		secret, err := secretOf(&env.secret)
		if err != nil {
			return err
		}
		replaceSecret(ep, secret, buildcast.DefaultSecretOverlap)
	}
	return s.apply(ep, buildcast.EndpointChange{URL: &env.url})
}

// checkURL refuses a change of the URL that the settings say.
func (env environment) checkURL(id string, c buildcast.EndpointChange) error {
	if id == environmentID && c.URL != nil {
		return invalid("url", "this endpoint's URL is --webhook-url (%s): change it there and start the server again", urlVariable)
	}
	return nil
}

// checkRotation refuses a rotation of the secret that the settings say.
func (env environment) checkRotation(id string) error {
	if id == environmentID && env.secret != "" {
		return buildcast.Errorf(buildcast.Conflict, "this endpoint's secret is --webhook-secret (BUILDCAST_WEBHOOK_SECRET): set a new value there and start the server again; the value before it then signs too for %d hours", int(buildcast.DefaultSecretOverlap.Hours()))
	}
	return nil
}
