// Package cleanupapi is the route by which a server is asked to clean up.
package cleanupapi

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cleanup"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/openapi"
)

// Cleanup is the service behind /api/cleanup; see cleanup.Service.
type Cleanup interface {
	Clean(ctx context.Context, r cleanup.Request, report func(cleanup.Line)) error
}

// Config is what the route needs.
type Config struct {
	Cleanup Cleanup // nil: the route answers 404
	Bodies  *body.Bodies
	Logger  *slog.Logger
}

type api struct{ Config }

// lineTimeout is how long a client may take to read one line.
const lineTimeout = 30 * time.Second

// cleanupRequest is the body of a request.
type cleanupRequest struct {
	OlderThan string   `json:"olderThan,omitempty" doc:"What is as old is removed: days, weeks, hours or minutes, such as 7d; left out, each part has its own age"`
	Branch    string   `json:"branch,omitempty" default:"build-*" doc:"Only what belongs to builds with such a branch: * stands for any text, ? for any character; it begins with build-"`
	DryRun    bool     `json:"dryRun,omitempty" doc:"Only count"`
	_         struct{} `additionalProperties:"false"`
}

// CleanupStep is the name of a cleanup.Line in the document.
type CleanupStep cleanup.Line

// Add adds the route to the document. handle serves an operation, with what all
// operations have in common.
func Add(c Config, doc openapi.Document, handle func(op *huma.Operation, serve func(w http.ResponseWriter, r *http.Request) error)) {
	a := &api{c}
	asked := openapi.Content[cleanupRequest](doc, body.JSON)
	asked[body.JSON].Example = map[string]any{"olderThan": "7d", "dryRun": true}
	handle(&huma.Operation{
		Method: http.MethodPost, Path: "/api/cleanup", OperationID: "cleanUp", Tags: []string{"server"}, Security: openapi.NeedsKey,
		Summary:     "Remove what old builds left",
		Description: "Deployments, previews, workspaces and cache, one part after the other. Each step is a line, sent as it comes; the last line of a part has removed. If the client goes, the clean-up ends; the next one goes on.",
		RequestBody: openapi.Body(false, asked),
		Responses: doc.Answers(func(d openapi.Document, to map[string]*huma.Response) {
			to["200"] = &huma.Response{Description: "The steps, one JSON object per line.", Content: openapi.Content[CleanupStep](d, body.NDJSON)}
		}, openapi.Problems(buildcast.InvalidArgument, buildcast.NotFound, buildcast.Conflict), openapi.WriteProblems),
	}, a.clean)
}

func (a *api) clean(w http.ResponseWriter, r *http.Request) error {
	if a.Cleanup == nil {
		return buildcast.Errorf(buildcast.NotFound, "this server does not clean up")
	}
	var asked cleanupRequest
	if err := a.Bodies.Decode(w, r, &asked); err != nil {
		return err
	}
	what := cleanup.Request{Branch: asked.Branch, DryRun: asked.DryRun}
	if asked.OlderThan != "" {
		var err error
		if what.OlderThan, err = cleanup.ParseAge(asked.OlderThan); err != nil {
			return err
		}
	}
	begun := false
	answer, out := json.NewEncoder(w), http.NewResponseController(w)
	err := a.Cleanup.Clean(r.Context(), what, func(l cleanup.Line) {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", body.NDJSON)
			w.Header().Set("Cache-Control", "no-store")
		}
		_ = out.SetWriteDeadline(time.Now().Add(lineTimeout))
		if answer.Encode(l) == nil {
			_ = out.Flush() // an error: the client has gone, and the context ends
		}
	})
	if begun && err != nil {
		a.Logger.Warn("a clean-up could not remove everything", "error", err) // its line has told the client
		return nil
	}
	return err
}
