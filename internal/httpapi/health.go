package httpapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/body"
)

const (
	// pingTimeout bounds the check of the store, so that whoever asks for readiness
	// has an answer before it gives up by itself.
	pingTimeout = 2 * time.Second
	// pingAge is how long the outcome of a check is taken for the next ones: the
	// store writes for each, and anybody may ask.
	pingAge = time.Second
)

// pinger checks the store, once for all who ask at the same time.
type pinger struct {
	ping  func(context.Context) error
	group singleflight.Group

	mu  sync.Mutex
	at  time.Time // when the last check ended
	err error     // its outcome
}

func (p *pinger) check(ctx context.Context) error {
	if err, fresh := p.last(); fresh {
		return err
	}
	checked := p.group.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
		defer cancel()
		err := p.ping(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.at, p.err = time.Now(), err
		return nil, err
	})
	select {
	case result := <-checked:
		return result.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pinger) last() (err error, fresh bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err, !p.at.IsZero() && time.Since(p.at) < pingAge
}

// health is the answer of a server that is well.
type health struct {
	Service string `json:"service" example:"buildcast"`
	Version string `json:"version"`
	Warning string `json:"warning,omitempty" doc:"What is wrong although the server takes requests, such as a write-ahead log that was damaged when it was opened"`
}

// healthz says that the process answers; it asks nothing else, so that a store
// that is away does not get the server restarted.
func (a *api) healthz(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	return body.SendJSON(w, http.StatusOK, health{Service: "buildcast", Version: a.Version})
}

// readyz says whether requests should be sent here.
func (a *api) readyz(w http.ResponseWriter, r *http.Request) error {
	if err := a.Ready(); err != nil {
		return buildcast.Errorf(buildcast.StoreUnavailable, "this server takes no more work").After(time.Second).Because(err)
	}
	if err := a.pinger.check(r.Context()); err != nil {
		return buildcast.Errorf(buildcast.StoreUnavailable, "the store cannot write now").After(time.Second).Because(err)
	}
	w.Header().Set("Cache-Control", "no-store")
	return body.SendJSON(w, http.StatusOK, health{"buildcast", a.Version, a.Warning})
}
