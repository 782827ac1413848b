package services

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/address"
	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/egress"
	"github.com/buildcast/buildcast/internal/turbocache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is services over a real cache, and a site that stands for the public internet.
type rig struct {
	*Services
	site *httptest.Server
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	c, err := cache.Open(cache.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{site: httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "public") }))}
	g.site.Listener.Close()
	if g.site.Listener, err = net.Listen("tcp", "127.0.0.2:0"); err != nil {
		t.Fatal(err)
	}
	g.site.Start()
	t.Cleanup(g.site.Close)
	listed, err := egress.ParsePattern(g.site.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Dir: filepath.Join(shortDir(t), "sockets"), Sandboxed: true,
		Proxy: egress.New(egress.Config{
			Allow: []egress.Pattern{listed}, Logger: slog.New(slog.DiscardHandler),
			Guard: address.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, Flag: "--egress-allow-private"},
		}),
		Turbo: turbocache.New(c, slog.New(slog.DiscardHandler)),
	}
	if change != nil {
		change(&cfg)
	}
	if g.Services, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// shortDir is a directory with room for a socket's path.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "services")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// command is a way that was opened, and its environment.
type command struct {
	*Way
	t   *testing.T
	env map[string]string

	mu    sync.Mutex
	lines []string
}

func (g *rig) command(t *testing.T, b buildcast.Build, access egress.Access) *command {
	t.Helper()
	c := &command{t: t, env: map[string]string{}}
	way, err := g.Open(Command{Build: &b, Access: access, Tell: func(line string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lines = append(c.lines, line)
	}})
	if err != nil {
		t.Fatal(err)
	}
	c.Way = way
	for _, v := range way.Env {
		name, value, _ := strings.Cut(v, "=")
		c.env[name] = value
	}
	t.Cleanup(way.Close)
	return c
}

// client is an HTTP client that goes over the bridge, if there is one.
func (c *command) client(proxy string) *http.Client {
	tr := &http.Transport{DisableKeepAlives: true}
	if len(c.Bridges) > 0 {
		tr.DialContext = func(ctx context.Context, _, addr string) (net.Conn, error) {
			if addr != fmt.Sprintf("127.0.0.1:%d", c.Bridges[0].Port) {
				return nil, fmt.Errorf("there is nothing but the bridge, not %s", addr)
			}
			return (&net.Dialer{}).DialContext(ctx, "unix", c.Bridges[0].Socket)
		}
	}
	if proxy != "" {
		tr.Proxy = http.ProxyURL(parse(c.t, proxy))
	}
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// fetch asks the proxy for a URL.
func (c *command) fetch(u string) (status int, text string) {
	return do(c.client(c.env["HTTP_PROXY"]), "GET", u, "", "")
}

// turbo asks the cache.
func (c *command) turbo(method, path, body string) (status int, text string) {
	return do(c.client(""), method, c.env["TURBO_API"]+path, body, c.env["TURBO_TOKEN"])
}

func do(c *http.Client, method, u, body, token string) (status int, text string) {
	req, err := http.NewRequest(method, u, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

var person = buildcast.Build{ID: "b1", Project: "site", Plan: &buildcast.Plan{Build: "true"}}

func direct(c *Config) { c.Sandboxed = false }

// Both ways of reaching the services serve both of them.
func TestCommandReachesItsServices(t *testing.T) {
	for name, change := range map[string]func(*Config){"sandbox": nil, "direct": direct} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, change)
			c := g.command(t, person, egress.Listed)
			if status, text := c.fetch(g.site.URL); status != 200 || text != "public" {
				t.Errorf("%d %s", status, text)
			}
			if status, text := c.turbo("PUT", "/v8/artifacts/aaaa?slug=x", "content"); status != 202 {
				t.Errorf("%d %s", status, text)
			}
			if status, text := g.command(t, person, egress.Off).turbo("GET", "/v8/artifacts/aaaa", ""); text != "content" {
				t.Errorf("%d %s", status, text)
			}
			if c.env["TURBO_TEAM"] != "site" || c.env["HTTPS_PROXY"] != c.env["http_proxy"] || !strings.Contains(c.env["NO_PROXY"], "127.0.0.1") || c.env["TURBO_TELEMETRY_DISABLED"] != "1" {
				t.Errorf("%v", c.env)
			}
		})
	}
}

// A build without a sandbox finds the ports of another's commands, and gains nothing.
func TestAttackAnotherCommandsService(t *testing.T) {
	g := newRig(t, direct)
	victim := g.command(t, person, egress.Open)
	other := person
	other.ID, other.Prompt = "b2", "a page"
	attacker := g.command(t, other, egress.Off)
	theirs := parse(t, victim.env["HTTP_PROXY"])
	for _, user := range []*url.Userinfo{nil, url.User("build"), parse(t, attacker.env["HTTP_PROXY"]).User} {
		theirs.User = user
		if status, text := do(attacker.client(theirs.String()), "GET", g.site.URL, "", ""); status != 407 {
			t.Errorf("its proxy: %d %s", status, text)
		}
	}
	for _, token := range []string{"", "sandbox", attacker.env["TURBO_TOKEN"]} {
		if status, text := do(attacker.client(""), "PUT", victim.env["TURBO_API"]+"/v8/artifacts/aaaa", "poison", token); status != 403 {
			t.Errorf("its cache: %d %s", status, text)
		}
	}
	if status, _ := victim.turbo("GET", "/v8/artifacts/aaaa", ""); status != 404 {
		t.Errorf("the cache has what the attacker stored: %d", status)
	}
}

// What a model's plan stores is not read by a person's, whatever team it names.
func TestAttackCachePoisoningByAPlannedBuild(t *testing.T) {
	g := newRig(t, nil)
	made := person
	made.ID, made.Prompt = "b2", "a page"
	if status, _ := g.command(t, made, egress.Off).turbo("PUT", "/v8/artifacts/aaaa?slug=site&teamId=site", "poison"); status != 202 {
		t.Fatalf("%d", status)
	}
	if status, text := g.command(t, person, egress.Off).turbo("GET", "/v8/artifacts/aaaa?slug=site", ""); status != 404 {
		t.Errorf("%d %s", status, text)
	}
	g.command(t, person, egress.Off).turbo("PUT", "/v8/artifacts/bbbb", "content")
	fresh := person
	fresh.NoCache = true
	if status, _ := g.command(t, fresh, egress.Off).turbo("GET", "/v8/artifacts/bbbb", ""); status != 404 {
		t.Errorf("a build without cache reads it: %d", status)
	}
}

// What is refused is told in the build's output, each host once.
func TestRefusedHostIsTold(t *testing.T) {
	g := newRig(t, nil)
	c := g.command(t, person, egress.Off)
	for range 3 {
		if status, text := c.fetch("http://registry.test/x"); status != 403 || !strings.Contains(text, "registry.test:80 is refused: the network is off for this command") {
			t.Errorf("%d %s", status, text)
		}
	}
	for i := range 30 {
		c.fetch(fmt.Sprintf("http://host%d.test/", i))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lines) != maxTold || !strings.HasPrefix(c.lines[0], "[registry.test:80 is refused: ") || slices.Contains(c.lines[1:], c.lines[0]) {
		t.Errorf("%d lines: %q", len(c.lines), c.lines)
	}
}

// A command's way ends with the command, and leaves nothing behind.
func TestWayEndsWithTheCommand(t *testing.T) {
	g := newRig(t, nil)
	c := g.command(t, person, egress.Listed)
	socket := c.Bridges[0].Socket
	if info, err := os.Stat(filepath.Dir(socket)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the sockets' directory: %v, %v", info, err)
	}
	c.Close()
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is still there")
	}
	if status, _ := c.fetch(g.site.URL); status != 0 {
		t.Errorf("it is still served: %d", status)
	}
}

// status asks for the cache's status on a connection.
func status(t *testing.T, socket string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /v8/artifacts/status HTTP/1.1\r\nHost: x\r\n\r\n")
	return conn
}

// One command cannot take all connections; the rest of its own wait.
func TestConnectionsAreBounded(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Connections = 2 })
	socket := g.command(t, person, egress.Listed).Bridges[0].Socket
	first, second := status(t, socket), status(t, socket)
	for _, conn := range []net.Conn{first, second} { // an answer shows that it is served
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	third := status(t, socket)
	_ = third.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := third.Read(make([]byte, 1)); n > 0 || !os.IsTimeout(err) {
		t.Errorf("the third is served: %d, %v", n, err)
	}
	if status, _ := g.command(t, person, egress.Listed).fetch(g.site.URL); status != 200 {
		t.Errorf("another command: %d", status)
	}
	first.Close()
	_ = third.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := third.Read(make([]byte, 1)); err != nil {
		t.Errorf("the third is not served when there is room: %v", err)
	}
}

// The path of a socket has 107 bytes at most.
func TestLongDataDir(t *testing.T) {
	long := filepath.Join(shortDir(t), strings.Repeat("d", 120))
	g := newRig(t, func(c *Config) { c.Dir = long })
	if status, text := g.command(t, person, egress.Listed).fetch(g.site.URL); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	if g.dir == long {
		t.Error("the long path is used")
	}
	old := g.dir
	again, err := New(g.config) // the first one was killed
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary directory of a killed server: %v", err)
	}
	again.Close()
	for _, dir := range []string{long, again.dir} {
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
}

func TestRegistryAndCertificates(t *testing.T) {
	t.Setenv("NODE_EXTRA_CA_CERTS", "/etc/ssl/certs/own.pem")
	t.Setenv("SSL_CERT_FILE", "/home/me/.secret/own.pem")
	g := newRig(t, func(c *Config) { c.Registry = "https://npm.example.com/" })
	c := g.command(t, person, egress.Open)
	if c.env["npm_config_registry"] != "https://npm.example.com/" || c.env["NODE_EXTRA_CA_CERTS"] != "/etc/ssl/certs/own.pem" {
		t.Errorf("%v", c.env)
	}
	if v, ok := c.env["SSL_CERT_FILE"]; ok {
		t.Errorf("a file that no sandbox shows: %s", v)
	}
}
