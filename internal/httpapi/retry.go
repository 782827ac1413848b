package httpapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/oklog/ulid/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/openapi"
	"github.com/buildcast/buildcast/internal/httpapi/query"
	"github.com/buildcast/buildcast/internal/store"
)

// retry is the body of a build's repetition.
type retry struct {
	From string   `json:"from,omitempty" enum:"failed,start" default:"failed" doc:"Where the new build begins. failed: what the old one completed is taken over, as far as its workspace is still there; start: everything runs again."`
	_    struct{} `additionalProperties:"false"`
}

func (a *api) retryRoute(path string) {
	a.handle(&huma.Operation{
		Method: http.MethodPost, Path: path, OperationID: "retryBuild", Tags: []string{"builds"}, Security: openapi.NeedsKey,
		Summary: "Run a finished build again, as a new build",
		Description: "The new build has the project, the prompt, the plan and the options of the old one, which stays as it is. " +
			"What it takes over appears in its log as completed, with cached and originBuildId.",
		Parameters: append(inPath(), &huma.Param{
			Name: "Idempotency-Key", In: "header", Schema: &huma.Schema{Type: huma.TypeString},
			Description: "The same key again returns the build that it made.",
		}),
		RequestBody: openapi.Body(false, openapi.Content[retry](a.doc, body.JSON)),
		Responses: a.doc.Answers(openapi.Answer[buildcast.Build](http.StatusCreated, "The new build; Location is its address."),
			openapi.Answer[buildcast.Build](http.StatusOK, "The build that this key has made."),
			openapi.Problems(buildcast.InvalidArgument, buildcast.NotFound, buildcast.NotFinished, buildcast.Conflict), openapi.WriteProblems),
	}, a.retryBuild)
}

// retryBuild queues a new build that repeats a finished one.
func (a *api) retryBuild(w http.ResponseWriter, r *http.Request) error {
	id, err := a.buildID(r)
	if err != nil {
		return err
	}
	key := r.Header.Get("Idempotency-Key")
	if err := query.ValidateText(key, buildcast.MaxEventKey, "Idempotency-Key"); err != nil {
		return err
	}
	asked := retry{From: buildcast.RetryFailed}
	if err := a.bodies.Decode(w, r, &asked); err != nil {
		return err
	}
	if asked.From != buildcast.RetryFailed && asked.From != buildcast.RetryStart {
		return buildcast.Errorf(buildcast.InvalidArgument, "a build is repeated from failed or from start").At("from")
	}
	old, err := a.Builds.GetBuild(r.Context(), id)
	switch {
	case err != nil:
		return err
	case old.External():
		return buildcast.Errorf(buildcast.InvalidArgument, "build %s is run by another program: start it again there, under another id", id).At("id")
	case !old.Status.Phase.Terminal():
		return buildcast.Errorf(buildcast.NotFinished, "build %s is not finished: wait for its end, or cancel it first", id)
	}
	again := store.NewBuild{
		ID: ulid.Make().String(), Project: old.Project, Prompt: old.Prompt, Plan: old.Plan, Deploy: old.Deploy, Options: old.Options, IdempotencyKey: key,
	}
	again.Options.RetryOf, again.Options.RetryFrom = old.ID, asked.From
	return a.create(w, r, again)
}
