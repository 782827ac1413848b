package server

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/buildcast/buildcast/internal/limit"
)

// Limits of HTTP connections. Package limit sets the deadlines of answers and
// bodies: an http.Server's timeouts would end streams and long polls.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 32 << 10
)

// Descriptors that connections may not use, so that watchers cannot fail builds.
const (
	ownDescriptors     = 80 // the store, webhooks, logs, workspaces, previews that are deployed
	commandDescriptors = 4  // for each running command: its pipes, while it is started
)

// share is how many connections each listener may have.
type share struct{ api, previews int }

// shareOf divides the process's descriptors. A preview's connection needs two,
// because it opens the served file. Builds get at most three quarters, so that
// watchers can always connect.
func shareOf(descriptors, commands int) share {
	reserve := min(ownDescriptors+commands*commandDescriptors, descriptors*3/4)
	n := descriptors - reserve
	return share{api: max(n*3/4, 4), previews: max(n/8, 4)}
}

// serveHTTP returns the listener's server, which has at most n connections.
func (s *Server) serveHTTP(l *httpServer, flag string, n int, h http.Handler) {
	crowd := limit.NewCrowd(limit.CrowdConfig{
		Total: n, Active: n - n/4, // a quarter is for connections that have not sent a request yet
		Full: func() {
			s.logger.Warn("all connections are in use: the oldest are closed for new ones; allow the server more open files (ulimit -n, LimitNOFILE)",
				"listener", flag, "connections", n)
		},
	})
	limited := limit.NewListener(l.listener, crowd)
	l.listener = limited
	l.Server = &http.Server{
		Handler: limit.Deadlines(h), ConnState: limited.ConnState,
		ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
}
