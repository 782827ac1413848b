package config

import (
	"net/netip"
	"time"
)

const (
	minWebhookKey = 32 // bytes
	maxRetries    = 20
	maxRetryWait  = 7 * 24 * time.Hour
)

// Webhooks configures how events are sent to endpoints.
type Webhooks struct {
	// Allow holds the private address ranges in which endpoints are allowed.
	Allow []netip.Prefix `placeholder:"CIDR" help:"Private address ranges that webhooks may be sent to, such as 10.0.0.0/8. Loopback is allowed while --listen is on loopback."`
	// AllowHTTP allows http beyond loopback.
	AllowHTTP bool `name:"allow-http" help:"Allow webhooks over http: events can be read on the way. Endpoints on loopback may use http anyway, while --listen is on loopback."`
	// Retries is how long to wait before each retry of an event.
	Retries []time.Duration `default:"1m,2m,4m,8m,16m" placeholder:"DURATION" help:"How long to wait before each retry of an event that could not be delivered, each ±10 %. After the last it is given up."`
	// Key encrypts the endpoints' secrets in the database. Empty: they are kept as they are.
	Key string `placeholder:"KEY" help:"Key of at least 32 characters that encrypts endpoints' secrets and headers in the database. @FILE reads it from a file. Keep it: without it they cannot be read again. Flags are visible in process lists: use the environment or a file."`
	// URL and Secret define an endpoint that receives every event of every build.
	URL    string `name:"url" placeholder:"URL" help:"An endpoint that is sent every event; others are made with 'buildcast webhooks add'."`
	Secret string `placeholder:"SECRET" help:"What signs requests to --webhook-url: whsec_... or 8 characters or more. Made where it is left out. @FILE reads it from a file. Flags are visible in process lists: use the environment or a file."`
}

func (w *Webhooks) readSecrets() (err error) {
	if w.URL, err = Secret("--webhook-url", w.URL); err != nil { // it may hold a token
		return err
	}
	if w.Key, err = Secret("--webhook-key", w.Key); err != nil {
		return err
	}
	w.Secret, err = Secret("--webhook-secret", w.Secret)
	return err
}

func (w *Webhooks) check() error {
	if w.Key != "" && len(w.Key) < minWebhookKey {
		return invalid("--webhook-key", "it has %d characters: use %d or more, such as the output of 'openssl rand -base64 32'", len(w.Key), minWebhookKey)
	}
	if len(w.Retries) > maxRetries {
		return invalid("--webhook-retries", "there are %d: use at most %d", len(w.Retries), maxRetries)
	}
	for _, wait := range w.Retries {
		if wait <= 0 || wait > maxRetryWait {
			return invalid("--webhook-retries", "%v is not between 0 and %v", wait, maxRetryWait)
		}
	}
	return nil
}
