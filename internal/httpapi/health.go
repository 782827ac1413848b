package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/buildcast/buildcast"
)

// pingTimeout bounds the check of the store, so that whoever asks for readiness
// gets an answer before it gives up by itself.
const pingTimeout = 2 * time.Second

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
	return sendJSON(w, http.StatusOK, health{Service: "buildcast", Version: a.Version})
}

// readyz says whether requests should be sent here.
func (a *api) readyz(w http.ResponseWriter, r *http.Request) error {
	if err := a.Ready(); err != nil {
		return buildcast.Errorf(buildcast.StoreUnavailable, "this server takes no more work").After(time.Second).Because(err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), pingTimeout)
	defer cancel()
	if err := a.Ping(ctx); err != nil {
		return buildcast.Errorf(buildcast.StoreUnavailable, "the store cannot write now").After(time.Second).Because(err)
	}
	w.Header().Set("Cache-Control", "no-store")
	return sendJSON(w, http.StatusOK, health{"buildcast", a.Version, a.Warning})
}
