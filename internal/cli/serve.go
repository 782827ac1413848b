package cli

import (
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/buildcast/buildcast/internal/cli/verb"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/server"
)

type serveCmd struct {
	config.Config `embed:""`
}

// Help returns the text below the summary in the verb's help.
func (serveCmd) Help() string {
	return `
Each setting is a flag, a BUILDCAST_ variable, or a line of the configuration file
under the flag's name. A flag overrides a variable, and a variable the file.

    buildcast serve
    BUILDCAST_API_KEYS=@keys buildcast serve --listen :8080
    BUILDCAST_DATABASE=postgres://user:password@db/buildcast buildcast serve

SIGTERM and Ctrl-C drain the server: it accepts no more requests, and running
builds stop and go on at the next start. Acknowledged events are stored already. A
second signal ends the server at once.`
}

func (c *serveCmd) Run(s *verb.Session) error {
	if err := c.Check(); err != nil {
		return err
	}
	ctx, stop := s.UntilInterrupted()
	defer stop()
	logger := newLogger(s.Stderr, c.LogFormat, c.LogLevel)
	srv, err := server.New(ctx, c.Config, version(), logger)
	if err != nil {
		return err
	}
	if c.LogFormat == "json" {
		logger.Info("ready", "url", srv.URL(), "public_url", srv.PublicURL(), "preview_url", srv.PreviewURL(), "store", c.Store(), "sandbox", srv.Sandbox())
	} else {
		welcome(s, srv, &c.Config)
	}
	if err := srv.Run(ctx); err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}

func welcome(s *verb.Session, srv *server.Server, c *config.Config) {
	s.Note("buildcast %s is ready", version())
	s.Note("  dashboard %s", srv.PublicURL())
	s.Note("  API       %s/docs", srv.PublicURL())
	if srv.PublicURL() != srv.URL() {
		s.Note("  listening %s", srv.URL())
	}
	s.Note("  previews  %s", srv.PreviewURL())
	s.Note("  data      %s", c.Store())
	s.Note("  sandbox   %s", srv.Sandbox())
	if public := c.Public(); public != nil && len(c.APIKeys) == 0 && !c.Insecure && !config.Loopback(net.JoinHostPort(public.Hostname(), "0")) {
		s.Note("  NOTE      nobody may write, because the server is public and has no --api-keys")
	}
	if c.Insecure && !config.Loopback(c.Listen) && len(c.APIKeys) == 0 {
		s.Note("  WARNING   --insecure: whoever reaches %s can run commands on this machine", c.Listen)
	}
}

// newLogger returns the server's logger. Level and format have been checked.
func newLogger(w io.Writer, format, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		panic(fmt.Sprintf("log level %q was not checked", level))
	}
	o := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
