// Package api is the route by which a server is asked to clean up.
package api

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cleanup"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/request"
)

// Route is where a server takes requests.
const Route = "POST /api/cleanup"

// maxBody bounds a request's body, in bytes.
const maxBody = 4 << 10

// lineTimeout is how long a client may take to read one line.
const lineTimeout = 30 * time.Second

// Body is a request as JSON.
type Body struct {
	OlderThan string `json:"olderThan,omitempty"` // see cleanup.ParseAge
	Branch    string `json:"branch,omitempty"`
	DryRun    bool   `json:"dryRun,omitempty"`
}

// Handler answers a request with a cleanup.Line as JSON for each step, as they come. If the
// client goes, the clean-up ends: the next one goes on.
func Handler(s *cleanup.Service, check func(*http.Request) error, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, err := read(w, r, check)
		begun := false
		if err == nil {
			answer, out := json.NewEncoder(w), http.NewResponseController(w)
			err = s.Clean(r.Context(), asked, func(l cleanup.Line) {
				if !begun {
					begun = true
					w.Header().Set("Content-Type", "application/x-ndjson")
				}
				_ = out.SetWriteDeadline(time.Now().Add(lineTimeout))
				if answer.Encode(l) == nil {
					_ = out.Flush() // an error: the client has gone, and the context ends
				}
			})
		}
		switch {
		case err != nil && begun:
			logger.Warn("a clean-up could not remove everything", "error", err)
		case err != nil:
			refuse(w, r, err)
		}
	})
}

func read(w http.ResponseWriter, r *http.Request, check func(*http.Request) error) (asked cleanup.Request, err error) {
	if err := check(r); err != nil {
		return asked, err
	}
	var body Body
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil && !errors.Is(err, io.EOF) {
		return asked, buildcast.Errorf(buildcast.InvalidArgument, "the body is not a request for a clean-up: send JSON such as {\"olderThan\":\"7d\",\"dryRun\":true}")
	}
	asked = cleanup.Request{Branch: body.Branch, DryRun: body.DryRun}
	if body.OlderThan != "" {
		asked.OlderThan, err = cleanup.ParseAge(body.OlderThan)
	}
	return asked, err
}

func refuse(w http.ResponseWriter, r *http.Request, err error) {
	request.Failed(r.Context(), err)
	p := problem.Of(err)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // an error: the client has gone
}
