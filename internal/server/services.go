package server

import (
	"log/slog"
	"net/http"

	"github.com/buildcast/buildcast/internal/address"
	"github.com/buildcast/buildcast/internal/auth"
	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/egress"
	"github.com/buildcast/buildcast/internal/request"
	"github.com/buildcast/buildcast/internal/services"
	"github.com/buildcast/buildcast/internal/turbocache"
)

// openCache returns the cache; nil if its directory cannot be used. A cache never keeps
// a server from starting.
func openCache(cfg *config.Config, dir string, logger *slog.Logger) *cache.Cache {
	room := cfg.Cache
	c, err := cache.Open(cache.Config{
		Dir: dir, Max: int64(room.Max), MinFree: int64(room.MinFree), Reserved: int64(room.Reserved), Logger: logger,
	})
	if err != nil {
		logger.Warn("the cache cannot be used: everything runs without it", "error", err)
		return nil
	}
	return c
}

// newServices returns what commands may use of this server.
func (s *Server) newServices() (*services.Services, error) {
	c := s.config.Egress
	network := egress.Config{Guard: address.Guard{Allow: c.AllowPrivate, Flag: "--egress-allow-private"}, Logger: s.logger}
	for _, text := range c.Allow {
		pattern, err := egress.ParsePattern(text)
		if err != nil {
			return nil, ofFlag("--egress-allow", err)
		}
		network.Allow = append(network.Allow, pattern)
	}
	if c.Proxy != "" {
		upstream, err := egress.ParseUpstream(c.Proxy)
		if err != nil {
			return nil, ofFlag("--egress-proxy", err)
		}
		network.Upstream = upstream
	}
	var artifacts turbocache.Cache // nil without a cache, and not a nil pointer in an interface
	if s.cache != nil {
		artifacts = s.cache
	}
	s.turbo = turbocache.New(artifacts, s.logger)
	return services.New(services.Config{
		Dir: s.file("sockets"), Sandboxed: s.runner.Sandbox() != "none",
		Proxy: egress.New(network), Turbo: s.turbo, Registry: s.config.NPMRegistry,
		Logger: s.logger,
	})
}

// serveTurbo serves Turborepo's remote cache to whoever may write: a team is a project,
// and what is kept under it is shared with the builds of the project whose plans people
// wrote.
func (s *Server) serveTurbo(guard *auth.Guard) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := guard.CheckPrivate(r); err != nil {
			request.Failed(r.Context(), err)
			turbocache.Refuse(w, http.StatusForbidden, "forbidden", err.Error())
			return
		}
		s.turbo.Serve(w, r, turbocache.Access{Scope: cache.Scope{Org: services.DefaultOrg, Project: services.Team(turbocache.Team(r))}})
	}
}
