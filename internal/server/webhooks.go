package server

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/webhook"
	"github.com/buildcast/buildcast/internal/webhook/outbound"
	"github.com/buildcast/buildcast/webhooksig"
)

// newWebhooks makes the part that sends events to endpoints.
func (s *Server) newWebhooks() (*webhook.Service, error) {
	c := s.config.Webhooks
	policy := outbound.Policy{Allow: c.Allow, AllowLoopback: config.Loopback(s.config.Listen), AllowHTTP: c.AllowHTTP}
	checkURL := func(url string) error {
		_, err := policy.CheckURL(url)
		return err
	}
	if c.URL != "" {
		if err := checkURL(c.URL); err != nil {
			return nil, ofFlag("--webhook-url", err)
		}
	}
	if c.Secret != "" {
		if _, err := webhooksig.ParseSecret(c.Secret); err != nil {
			return nil, ofFlag("--webhook-secret", err)
		}
	}
	key, err := webhookKey(c.Key)
	if err != nil {
		return nil, err
	}
	return webhook.New(webhook.Config{
		Store: s.store, Log: s.log, Statuses: s.store.Statuses, Watch: s.hub.WatchEagerly, Owner: s.dir.owner,
		Client: outbound.NewClient(policy, outbound.Options{}), CheckURL: checkURL,
		Key: key, EnvironmentURL: c.URL, EnvironmentSecret: c.Secret,
		Schedule: c.Retries, DrainTimeout: s.config.DrainTimeout, Logger: s.logger,
	}), nil
}

func ofFlag(flag string, err error) error {
	return buildcast.Errorf(buildcast.InvalidArgument, "%s: %v", flag, err).At(flag)
}

// webhookKey makes the cipher that keeps secrets in the database; nil without a key.
func webhookKey(text string) (cipher.AEAD, error) {
	if text == "" {
		return nil, nil
	}
	key, err := hkdf.Key(sha256.New, []byte(text), nil, "buildcast webhook secrets", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
