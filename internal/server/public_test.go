package server

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/config"
)

// ask sends a request and returns the answer, and the log of it. Headers come in pairs.
func ask(t *testing.T, s *Server, method, target string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(`{"id":"b1"}`))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodGet {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		if req.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Everything is served below the path of the public URL, whether the proxy removes
// or keeps the path, and all links have it.
func TestPathPrefix(t *testing.T) {
	cfg := settings(t)
	cfg.PublicURL, cfg.APIKeys = "https://example.com/buildcast", []string{"0123456789abcdef"}
	s, _ := start(t, cfg)
	for _, prefix := range []string{"", "/buildcast"} {
		base := s.URL() + prefix
		for _, path := range []string{"/", "/builds/b1", "/webhooks", "/assets/app/build.js", "/docs", "/docs/docs.js", "/openapi.json", "/healthz", "/api/builds", "/socket.io/?EIO=4&transport=polling"} {
			if status, body := get(t, base+path); status != http.StatusOK {
				t.Errorf("%s%s: %d %s", prefix, path, status, body)
			}
		}
		resp := ask(t, s, http.MethodPost, base+"/api/builds", "Authorization", "Bearer 0123456789abcdef")
		if got := resp.Header.Get("Location"); got != "/buildcast/api/builds/b1" {
			t.Errorf("Location %q", got)
		}
		var problem struct{ Type string }
		if err := json.Unmarshal([]byte(text(t, ask(t, s, http.MethodGet, base+"/api/builds/none"))), &problem); err != nil || problem.Type != "/buildcast/docs#not_found" {
			t.Errorf("type %q, %v", problem.Type, err)
		}
	}
	if resp := ask(t, s, http.MethodGet, s.URL()+"/buildcast"); resp.StatusCode != http.StatusPermanentRedirect || resp.Header.Get("Location") != "/buildcast/" {
		t.Errorf("without its slash: %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if got := text(t, ask(t, s, http.MethodGet, s.URL()+"/openapi.json")); !strings.Contains(got, `"servers":[{"url":"https://example.com/buildcast"}]`) {
		t.Errorf("the document names other servers: %.200s", got)
	}
}

// logs is a log that can be read while it is written.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var loopback = []config.AddressRange{{Prefix: netip.MustParsePrefix("127.0.0.1/32")}}

const sockets = "/socket.io/?EIO=4&transport=polling"

// TestSocketOriginBehindAProxy: the page's Origin is the public one, and the Host
// that arrives is the proxy's.
func TestSocketOriginBehindAProxy(t *testing.T) {
	const public = "https://builds.example.com"
	for _, tt := range []struct {
		name    string
		config  func(*config.Config)
		headers []string
		ok      bool
	}{
		{"by default", func(*config.Config) {}, nil, false},
		{"public URL", func(c *config.Config) { c.PublicURL = public }, nil, true},
		{"public URL with a path", func(c *config.Config) { c.PublicURL = public + "/buildcast" }, nil, true},
		{"another public URL", func(c *config.Config) { c.PublicURL = "https://other.example.com" }, nil, false},
		{"a proxy that tells the host", func(c *config.Config) { c.TrustedProxies = loopback }, []string{"X-Forwarded-Host", "builds.example.com", "X-Forwarded-Proto", "https"}, true},
		{"another scheme", func(c *config.Config) { c.TrustedProxies = loopback }, []string{"X-Forwarded-Host", "builds.example.com", "X-Forwarded-Proto", "http"}, false},
		{"a proxy that is not trusted", func(*config.Config) {}, []string{"X-Forwarded-Host", "builds.example.com", "X-Forwarded-Proto", "https"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := settings(t)
			cfg.APIKeys = []string{"0123456789abcdef"}
			tt.config(&cfg)
			var log logs
			s, stop := startLogging(t, cfg, slog.New(slog.NewTextHandler(&log, nil)))
			resp := ask(t, s, http.MethodGet, s.URL()+sockets, append(tt.headers, "Origin", public)...)
			body := text(t, resp)
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if tt.ok {
				if resp.StatusCode != http.StatusOK {
					t.Errorf("%d %s", resp.StatusCode, body)
				}
				return
			}
			for _, fix := range []string{"--allow-origins", "--public-url"} {
				if resp.StatusCode != http.StatusForbidden || !strings.Contains(body, fix) || !strings.Contains(log.String(), fix) {
					t.Errorf("%d %s; the fix %s is missing there or in the log: %s", resp.StatusCode, body, fix, log.String())
				}
			}
			if !strings.Contains(log.String(), "level=WARN msg=request method=GET path=/socket.io/ status=403") {
				t.Errorf("logged %s", log.String())
			}
		})
	}
}

// withCredentials works across listed origins, for REST, streams and sockets.
func TestCredentials(t *testing.T) {
	const app = "https://app.example.com"
	cfg := settings(t)
	cfg.AllowOrigins, cfg.AllowCredentials = []string{app}, true
	s, _ := start(t, cfg)
	for _, path := range []string{"/api/builds", "/api/builds/b1/events", "/events?build=b1&lastEventId=b1:7", sockets} {
		for origin, want := range map[string]string{app: "true", "https://evil.example": ""} {
			h := ask(t, s, http.MethodGet, s.URL()+path, "Origin", origin).Header
			if h.Get("Access-Control-Allow-Credentials") != want || (h.Get("Access-Control-Allow-Origin") == origin) != (want != "") {
				t.Errorf("%s from %s: %v", path, origin, h)
			}
		}
	}
	preflight := ask(t, s, http.MethodOptions, s.URL()+"/api/builds", "Origin", app, "Access-Control-Request-Method", "POST")
	if preflight.StatusCode != http.StatusNoContent || preflight.Header.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("preflight %d %v", preflight.StatusCode, preflight.Header)
	}
}

// The log has one line for each request to any part of the server.
func TestRequestLog(t *testing.T) {
	var log logs
	s, stop := startLogging(t, settings(t), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	for id, path := range map[string]string{
		"api": "/api/builds", "list": "/", "page": "/builds/b1", "nothing": "/nothing", "socket": "/socket.io/", "health": "/healthz",
	} {
		resp := ask(t, s, http.MethodGet, s.URL()+path+"?EIO=4&transport=polling", "X-Request-Id", id, "Authorization", "Bearer secret")
		if got := resp.Header.Get("X-Request-Id"); got != id {
			t.Errorf("%s is answered with the id %q", path, got)
		}
	}
	ask(t, s, http.MethodGet, s.URL()+"/?token=secret", "X-Request-Id", "token")
	ask(t, s, http.MethodGet, s.PreviewURL()+"/build-none/", "X-Request-Id", "preview")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	got := log.String()
	for id, path := range map[string]string{
		"api": "/api/builds", "list": "/", "page": "/builds/b1", "nothing": "/nothing", "socket": "/socket.io/", "health": "/healthz",
		"token": "/", "preview": "/build-none/",
	} {
		line := regexp.MustCompile("msg=request method=GET path=" + path + " status=[0-9]+ duration=[^ ]+ bytes=[0-9]+ client=127.0.0.1 request_id=" + id + "[ \n]")
		if n := len(line.FindAllString(got, -1)); n != 1 {
			t.Errorf("%d lines of request %s in %s", n, id, got)
		}
	}
	if strings.Contains(got, "secret") {
		t.Errorf("the log tells a secret: %s", got)
	}
}

func TestPreviewURL(t *testing.T) {
	cfg := settings(t)
	cfg.PreviewURL = "http://{label}.previews.localhost:8081"
	s, _ := start(t, cfg)
	// The build has no preview (404), but the host is known (not 421).
	if resp := ask(t, s, http.MethodGet, s.PreviewURL()+"/", "Host", "build-27.previews.localhost:8081"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a host below .localhost: %d", resp.StatusCode)
	}
	resp := ask(t, s, http.MethodGet, s.PreviewURL()+"/", "Host", "build-27.elsewhere.example")
	if body := text(t, resp); resp.StatusCode != http.StatusMisdirectedRequest || !strings.Contains(body, "--preview-url") {
		t.Errorf("another host: %d %s", resp.StatusCode, body)
	}
	resp = ask(t, s, http.MethodGet, s.PreviewURL()+"/", "Via", "1.1 proxy")
	if body := text(t, resp); resp.StatusCode != http.StatusNotFound || !strings.Contains(body, "Host header") {
		t.Errorf("a proxy that keeps the host to itself: %d %s", resp.StatusCode, body)
	}
	for preview, want := range map[string]string{
		"previews.example.com":          "{label}",
		"https://example.com/{label}":   "could act as the dashboard",
		"https://{label}.example.com/x": "host of their own",
	} {
		bad := settings(t)
		bad.PublicURL, bad.PreviewURL = "https://example.com", preview
		_, err := New(t.Context(), bad, "test", quiet)
		if buildcast.CodeOf(err) != buildcast.InvalidArgument || !strings.HasPrefix(err.Error(), "--preview-url: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", preview, err)
		}
	}
}
