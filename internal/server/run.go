package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Run serves until ctx ends and then drains. It returns nil if the drain succeeded.
// If a part ends by itself, Run drains too and returns that part's error.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	parts, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	core := s.newStage(parts, "the log")
	core.run("the log", s.log.Run)
	core.run("the hub", s.hub.Run)
	core.run("the previews", s.previews.Run)
	if s.cache != nil {
		core.run("the cache", s.cache.Run)
	}
	core.run("the removal of leftovers", s.leftovers.run)
	if s.cloudflare != nil {
		core.run("the clean-up at Cloudflare", s.cloudflare.Run)
	}
	sending := s.newStage(parts, "the webhooks")
	sending.run("the webhooks", s.webhooks.Run)
	work := s.newStage(parts, "the builds")
	work.run("the pipeline", s.pipeline.Run)
	// Write it before the first answer: a program that finds the directory in use
	// reads this server's address from it.
	infoErr := s.dir.writeInfo(s.info())
	intake := s.newStage(parts, "requests")
	intake.run("the API", s.api.run(s.config.DrainTimeout))
	intake.run("the sockets", s.sockets.Run)
	intake.run("the preview server", s.preview.run(s.config.DrainTimeout))

	if infoErr == nil {
		s.logger.Debug("settings", "config", &s.config)
		select {
		case <-ctx.Done():
		case <-failed.Done():
		}
	}
	s.logger.Debug("stopping")
	s.stop()
	if err := s.dir.removeInfo(); err != nil {
		s.logger.Warn("server.json cannot be removed", "error", err)
	}
	for _, st := range []*stage{intake, work, sending, core} {
		if err := st.end(); err != nil {
			return err // a part hangs: waiting for the group would hang too
		}
	}
	if err := parts.Wait(); err != nil {
		return err
	}
	if infoErr != nil {
		return dirError(s.config.DataDir, "cannot be written", infoErr)
	}
	return nil
}

// stage is a set of parts that are stopped together, after the parts that depend on
// them: the log still runs while builds append their last events.
type stage struct {
	name     string
	ctx      context.Context
	cancel   context.CancelFunc
	group    *errgroup.Group
	parts    sync.WaitGroup
	patience time.Duration
}

func (s *Server) newStage(group *errgroup.Group, name string) *stage {
	// The server's own context is not used: it would end all stages at once.
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.stopping))
	// Twice the timeout, because a part may itself wait that long.
	return &stage{name: name, ctx: ctx, cancel: cancel, group: group, patience: 2*s.config.DrainTimeout + time.Second}
}

func (st *stage) run(name string, run func(context.Context) error) {
	st.parts.Add(1)
	st.group.Go(func() error {
		defer st.parts.Done()
		err := run(st.ctx)
		switch {
		case st.ctx.Err() != nil:
			return nil // it was told to end
		case err == nil:
			return fmt.Errorf("%s ended by itself", name)
		}
		return fmt.Errorf("%s: %w", name, err)
	})
}

// end stops the stage's parts and waits until they have ended.
func (st *stage) end() error {
	st.cancel()
	ended := make(chan struct{})
	go func() { // ends with the parts; if they hang, the process is about to exit
		st.parts.Wait()
		close(ended)
	}()
	patience := time.NewTimer(st.patience)
	defer patience.Stop()
	select {
	case <-ended:
		return nil
	case <-patience.C:
		return fmt.Errorf("%s did not stop within %v; acknowledged events are stored, and builds continue at the next start", st.name, st.patience)
	}
}

// httpServer is a server and the listener it was given.
type httpServer struct {
	*http.Server
	listener net.Listener
}

// run serves until ctx ends, then waits for requests under way, patience at most.
func (h *httpServer) run(patience time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		served := make(chan error, 1)
		go func() { served <- h.Serve(h.listener) }()
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
		}
		soft, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		if h.Shutdown(soft) != nil {
			h.Close() // cuts the remaining requests; clients continue from their cursors
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}
