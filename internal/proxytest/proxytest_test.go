package proxytest

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buildcast/buildcast/internal/config"
)

// With the configurations of docs/proxies.md everything works: TLS and HTTP/2 in front,
// on a host of its own and below a path of another site.
func TestDocumented(t *testing.T) {
	for _, k := range Kinds {
		for name, below := range map[string]bool{"": false, " below a path": true} {
			t.Run(k.Name+name, func(t *testing.T) {
				t.Parallel()
				s := NewSite(t, k, Options{Documented: true, BelowPath: below})
				checkREST(t, s)
				checkLog(t, s)
				checkStream(t, s)
				checkUpload(t, s, k)
				visit(t, s, "websocket")
				if !below {
					checkPreview(t, s)
				}
			})
		}
	}
}

func checkREST(t *testing.T, s *Site) {
	t.Helper()
	made := s.Do(t, http.MethodPost, "/api/builds", `{"id":"rest"}`, WithKey...)
	if made.StatusCode != http.StatusCreated || made.Proto != "HTTP/2.0" {
		t.Errorf("creating: %s %d %s", made.Proto, made.StatusCode, made.Text)
	}
	location, err := made.Location()
	if err != nil || location.String() != s.URL+"/api/builds/rest" {
		t.Errorf("Location %v, %v", location, err)
	}
	if got := s.Do(t, http.MethodGet, "/api/builds/rest/status", ""); got.StatusCode != http.StatusOK {
		t.Errorf("status: %d %s", got.StatusCode, got.Text)
	}
	if got := s.Do(t, http.MethodPost, "/api/builds", `{"id":"other"}`); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the key: %d %s", got.StatusCode, got.Text)
	}
	if got := s.Do(t, http.MethodGet, "/openapi.json", ""); !strings.Contains(got.Text, `"servers":[{"url":"`+s.URL+`"}]`) {
		t.Errorf("the document's servers: %.200s", got.Text)
	}
	for _, path := range []string{"/", "/builds/rest", "/webhooks", "/docs"} {
		if got := s.Do(t, http.MethodGet, path, ""); got.StatusCode != http.StatusOK || !strings.Contains(got.Text, "<html") {
			t.Errorf("%s: %d %.200s", path, got.StatusCode, got.Text)
		}
	}
	if strings.Count(s.URL, "/") > 2 {
		if got := s.Do(t, http.MethodGet, "", ""); got.StatusCode != http.StatusOK || !strings.HasSuffix(got.Request.URL.Path, "/buildcast/") {
			t.Errorf("the path without its slash: %d at %s", got.StatusCode, got.Request.URL)
		}
	}
}

// checkLog: the log has the client's address from the proxy, not a forged one from
// the client.
func checkLog(t *testing.T, s *Site) {
	t.Helper()
	got := s.Do(t, http.MethodGet, "/api/builds/none", "", "X-Request-Id", "nobody-knows", "X-Forwarded-For", "6.6.6.6",
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if got.Header.Get("X-Request-Id") != "nobody-knows" {
		t.Errorf("the request's id is %q", got.Header.Get("X-Request-Id"))
	}
	want := "client=" + ClientAddress + " request_id=nobody-knows trace_id=0af7651916cd43dd8448eb211c80319c"
	if !strings.Contains(s.Log.String(), want) {
		t.Errorf("the log lacks %s: %s", want, s.Log)
	}
}

// checkStream: an event reaches a reader while the stream is open.
func checkStream(t *testing.T, s *Site) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/events/stream", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for i := range 3 {
		s.Report(t, "stream", fmt.Sprintf(`{"type":"step_%d"}`, i))
		for want := fmt.Sprintf(`"type":"step_%d"`, i); ; {
			if !lines.Scan() {
				t.Fatalf("the stream ends before event %d: %v", i, lines.Err())
			}
			if strings.Contains(lines.Text(), want) {
				break
			}
		}
	}
}

// checkUpload: an event is stored at once, although the request's body has not ended.
func checkUpload(t *testing.T, s *Site, k Kind) {
	t.Helper()
	body, lines := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/api/builds/upload/events", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set(WithKey[0], WithKey[1])
	answered := make(chan error, 1)
	go func() {
		resp, err := s.Client.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusCreated {
				err = fmt.Errorf("the upload is answered with %d", resp.StatusCode)
			}
		}
		answered <- err
	}()
	if k.Name == Apache.Name { // it keeps the beginning of each body, as docs/proxies.md says
		if _, err := io.WriteString(lines, strings.Repeat("\n", 16<<10)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 {
		if _, err := fmt.Fprintf(lines, "{\"type\":\"line_%d\"}\n", i); err != nil {
			t.Fatal(err)
		}
		got := s.Do(t, http.MethodGet, fmt.Sprintf("/api/builds/upload/events?lastEventId=%d&wait=20s", i), "")
		if !strings.Contains(got.Text, fmt.Sprintf(`"type":"line_%d"`, i)) {
			t.Errorf("line %d: %d %s", i, got.StatusCode, got.Text)
		}
	}
	lines.Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// checkPreview makes the server deploy a page, and opens it.
func checkPreview(t *testing.T, s *Site) {
	t.Helper()
	url := s.Deploy(t)
	if want := fmt.Sprintf("https://build-page.previews.example.com:%d/", s.Port); url != want {
		t.Errorf("the preview is at %s, want %s", url, want)
	}
	if got := s.Do(t, http.MethodGet, url, ""); got.StatusCode != http.StatusOK || got.Text != "<h1>Hello</h1>" {
		t.Errorf("the preview: %d %s", got.StatusCode, got.Text)
	}
}

// visit makes the stock Socket.IO client and the JavaScript client follow a build, like
// pages of the site's origin.
func visit(t *testing.T, s *Site, transport string) {
	t.Helper()
	if out, err := runNode(t, s, "follow", transport); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func runNode(t *testing.T, s *Site, what, transport string) (string, error) {
	t.Helper()
	if _, err := os.Stat("../socketio/jstest/node_modules/socket.io-client"); err != nil {
		t.Fatal("socket.io-client is not installed: run make deps")
	}
	dir := t.TempDir()
	writeCertificate(t, dir)
	node := exec.CommandContext(t.Context(), "node", "visit.mjs", what, s.URL, transport)
	node.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+filepath.Join(dir, "buildcast.pem"), "KEY="+Key)
	out, err := node.CombinedOutput()
	return string(out), err
}

// With the defaults of server and proxy, each client works or gets an error that names
// the fix.
func TestDefaults(t *testing.T) {
	for _, k := range Kinds {
		keepsHost := k.Name == HAProxy.Name // the others send their own as Host
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			s := NewSite(t, k, Options{})
			s.Report(t, "stream", `{"type":"first"}`)
			checkStream(t, s)
			if keepsHost {
				visit(t, s, "websocket")
				return
			}
			out, err := runNode(t, s, "refused", "")
			if err != nil || !strings.Contains(out, "--public-url") || !strings.Contains(out, "--allow-origins "+s.Origin) {
				t.Errorf("the client is not told what to change: %v\n%s", err, out)
			}
			if log := s.Log.String(); strings.Count(log, "level=WARN msg=request") != 1 || !strings.Contains(log, "--public-url") {
				t.Errorf("the log does not say, once, what to change: %s", log)
			}
		})
		t.Run(k.Name+" with a public URL", func(t *testing.T) {
			t.Parallel()
			s := NewSite(t, k, Options{Tweak: func(c *config.Config, public string) { c.PublicURL = public }})
			transport := "polling" // they do not pass upgrades on
			if keepsHost {
				transport = "websocket"
			}
			visit(t, s, transport)
		})
	}
}

// Without keys, nobody can start a build through a proxy.
func TestKeylessServerBehindAProxy(t *testing.T) {
	for _, k := range Kinds {
		for name, o := range map[string]Options{
			"by default":                       {Tweak: func(c *config.Config, _ string) { c.APIKeys = nil }},
			"documented":                       {Documented: true, Tweak: func(c *config.Config, _ string) { c.APIKeys = nil }},
			"documented, without a public URL": {Documented: true, Tweak: func(c *config.Config, _ string) { c.APIKeys, c.PublicURL = nil, "" }},
		} {
			t.Run(k.Name+" "+name, func(t *testing.T) {
				t.Parallel()
				s := NewSite(t, k, o)
				for _, host := range []string{"", "localhost"} {
					if host != "" && k.Name == HAProxy.Name && !o.Documented {
						continue // docs/proxies.md says that this cannot be recognized
					}
					var headers []string
					if host != "" {
						headers = []string{"Host", host}
					}
					got := s.Do(t, http.MethodPost, "/api/builds", `{"plan":{"name":"x","build":"id"}}`, headers...)
					if got.StatusCode != http.StatusForbidden || !strings.Contains(got.Text, "--api-keys") {
						t.Errorf("Host %q: %d %s", host, got.StatusCode, got.Text)
					}
				}
			})
		}
	}
}

// If a proxy does not pass a preview's host name on, the answer names the fix.
func TestPreviewsByDefault(t *testing.T) {
	for _, k := range Kinds {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			var api Addresses
			s := NewSite(t, k, Options{Tweak: func(c *config.Config, _ string) {
				c.PreviewURL = "http://{label}.previews.example.com"
				c.PreviewListen = fmt.Sprintf("127.0.0.1:%d", freePort(t))
				api.API = c.PreviewListen
			}})
			api.Port = freePort(t)
			k.Start(t, k.Default, api) // in front of the previews
			s.Deploy(t)
			s.Client.Transport.(*http.Transport).DialContext = dialer(api.Port)
			got := s.Do(t, http.MethodGet, "http://build-page.previews.example.com/", "")
			if k.Name == HAProxy.Name {
				if got.StatusCode != http.StatusOK {
					t.Errorf("%d %s", got.StatusCode, got.Text)
				}
			} else if got.StatusCode != http.StatusNotFound || !strings.Contains(got.Text, "Host header") {
				t.Errorf("%d %s", got.StatusCode, got.Text)
			}
		})
	}
}

// The modules that the documentation enables are those that the tests load.
func TestApacheModules(t *testing.T) {
	if !strings.Contains(Docs(t), "`a2enmod "+enabledModules+"`") {
		t.Errorf("docs/proxies.md enables other modules than %s", enabledModules)
	}
}
