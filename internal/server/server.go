// Package server wires buildcast's parts and runs them. It is the only package that
// imports them all.
//
// [New] opens the data directory, the database and both addresses; if it fails, the
// error names the fix. [Server.Run] serves until its context ends, and then drains:
//   - it reports not ready, accepts no more requests and ends waiting ones,
//   - stops the running builds, which resume from their logs,
//   - flushes the log, and
//   - closes the store.
package server

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/auth"
	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/cleanup"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/dashboard"
	"github.com/buildcast/buildcast/internal/deploy/cloudflare"
	"github.com/buildcast/buildcast/internal/deploy/local"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/httpapi"
	"github.com/buildcast/buildcast/internal/httpapi/cacheapi"
	"github.com/buildcast/buildcast/internal/limit"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/pipeline"
	"github.com/buildcast/buildcast/internal/planner"
	"github.com/buildcast/buildcast/internal/request"
	"github.com/buildcast/buildcast/internal/runner"
	"github.com/buildcast/buildcast/internal/services"
	"github.com/buildcast/buildcast/internal/socketapi"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/store/postgres"
	"github.com/buildcast/buildcast/internal/store/sqlite"
	"github.com/buildcast/buildcast/internal/turbocache"
	"github.com/buildcast/buildcast/internal/webhook"
)

// openTimeout bounds connecting to the database and bringing its tables up to date.
const openTimeout = 30 * time.Second

// The flags that errors about addresses name.
const (
	flagListen  = "--listen"
	flagPreview = "--preview-listen"
)

// Server is one buildcast server that holds its data directory, its database
// and its addresses. Run it once, or Close it.
type Server struct {
	config config.Config
	logger *slog.Logger
	dir    *dataDir
	store  store.Store
	// warning is what is wrong although the server runs; empty: nothing.
	warning string

	log      *eventlog.Log
	hub      *live.Hub
	previews *local.Target
	// cloudflare is nil if builds cannot be deployed there.
	cloudflare *cloudflare.Target
	// cache is nil if its directory cannot be used.
	cache    *cache.Cache
	runner   *runner.Runner
	services *services.Services
	turbo    *turbocache.Handler
	pipeline *pipeline.Pipeline
	cleanup  *cleanup.Service
	planners *planner.Service
	sockets  *socketapi.Server
	webhooks *webhook.Service

	leftovers *leftovers

	api, preview httpServer
	// stopping ends when the drain begins.
	stopping context.Context
	stop     context.CancelFunc
}

// New returns a server that listens, but does not answer before Run. The config
// must have been checked. Errors are *buildcast.Error.
func New(ctx context.Context, cfg config.Config, version string, logger *slog.Logger) (_ *Server, err error) {
	s := &Server{config: cfg, logger: logger}
	s.stopping, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	guard, err := newGuard(cfg)
	if err != nil {
		return nil, err
	}
	if s.dir, err = openDataDir(cfg.DataDir); err != nil {
		return nil, err
	}
	if s.api.listener, err = listen(ctx, flagListen, cfg.Listen); err != nil {
		return nil, err
	}
	if s.preview.listener, err = listen(ctx, flagPreview, cfg.PreviewListen); err != nil {
		return nil, err
	}
	if s.store, s.warning, err = openStore(ctx, cfg); err != nil {
		return nil, err
	}
	if s.warning != "" {
		logger.Warn(s.warning)
	}
	if err := s.openRunner(ctx); err != nil {
		return nil, err
	}
	if err := s.wire(guard, version); err != nil {
		return nil, err
	}
	return s, nil
}

// wire creates the parts. None of them does anything before Run.
func (s *Server) wire(guard *auth.Guard, version string) (err error) {
	s.log = eventlog.New(s.store, s.store, s.logger)
	s.hub = live.NewHub(s.store)
	if s.webhooks, err = s.newWebhooks(); err != nil {
		return err
	}
	at, err := s.previewAddress()
	if err != nil {
		return err
	}
	s.previews = local.New(local.Config{
		Dir: s.file("previews"), Address: at, Retain: s.config.PreviewKeep, Exists: s.buildExists, Logger: s.logger,
	})
	s.cache = openCache(&s.config, s.file("cache"), s.logger)
	if s.planners, err = s.openPlanners(); err != nil {
		return err
	}
	if s.services, err = s.newServices(); err != nil {
		return err
	}
	if s.pipeline, err = s.newPipeline(); err != nil {
		return err
	}
	s.cleanup = s.newCleanup()
	s.leftovers = newLeftovers(s.logger, s.removeFiles)
	for _, changed := range []func(eventlog.Change){s.hub.Changed, s.webhooks.Changed, s.pipeline.Changed, s.leftovers.Changed} {
		s.log.Subscribe(changed)
	}
	var kept cacheapi.Cache // nil without a cache, and not a nil pointer in an interface
	if s.cache != nil {
		kept = s.cache
	}
	handler := httpapi.New(httpapi.Config{
		Log: s.log, Builds: s.store, Events: s.store, Hub: s.hub, Ping: s.store.Ping,
		Ready:    func() error { return s.stopping.Err() },
		Warning:  s.warning,
		Stopping: s.stopping,
		Webhooks: s.webhooks,
		Cache:    kept,
		Cleanup:  s.cleanup,
		Planners: plans{s.planners}, Abilities: s.abilities(),
		Guard: guard, AllowOrigins: s.config.AllowOrigins, AllowCredentials: s.config.AllowCredentials,
		PublicOrigin: s.config.PublicOrigin(), Prefix: s.config.Prefix(),
		Logger: s.logger, Version: version,
	})
	s.sockets = socketapi.New(s.hub, s.socketConfig())
	root := http.NewServeMux()
	root.Handle("/", handler)
	pages := dashboard.New(dashboard.Config{Statuses: s.store.Statuses, CheckHost: guard.CheckHost, Previews: s.framed})
	for _, route := range dashboard.Routes() {
		root.Handle(route, pages)
	}
	root.HandleFunc(turbocache.Prefix+"/", s.serveTurbo(guard))
	root.HandleFunc(turbocache.Prefix, s.serveTurbo(guard))
	root.HandleFunc("/socket.io/", func(w http.ResponseWriter, r *http.Request) {
		if err := guard.CheckHost(r); err != nil {
			request.Failed(r.Context(), err)
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		s.sockets.ServeHTTP(w, r)
	})
	passing := request.Config{TrustedProxies: s.config.Proxies(), Logger: s.logger}
	n := shareOf(limit.Descriptors(), s.config.Builds*s.config.Tasks)
	s.serveHTTP(&s.preview, flagPreview, n.previews, request.Handler(passing, s.previews.Handler()))
	passing.Prefix = s.config.Prefix()
	s.serveHTTP(&s.api, flagListen, n.api, request.Handler(passing, root))
	return nil
}

func newGuard(cfg config.Config) (*auth.Guard, error) {
	// "*" allows all pages to read; it allows no page to write.
	origins := slices.DeleteFunc(slices.Clone(cfg.AllowOrigins), func(o string) bool { return o == "*" })
	return auth.New(auth.Config{
		Keys: cfg.APIKeys, TrustedOrigins: origins, Public: cfg.Public(),
		AnyHost: cfg.Insecure && !config.Loopback(cfg.Listen), AnyProxy: cfg.Insecure,
	})
}

func listen(ctx context.Context, flag, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, buildcast.Errorf(buildcast.Conflict, "%s: %s is in use by another program: stop that one, or choose another address (port 0 takes a free one)", flag, addr).At(flag)
	case errors.Is(err, syscall.EACCES):
		return nil, buildcast.Errorf(buildcast.InvalidArgument, "%s: listening on %s is not allowed for this user: choose a port above 1023", flag, addr).At(flag)
	}
	return nil, buildcast.Errorf(buildcast.InvalidArgument, "%s: cannot listen on %s (%v): use an address of this machine, such as %s", flag, addr, cause(err), config.DefaultListen).At(flag)
}

// cause returns the system's error, which is shorter, or err if there is none.
func cause(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return err
}

// AddressTaken reports whether New failed because another program has an address.
func AddressTaken(err error) bool {
	e, ok := errors.AsType[*buildcast.Error](err)
	return ok && e.Code == buildcast.Conflict && (e.Field == flagListen || e.Field == flagPreview)
}

// openStore opens the database. warning is a problem that does not prevent its use.
func openStore(ctx context.Context, cfg config.Config) (_ store.Store, warning string, err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	// Separate returns: a nil *Store in the interface would not be nil.
	if cfg.Database == "" {
		db, err := sqlite.Open(ctx, cfg.File("buildcast.db"))
		if err != nil {
			return nil, "", err
		}
		return db, db.Warning(), nil
	}
	db, err := postgres.Open(ctx, cfg.Database)
	if err != nil {
		return nil, "", err
	}
	return db, "", nil
}

// URL returns the API's address on this machine.
func (s *Server) URL() string { return URLOf(s.api.listener.Addr().String()) }

// PublicURL returns the address at which browsers reach the API.
func (s *Server) PublicURL() string { return cmp.Or(s.config.PublicURL, s.URL()) }

// PreviewURL returns the preview server's address on this machine.
func (s *Server) PreviewURL() string { return URLOf(s.preview.listener.Addr().String()) }

// URLOf returns the URL for a listening address on this machine. If it listens on
// all interfaces, the URL has the loopback address.
func URLOf(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "http://" + listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

func (s *Server) file(name string) string {
	return strings.TrimSuffix(s.dir.path, "/") + "/" + name
}

// Close closes what New opened. Run calls it itself.
func (s *Server) Close() {
	s.stop()
	for _, h := range []*httpServer{&s.api, &s.preview} {
		if h.listener != nil {
			h.listener.Close()
		}
	}
	if s.services != nil {
		s.services.Close()
		s.services = nil
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.logger.Warn("closing the store", "error", err)
		}
		s.store = nil
	}
	if s.dir != nil {
		s.dir.close()
		s.dir = nil
	}
}

func (s *Server) info() Info {
	return Info{URL: s.URL(), PublicURL: s.PublicURL(), PreviewURL: s.PreviewURL(), PID: os.Getpid()}
}
