// Package services gives the commands of builds what they may use of this server: a way
// to the network (package egress) and Turborepo's remote cache (package turbocache).
//
// Each command gets a listener of its own, for as long as it runs, that serves both: a
// Unix socket to which the runner makes a bridge into the sandbox, or without a sandbox a
// port of loopback. So what a command may do follows from the listener it reaches, and
// from nothing that it says. On loopback other commands reach the port too: there a
// secret of the command's environment is asked for.
package services

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/egress"
	"github.com/buildcast/buildcast/internal/runner"
	"github.com/buildcast/buildcast/internal/turbocache"
)

// DefaultOrg is the org of all builds of a server without tenants.
const DefaultOrg = "default"

// bridgePort is the port inside a sandbox. It is below the range that systems take
// ports for outgoing connections from, and no well-known server's.
const bridgePort = 18118

// Limits of a command's listener.
const (
	maxConnections = 64 // at once; more wait
	headerTimeout  = 10 * time.Second
	idleTimeout    = time.Minute
	maxHeaderBytes = 32 << 10
	// maxSocketPath is one less than what the address of a Unix socket has room for.
	maxSocketPath = 107
)

// Config is what the services are made of.
type Config struct {
	// Dir holds the sockets. It is emptied. If its path is too long for a socket's, it is a
	// link to a temporary directory.
	Dir string
	// Sandboxed says that commands run in a sandbox, and reach sockets only.
	Sandboxed bool
	Proxy     *egress.Proxy
	Turbo     *turbocache.Handler
	// Registry is npm's registry; empty: npm's own default.
	Registry string
	// Connections is how many connections a command may have at once; 0: 64.
	Connections int
	Logger      *slog.Logger // nil: slog's default
}

// Services opens the services for commands. It may be used from many goroutines.
type Services struct {
	config Config
	dir    string // of the sockets
	number atomic.Int64
}

// New makes the directory of the sockets.
func New(c Config) (*Services, error) {
	c.Connections = cmp.Or(c.Connections, maxConnections)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Services{config: c, dir: c.Dir}
	if !c.Sandboxed {
		return s, nil
	}
	if err := s.clear(); err != nil { // the sockets of a server that was killed
		return nil, err
	}
	if len(c.Dir)+len("/9999999999") <= maxSocketPath {
		return s, os.MkdirAll(c.Dir, 0o700)
	}
	var err error
	if s.dir, err = os.MkdirTemp("", "buildcast-"); err != nil {
		return nil, err
	}
	return s, os.Symlink(s.dir, c.Dir)
}

// clear removes the directory of the sockets, and the one that it is a link to.
func (s *Services) clear() error {
	target, err := os.Readlink(s.config.Dir)
	if err != nil { // it is no link, or does not exist
		return os.RemoveAll(s.config.Dir)
	}
	return errors.Join(os.RemoveAll(target), os.Remove(s.config.Dir))
}

// Close removes the directory of the sockets, and ends what the proxy keeps. All
// commands have ended.
func (s *Services) Close() {
	if s.config.Sandboxed {
		if err := s.clear(); err != nil {
			s.config.Logger.Warn("the sockets of commands cannot be removed", "error", err)
		}
	}
	s.config.Proxy.Close()
}

// Command is what the services need to know of a command.
type Command struct {
	Build  *buildcast.Build
	Access egress.Access
	// Tell takes a line for the build's output, about what the command may not reach.
	Tell func(line string)
}

// Way is how a command reaches the services. Close it when the command has ended.
type Way struct {
	Env     []string
	Bridges []runner.Bridge

	service *service
}

// Close ends the command's connections.
func (w *Way) Close() { w.service.close() }

// Open opens the services for a command.
func (s *Services) Open(c Command) (*Way, error) {
	listener, address, err := s.listen()
	if err != nil {
		return nil, fmt.Errorf("open the services of a command: %w", err)
	}
	v := &service{
		door:  s.config.Proxy.Door(c.Access, tellOnce(c.Tell)),
		turbo: s.config.Turbo, access: accessOf(c.Build),
	}
	w := &Way{service: v}
	if s.config.Sandboxed {
		w.Bridges = []runner.Bridge{{Port: bridgePort, Socket: listener.Addr().String()}}
	} else {
		v.token = rand.Text()
	}
	w.Env = s.environment(address, v.token, v.access.Scope.Project)
	v.serve(bound(listener, s.config.Connections))
	return w, nil
}

// listen also returns the address at which the command reaches the listener.
func (s *Services) listen() (l net.Listener, address string, err error) {
	var network net.ListenConfig
	if s.config.Sandboxed {
		l, err = network.Listen(context.Background(), "unix", filepath.Join(s.dir, strconv.FormatInt(s.number.Add(1), 10)))
		return l, "127.0.0.1:" + strconv.Itoa(bridgePort), err
	}
	if l, err = network.Listen(context.Background(), "tcp", "127.0.0.1:0"); err != nil {
		return nil, "", err
	}
	return l, l.Addr().String(), nil
}

// accessOf is what the build's commands may read and write of turbo's cache. The team
// that they name does not matter.
func accessOf(b *buildcast.Build) turbocache.Access {
	return turbocache.Access{
		Scope:   cache.Scope{Org: DefaultOrg, Project: Team(b.Project), Planned: b.Planned()},
		BuildID: b.ID, NoRead: b.NoCache,
	}
}

// Team is the team of turbo that stands for a project: the two are the same, but turbo
// needs one.
func Team(project string) string { return cmp.Or(project, DefaultOrg) }

// environment returns the variables that make programs use the services.
func (s *Services) environment(address, token, team string) []string {
	proxy := url.URL{Scheme: "http", Host: address}
	if token != "" {
		proxy.User = url.UserPassword("build", token)
	}
	const direct = "localhost,127.0.0.1,::1" // a command's own servers
	var env []string
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "YARN_HTTPS_PROXY", "YARN_HTTP_PROXY"} {
		env = append(env, name+"="+proxy.String())
	}
	env = append(env,
		"https_proxy="+proxy.String(), "http_proxy="+proxy.String(), "NO_PROXY="+direct, "no_proxy="+direct,
		"NODE_USE_ENV_PROXY=1", // Node's own fetch, from 22.21 and 24 on
		"TURBO_API=http://"+address, "TURBO_TOKEN="+cmp.Or(token, "sandbox"), "TURBO_TEAM="+team,
		"TURBO_TELEMETRY_DISABLED=1", "TURBO_NO_UPDATE_NOTIFIER=1", "DO_NOT_TRACK=1",
	)
	if s.config.Registry != "" {
		env = append(env, "npm_config_registry="+s.config.Registry, "YARN_NPM_REGISTRY_SERVER="+s.config.Registry)
	}
	return append(env, authorities()...)
}

// authorities returns those of the server's variables that name files with certificates,
// if a sandbox shows them. Behind a proxy that decrypts, nothing works without them.
func authorities() (env []string) {
	for _, name := range []string{"NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"} {
		path := filepath.Clean(os.Getenv(name))
		if strings.HasPrefix(path, "/etc/ssl/") || strings.HasPrefix(path, "/usr/") {
			env = append(env, name+"="+path)
		}
	}
	return env
}

// maxTold bounds the lines of one command about what it may not reach.
const maxTold = 20

// tellOnce tells each line once: programs try again.
func tellOnce(tell func(string)) func(string) {
	if tell == nil {
		return nil
	}
	told := newSet(maxTold)
	return func(text string) {
		if told.add(text) {
			tell("[" + text + "]")
		}
	}
}
