package proxytest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/server"
)

// Key is the API key of a site's server.
const Key = "0123456789abcdef"

// Site is a server behind a proxy.
type Site struct {
	URL    string // public
	Origin string // of its pages
	Port   int    // of the proxy
	Log    *Log
	Client *http.Client // resolves all names to the proxy, and trusts its certificate
}

// Options configure a site.
type Options struct {
	Documented bool // the proxy and the server, as docs/proxies.md prints; otherwise both by default
	BelowPath  bool // the documented configuration below a path of another site
	Tweak      func(*config.Config, string)
}

// NewSite runs a server and the proxy in front of it until the test ends. Tweak,
// if set, is called with the site's public URL.
func NewSite(t *testing.T, k Kind, o Options) *Site {
	t.Helper()
	port := freePort(t)
	s := &Site{Port: port, Log: &Log{}}
	scheme, host, path := "http", Host, ""
	if o.Documented {
		scheme = "https"
	}
	if o.BelowPath {
		host, path = SharedHost, "/buildcast"
	}
	s.Origin = fmt.Sprintf("%s://%s:%d", scheme, host, port)
	s.URL = s.Origin + path
	s.Client = &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: Roots(), MinVersion: tls.VersionTLS12},
		DialContext: dialer(port),
	}}
	t.Cleanup(s.Client.CloseIdleConnections)
	var cfg config.Config
	if err := kong.ApplyDefaults(&cfg); err != nil {
		t.Fatal(err)
	}
	cfg.Listen, cfg.PreviewListen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.DataDir, cfg.APIKeys = filepath.Join(t.TempDir(), "data"), []string{Key}
	cfg.DrainTimeout = time.Second
	block := k.Default
	if o.Documented {
		cfg.PublicURL = s.URL
		cfg.TrustedProxies = []config.AddressRange{{Prefix: netip.MustParsePrefix("127.0.0.1/32")}}
		cfg.PreviewURL = fmt.Sprintf("https://{label}.previews.example.com:%d", port)
		block = k.Documented(t, o.BelowPath)
	}
	if o.Tweak != nil {
		o.Tweak(&cfg, s.URL)
	}
	api, previews := serve(t, &cfg, s.Log)
	k.Start(t, block, Addresses{Port: port, API: api, Previews: previews})
	return s
}

// serve runs a server until the test ends, and returns the addresses of its listeners.
func serve(t *testing.T, cfg *config.Config, log io.Writer) (api, previews string) {
	t.Helper()
	if err := cfg.Check(); err != nil {
		t.Fatal(err)
	}
	s, err := server.New(t.Context(), *cfg, "test", slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return strings.TrimPrefix(s.URL(), "http://"), strings.TrimPrefix(s.PreviewURL(), "http://")
}

// ClientAddress is the address of the site's Client: on loopback, but not the proxy's.
const ClientAddress = "127.0.0.2"

// dialer connects to the port of this machine, whatever the address.
func dialer(port int) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ClientAddress)}}
		return d.DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", port))
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Answer is an answer and its body.
type Answer struct {
	*http.Response
	Text string
}

// Do sends a request to the site's path, or to a whole URL. Headers come in pairs.
func (s *Site) Do(t *testing.T, method, target, body string, headers ...string) Answer {
	t.Helper()
	if !strings.HasPrefix(target, "http") {
		target = s.URL + target
	}
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body == "" {
		req.Body = http.NoBody
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	resp, err := s.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return Answer{resp, string(text)}
}

// WithKey is the header that a request needs to write.
var WithKey = []string{"Authorization", "Bearer " + Key}

// Report appends events to a build.
func (s *Site) Report(t *testing.T, build, events string) {
	t.Helper()
	if got := s.Do(t, http.MethodPost, "/api/builds/"+build+"/events", events, WithKey...); got.StatusCode != http.StatusCreated {
		t.Fatalf("appending: %d %s", got.StatusCode, got.Text)
	}
}

// Deploy makes the server run the build page, and returns the address of its preview.
func (s *Site) Deploy(t *testing.T) string {
	t.Helper()
	plan := `{"id":"page","plan":{"name":"page","tasks":[{"name":"write","files":{"index.html":"<h1>Hello</h1>"}}],"deploy":"local"}}`
	if got := s.Do(t, http.MethodPost, "/api/builds", plan, WithKey...); got.StatusCode != http.StatusCreated {
		t.Fatalf("starting a build: %d %s", got.StatusCode, got.Text)
	}
	got := s.Do(t, http.MethodGet, "/events/page", "")         // until the build is finished
	_, rest, ok := strings.Cut(got.Text, `"previewUrl":"http`) // the status that the stream begins with has none yet
	rest, _, _ = strings.Cut(rest, `"`)
	if !ok {
		t.Fatalf("no preview: %s", got.Text)
	}
	return "http" + rest
}

// Log is a log that can be read while it is written.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
