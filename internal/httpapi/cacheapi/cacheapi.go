// Package cacheapi is the part of the REST API below /api/cache: what the cache has,
// and why a task was taken from it or not.
package cacheapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/openapi"
	"github.com/buildcast/buildcast/internal/httpapi/query"
)

// Cache is the service behind /api/cache; see cache.Cache.
type Cache interface {
	List(ctx context.Context, limit int) (buildcast.CacheUsage, error)
	Why(ctx context.Context, buildID, name string) (buildcast.CacheReason, error)
	Prune(ctx context.Context, before time.Time) (buildcast.CachePruned, error)
}

// Config is what the routes need.
type Config struct {
	Cache  Cache // nil: all routes answer 404
	Bodies *body.Bodies
}

type handler = func(w http.ResponseWriter, r *http.Request) error

type api struct{ Config }

var (
	limitParam = query.Int{Name: "limit", Min: 1, Max: 10_000, Default: 100, Doc: "How many entries to answer with at most."}
	buildParam = query.String{Name: "build", Max: 26, Doc: "The build's id."}
	taskParam  = query.String{Name: "task", Max: 200, Doc: "The task's name, or install or build for a stage."}

	keyProblems = openapi.Problems(buildcast.InvalidArgument, buildcast.Unauthenticated, buildcast.PermissionDenied, buildcast.NotFound)
)

// Add adds the routes to the document. handle serves an operation, with what all
// operations have in common. All need a key: other people's projects are listed.
func Add(c Config, doc openapi.Document, handle func(op *huma.Operation, serve handler)) {
	a := &api{c}
	add := func(op *huma.Operation, serve handler) {
		op.Tags, op.Security = []string{"cache"}, openapi.NeedsKey
		handle(op, func(w http.ResponseWriter, r *http.Request) error {
			if a.Cache == nil {
				return buildcast.Errorf(buildcast.NotFound, "this server has no cache")
			}
			w.Header().Set("Cache-Control", "no-store")
			return serve(w, r)
		})
	}
	add(&huma.Operation{
		Method: http.MethodGet, Path: "/api/cache", OperationID: "listCache", Summary: "List what the cache has", Description: "The entries that were used last come first.",
		Parameters: query.Describe(limitParam),
		Responses:  doc.Answers(openapi.Answer[buildcast.CacheUsage](http.StatusOK, "The entries, and the size of all."), keyProblems),
	}, a.list)
	add(&huma.Operation{
		Method: http.MethodGet, Path: "/api/cache/why", OperationID: "whyCached", Summary: "Say why a task was taken from the cache, or ran",
		Description: "Names the parts in which its key differs from that of the last build whose result is kept, such as a file that has changed.",
		Parameters:  query.Describe(buildParam, taskParam),
		Responses:   doc.Answers(openapi.Answer[buildcast.CacheReason](http.StatusOK, "The reason."), keyProblems),
	}, a.why)
	add(&huma.Operation{
		Method: http.MethodPost, Path: "/api/cache/prune", OperationID: "pruneCache", Summary: "Remove what was not used lately",
		Description: "Builds go on without what is removed.",
		RequestBody: openapi.Body(false, openapi.Content[pruning](doc, body.JSON)),
		Responses:   doc.Answers(openapi.Answer[buildcast.CachePruned](http.StatusOK, "What was removed, and what is left."), openapi.Problems(buildcast.InvalidArgument, buildcast.NotFound), openapi.WriteProblems),
	}, a.prune)
}

func (a *api) list(w http.ResponseWriter, r *http.Request) error {
	q, err := query.Of(r)
	if err != nil {
		return err
	}
	limit, err := limitParam.Read(q)
	if err != nil {
		return err
	}
	found, err := a.Cache.List(r.Context(), int(limit))
	if err != nil {
		return err
	}
	return body.SendJSON(w, http.StatusOK, found)
}

func (a *api) why(w http.ResponseWriter, r *http.Request) error {
	q, err := query.Of(r)
	if err != nil {
		return err
	}
	build, err := buildParam.Read(q)
	if err != nil {
		return err
	}
	task, err := taskParam.Read(q)
	if err != nil {
		return err
	}
	if build == "" || task == "" {
		return buildcast.Errorf(buildcast.InvalidArgument, "build and task are needed: name the build's id, and the task").At("build")
	}
	found, err := a.Cache.Why(r.Context(), build, task)
	if err != nil {
		return err
	}
	return body.SendJSON(w, http.StatusOK, found)
}

// pruning is the body of a removal.
type pruning struct {
	OlderThanSeconds *int64   `json:"olderThanSeconds,omitempty" minimum:"0" maximum:"315360000" default:"604800" doc:"What was not used for so long is removed; 0 removes everything"`
	_                struct{} `additionalProperties:"false"`
}

const (
	defaultAge = 7 * 24 * 60 * 60        // seconds
	maxAge     = 10 * 365 * 24 * 60 * 60 // seconds
)

func (a *api) prune(w http.ResponseWriter, r *http.Request) error {
	var asked pruning
	if err := a.Bodies.Decode(w, r, &asked); err != nil {
		return err
	}
	age := int64(defaultAge)
	if s := asked.OlderThanSeconds; s != nil {
		age = *s
	}
	if age < 0 || age > maxAge {
		return buildcast.Errorf(buildcast.InvalidArgument, "olderThanSeconds is %d: use 0 to %d", age, maxAge).At("olderThanSeconds")
	}
	done, err := a.Cache.Prune(r.Context(), time.Now().Add(-time.Duration(age)*time.Second))
	if err != nil {
		return err
	}
	return body.SendJSON(w, http.StatusOK, done)
}
