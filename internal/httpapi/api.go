// Package httpapi is the REST API: builds, their events, and the polls that
// follow them.
//
// Handlers return errors; one place writes them as problem+json (answer.go), and
// package problem has the table from code to status. huma keeps the OpenAPI document: each
// operation is described beside the handler that serves it, with schemas made
// from the Go types that are encoded and decoded (openapi.go).
//
// One event comes in through appendEvents (append.go; ndjson.go for streams) and
// goes out through pollEvents (poll.go).
package httpapi

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/klauspost/compress/gzhttp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/cacheapi"
	"github.com/buildcast/buildcast/internal/httpapi/cleanupapi"
	"github.com/buildcast/buildcast/internal/httpapi/openapi"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/httpapi/query"
	"github.com/buildcast/buildcast/internal/httpapi/webhookapi"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/store"
)

// Log is the builds' logs; see eventlog.Log.
type Log interface {
	Append(ctx context.Context, buildID string, generation int64, events ...buildcast.NewEvent) (store.Appended, error)
	Create(ctx context.Context, b store.NewBuild) (build buildcast.Build, created bool, err error)
	Delete(ctx context.Context, buildID string) error
}

// Builds reads the builds themselves; see store.Builds.
type Builds interface {
	GetBuild(ctx context.Context, id string) (buildcast.Build, error)
	ListBuilds(ctx context.Context, f store.Filter) (store.Page, error)
}

// Events reads the builds' logs; see store.Reader.
type Events interface {
	ReadEvents(ctx context.Context, buildID string, after int64, limit, maxBytes int) ([]buildcast.Event, error)
	Statuses(ctx context.Context, buildIDs []string) (map[string]buildcast.Status, error)
	Bounds(ctx context.Context, buildIDs []string) (map[string]store.Bounds, error)
}

// Hub makes cursors, and bounds the answers that are under way; see live.Hub.
type Hub interface {
	WatchFrom(buildID string, start buildcast.Start, wake func()) *live.Cursor
	Reserve(bytes int) error
	Release(bytes int)
}

// Planners can be asked with prompts; see planner.Service.
type Planners interface {
	// Names returns the names that a build may give as its planner.
	Names() []string
	// Check reports whether the planner can be asked. Empty means the default one. The
	// error names those that can.
	Check(name string) error
	// Plan makes a plan and runs nothing. The planner has been checked.
	Plan(ctx context.Context, asked PlanRequest) (Planned, error)
}

// Guard decides whether a request may be served; see auth.Guard.
type Guard interface {
	Check(r *http.Request) error
	// CheckPrivate is Check for what is not open to read.
	CheckPrivate(r *http.Request) error
}

// Config is what the API needs. Fields without a default are required.
type Config struct {
	Log    Log
	Builds Builds
	Events Events
	Hub    Hub
	// Ping reports whether the store can write now; it is called once a second at most.
	Ping func(ctx context.Context) error

	// Ready, if set, returns the reason why the server takes no more work,
	// such as that it is stopping; nil means that it does.
	Ready func() error
	// Warning is told to whoever asks for readiness: what is wrong, although the
	// server takes work. Empty: nothing.
	Warning string
	// Stopping, if set, ends waiting polls and open streams when it ends.
	Stopping context.Context
	// Webhooks, if set, serves /api/webhooks; without it these routes answer 404.
	Webhooks webhookapi.Webhooks
	// Planners, if set, make plans from prompts; without them prompts are refused.
	Planners Planners
	// Abilities are what GET /api/server answers with, except for the version.
	Abilities Abilities
	// Cache, if set, serves /api/cache; without it these routes answer 404.
	Cache cacheapi.Cache
	// Cleanup, if set, serves /api/cleanup; without it this route answers 404.
	Cleanup cleanupapi.Cleanup
	// Guard, if set, is asked about every request.
	Guard Guard
	// AllowOrigins are the sites whose pages may call the API from a browser,
	// such as https://app.example.com; "*" means all.
	AllowOrigins []string
	// AllowCredentials lets pages of AllowOrigins, except by "*", send cookies.
	AllowCredentials bool
	// PublicOrigin is the origin of the server's own pages, such as
	// https://example.com; empty: the host that each request names.
	PublicOrigin string
	// Prefix is the path of the server's public URL, such as /buildcast. Requests
	// come without it; links are made with it.
	Prefix  string
	Logger  *slog.Logger // default: slog.Default()
	Version string       // of buildcast; default: dev
}

func (c Config) withDefaults() Config {
	if c.Ready == nil {
		c.Ready = func() error { return nil }
	}
	if c.Stopping == nil {
		c.Stopping = context.Background()
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	if c.Planners == nil {
		c.Planners = noPlanners{}
	}
	return c
}

type api struct {
	Config
	bodies body.Bodies

	mux  *http.ServeMux
	huma huma.API
	doc  openapi.Document
	gzip func(http.Handler) http.HandlerFunc

	pinger   pinger
	planning chan struct{} // holds an entry for each plan that is being made
}

// New returns the API's handler. It leaves time-outs of headers and writes to the
// server, and sets the read deadline of bodies itself: the server's ReadTimeout
// must be 0, or it ends long polls and streams.
//
// It panics if the description of the operations is inconsistent:
// that depends on nothing but this package.
func New(c Config) http.Handler {
	gzip, err := gzhttp.NewWrapper(gzhttp.EnableZstd(false), gzhttp.ContentTypes(compressed))
	if err != nil {
		panic(err)
	}
	a := &api{Config: c.withDefaults(), mux: http.NewServeMux(), gzip: gzip, planning: make(chan struct{}, maxPlanning)}
	a.pinger.ping = c.Ping
	a.huma = humago.New(a.mux, describe(a.Version, cmp.Or(a.PublicOrigin+a.Prefix, "/")))
	a.doc = openapi.Document{OpenAPI: a.huma.OpenAPI()}
	a.routes()
	if err := a.serveDocs(); err != nil {
		panic(err)
	}
	a.mux.Handle("/", a.handler(a.noRoute))
	return a
}

// compressed are the types worth compressing. Streams are not among them:
// they are compressed, if at all, by whoever writes their frames.
var compressed = []string{
	"application/json", "application/problem+json", "application/openapi+json", "application/openapi+yaml",
	"text/html", "text/css", "text/javascript",
}

// handlerFunc serves a request, or returns the error to be answered with before
// it has written anything.
type handlerFunc = func(w http.ResponseWriter, r *http.Request) error

// handle serves the operation and describes it in the OpenAPI document. Reading
// is open, unless it is described as needing a key; writing never is (ServeHTTP).
func (a *api) handle(op *huma.Operation, serve handlerFunc) {
	a.doc.AddOperation(op)
	known, handle := query.OnlyKnown(op, aliases), serve
	serve = func(w http.ResponseWriter, r *http.Request) error {
		if err := known(r); err != nil {
			return err
		}
		return handle(w, r)
	}
	if op.Security != nil && op.Method == http.MethodGet {
		serve = a.private(serve)
	}
	plain := a.handler(serve) // polls and streams compress what they send themselves, in pieces
	zipped := plain
	if op.Method == http.MethodGet && !strings.HasPrefix(op.Path, "/events") && op.Path != eventsRoute {
		zipped = a.gzip(plain)
	}
	a.huma.Adapter().Handle(op, func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		if wantsStream(r) { // it is sent as it comes
			plain.ServeHTTP(w, r)
			return
		}
		zipped.ServeHTTP(w, r)
	})
}

func (a *api) private(serve handlerFunc) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := a.checkPrivate(r); err != nil {
			return err
		}
		return serve(w, r)
	}
}

func (a *api) checkPrivate(r *http.Request) error {
	if a.Guard == nil {
		return nil
	}
	return a.Guard.CheckPrivate(r)
}

func (a *api) handler(serve handlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := serve(w, r); err != nil {
			a.fail(w, r, err)
		}
	})
}

// noRoute answers what matches no route: 405 where another method would.
func (a *api) noRoute(w http.ResponseWriter, r *http.Request) error {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		probe := *r
		probe.Method = method
		if _, pattern := a.mux.Handler(&probe); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		return buildcast.Errorf(buildcast.NotFound, "there is nothing at this address: /docs lists what there is")
	}
	for _, method := range allowed {
		w.Header().Add("Allow", method)
	}
	return buildcast.Errorf(problem.MethodNotAllowed, "%.20s is not allowed here: the Allow header says what is", r.Method)
}
