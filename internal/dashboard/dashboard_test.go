package dashboard

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/dashboard/web"
	"github.com/buildcast/buildcast/js"
)

func anyHost(*http.Request) error { return nil }

// statuses answers from a map.
func statuses(known map[string]buildcast.Status) func(context.Context, []string) (map[string]buildcast.Status, error) {
	return func(context.Context, []string) (map[string]buildcast.Status, error) { return known, nil }
}

func get(t *testing.T, h http.Handler, target string, headers ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Result(), rec.Body.String()
}

func TestPages(t *testing.T) {
	h := New(Config{Statuses: statuses(nil), CheckHost: anyHost})
	for target, want := range map[string]struct {
		status    int
		mediaType string
	}{
		"/":                                     {200, "text/html; charset=utf-8"},
		"/builds/b1":                            {200, "text/html; charset=utf-8"},
		"/webhooks":                             {200, "text/html; charset=utf-8"},
		"/new":                                  {200, "text/html; charset=utf-8"},
		"/assets/examples/hello-site/plan.yaml": {200, "application/yaml"},
		"/builds/a.b":                           {404, "text/html; charset=utf-8"},
		"/builds/" + long:                       {404, "text/html; charset=utf-8"},
		"/assets/app/build.js":                  {200, "text/javascript; charset=utf-8"},
		"/assets/css/base.css":                  {200, "text/css; charset=utf-8"},
		"/assets/favicon.svg":                   {200, "image/svg+xml"},
		"/assets/js/index.js":                   {200, "text/javascript; charset=utf-8"},
		"/assets/js/transports/sse.js":          {200, "text/javascript; charset=utf-8"},
		"/assets/":                              {404, "text/plain; charset=utf-8"},
		"/assets/app/":                          {404, "text/plain; charset=utf-8"},
		"/assets/web.go":                        {404, "text/plain; charset=utf-8"},
		"/assets/index.html":                    {404, "text/plain; charset=utf-8"},
		"/badge/b1.png":                         {404, "text/plain; charset=utf-8"},
	} {
		resp, _ := get(t, h, target)
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != want.status || got != want.mediaType {
			t.Errorf("%s: %d %s, want %d %s", target, resp.StatusCode, got, want.status, want.mediaType)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: browsers may guess its type", target)
		}
	}
}

var long = strings.Repeat("x", buildcast.MaxBuildID+1)

func TestPolicy(t *testing.T) {
	h := New(Config{Statuses: statuses(nil), CheckHost: anyHost})
	resp, _ := get(t, h, "/")
	csp := resp.Header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'self'", "connect-src 'self' ws: wss:", "base-uri 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(csp, part) {
			t.Errorf("the policy %q lacks %q", csp, part)
		}
	}
	if strings.Contains(csp, "unsafe") {
		t.Errorf("the policy %q allows what is written in a page", csp)
	}
}

// A build's page may show previews in a frame, and no other page anything.
func TestPolicyOfFrames(t *testing.T) {
	h := New(Config{Statuses: statuses(nil), CheckHost: anyHost, Previews: func(id string) []string {
		return []string{"http://build-" + id + ".localhost:8081/", "https://*.pages.dev", "https://x; script-src *"}
	}})
	for target, want := range map[string]string{
		"/builds/b1":  "frame-src http://build-b1.localhost:8081/ https://*.pages.dev",
		"/builds/a.b": "frame-src 'none'",
		"/new":        "frame-src 'none'",
		"/":           "frame-src 'none'",
	} {
		resp, _ := get(t, h, target)
		if csp := resp.Header.Get("Content-Security-Policy"); !strings.HasSuffix(csp, "; "+want) {
			t.Errorf("%s: the policy %q does not end with %q", target, csp, want)
		}
	}
	first, _ := get(t, h, "/builds/b1")
	again, _ := get(t, h, "/builds/b1", "If-None-Match", first.Header.Get("ETag"))
	if got, want := again.Header.Get("Content-Security-Policy"), first.Header.Get("Content-Security-Policy"); again.StatusCode != http.StatusNotModified || got != want {
		t.Errorf("%d with the policy %q, want %q", again.StatusCode, got, want)
	}
}

// The pages contain nothing that the policy would block: only a browser would show it.
func TestPagesKeepThePolicy(t *testing.T) {
	inline := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script(>|[^>]*[^>]>[^<])|(src|href)="(https?:)?//`)
	for _, name := range []string{"index.html", "new.html", "build.html", "webhooks.html"} {
		body, err := fs.ReadFile(web.Pages, name)
		if err != nil {
			t.Fatal(err)
		}
		if found := inline.Find(body); found != nil {
			t.Errorf("%s has %q", name, found)
		}
	}
	dangerous := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\('(style|on)`)
	for name, body := range modules(t) {
		if found := dangerous.FindString(body); found != "" {
			t.Errorf("%s uses %s: texts of events are other people's", name, found)
		}
	}
}

// Pages work below a path of another site: each address in a page or a module is
// relative, and exists.
func TestPagesWorkBelowAPath(t *testing.T) {
	h := New(Config{Statuses: statuses(nil), CheckHost: anyHost})
	check := func(from, target string) {
		t.Helper()
		if strings.HasPrefix(target, "/") {
			t.Errorf("%s names %s, which is nothing below a path of another site", from, target)
			return
		}
		resolved := path.Join(path.Dir(from), target)
		if resolved == "/docs" { // the API's
			return
		}
		if resp, _ := get(t, h, resolved); resp.StatusCode != http.StatusOK {
			t.Errorf("%s names %s: %d", from, target, resp.StatusCode)
		}
	}
	named := regexp.MustCompile(`(?:src|href)="([^"#][^"]*)"`)
	for name, at := range map[string]string{"index.html": "/index.html", "new.html": "/new", "build.html": "/builds/b1", "webhooks.html": "/webhooks"} {
		body, err := fs.ReadFile(web.Pages, name)
		if err != nil {
			t.Fatal(err)
		}
		found := named.FindAllStringSubmatch(string(body), -1)
		if len(found) < 5 {
			t.Errorf("%s names %d files only", name, len(found))
		}
		for _, m := range found {
			check(at, m[1])
		}
	}
	imported := regexp.MustCompile(`(?m)^(?:import|export) .*from '([^']+)';`)
	for name, body := range modules(t) {
		for _, m := range imported.FindAllStringSubmatch(body, -1) {
			if m[1] != "react" { // react.js is for others
				check(name, m[1])
			}
		}
	}
	absolute := regexp.MustCompile("['\"`]/(api|assets|builds|new|webhooks|docs|events|badge|socket\\.io)\\b")
	for name, body := range modules(t) {
		if strings.HasPrefix(name, "/assets/app/") && absolute.MatchString(body) {
			t.Errorf("%s holds the absolute path %s", name, absolute.FindString(body))
		}
	}
}

// modules returns all modules by their path on the server.
func modules(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	read := func(tree fs.FS, prefix, drop string) {
		err := fs.WalkDir(tree, ".", func(name string, _ fs.DirEntry, err error) error {
			if err != nil || path.Ext(name) != ".js" {
				return err
			}
			body, err := fs.ReadFile(tree, name)
			found[prefix+strings.TrimPrefix(name, drop)] = string(body)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	read(web.Assets, "/assets/", "")
	read(js.Source, "/assets/js/", "src/")
	if len(found) < 20 {
		t.Fatalf("only %d modules are there", len(found))
	}
	return found
}

func TestNotModified(t *testing.T) {
	h := New(Config{Statuses: statuses(map[string]buildcast.Status{"b1": {Phase: buildcast.Completed}}), CheckHost: anyHost})
	for _, target := range []string{"/", "/builds/b1", "/assets/app/list.js", "/badge/b1.svg"} {
		first, body := get(t, h, target)
		tag := first.Header.Get("ETag")
		if first.StatusCode != http.StatusOK || tag == "" || body == "" {
			t.Fatalf("%s: %d, ETag %q, %d bytes", target, first.StatusCode, tag, len(body))
		}
		if again, body := get(t, h, target, "If-None-Match", `"other", `+tag); again.StatusCode != http.StatusNotModified || body != "" {
			t.Errorf("%s again: %d with %d bytes", target, again.StatusCode, len(body))
		}
		if other, _ := get(t, h, target, "If-None-Match", `"other"`); other.StatusCode != http.StatusOK {
			t.Errorf("%s with another tag: %d", target, other.StatusCode)
		}
	}
}

func TestCompressed(t *testing.T) {
	h := New(Config{Statuses: statuses(nil), CheckHost: anyHost})
	resp, zipped := get(t, h, "/assets/css/base.css", "Accept-Encoding", "gzip")
	_, plain := get(t, h, "/assets/css/base.css")
	if resp.Header.Get("Content-Encoding") != "gzip" || len(zipped) >= len(plain) {
		t.Errorf("%q: %d bytes of %d", resp.Header.Get("Content-Encoding"), len(zipped), len(plain))
	}
}

// Attack (DNS rebinding): a page whose host name resolves to this machine reads nothing.
func TestReboundHost(t *testing.T) {
	h := New(Config{Statuses: statuses(nil), CheckHost: func(*http.Request) error { return errors.New("another host") }})
	for _, target := range []string{"/", "/badge/b1.svg", "/assets/app/list.js"} {
		if resp, _ := get(t, h, target); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", target, resp.StatusCode)
		}
	}
}

func TestBadge(t *testing.T) {
	known := map[string]buildcast.Status{
		"queued":    {Phase: buildcast.Queued},
		"planning":  {Phase: buildcast.Planning, Progress: 10},
		"executing": {Phase: buildcast.Executing, Progress: 42},
		"deploying": {Phase: buildcast.Deploying, Progress: 99},
		"completed": {Phase: buildcast.Completed, Progress: 100},
		"failed":    {Phase: buildcast.Failed, Progress: 42},
		"cancelled": {Phase: buildcast.Cancelled, Progress: 42},
	}
	h := New(Config{Statuses: statuses(known), CheckHost: anyHost})
	for id, want := range map[string]struct {
		status      int
		text, cache string
	}{
		"queued":    {200, "queued", "public, max-age=5"},
		"planning":  {200, "10 %", "public, max-age=5"},
		"executing": {200, "42 %", "public, max-age=5"},
		"deploying": {200, "99 %", "public, max-age=5"},
		"completed": {200, "passed", "public, max-age=60"},
		"failed":    {200, "failed", "public, max-age=60"},
		"cancelled": {200, "cancelled", "public, max-age=60"},
		"none":      {404, "unknown", "no-store"},
		"a.b":       {404, "unknown", "no-store"},
	} {
		resp, body := get(t, h, "/badge/"+id+".svg")
		if resp.StatusCode != want.status || resp.Header.Get("Cache-Control") != want.cache || resp.Header.Get("Content-Type") != "image/svg+xml" {
			t.Errorf("%s: %d %v", id, resp.StatusCode, resp.Header)
		}
		if got := titleOf(t, body); got != "build: "+want.text {
			t.Errorf("%s says %q, want %q", id, got, want.text)
		}
		if csp := resp.Header.Get("Content-Security-Policy"); csp != "default-src 'none'" {
			t.Errorf("%s: an image may load: %q", id, csp)
		}
	}
}

func TestBadgeWithoutStore(t *testing.T) {
	h := New(Config{CheckHost: anyHost, Statuses: func(context.Context, []string) (map[string]buildcast.Status, error) {
		return nil, errors.New("secret://database")
	}})
	resp, body := get(t, h, "/badge/b1.svg")
	if resp.StatusCode != http.StatusServiceUnavailable || titleOf(t, body) != "build: unavailable" || strings.Contains(body, "secret") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestBadgeEscapes(t *testing.T) {
	evil := `</text><script>"&'` + "\x00"
	svg := string(drawBadge(evil, evil, green))
	if strings.Contains(svg, "<script") {
		t.Fatalf("%s", svg)
	}
	if got, want := titleOf(t, svg), strings.ReplaceAll(evil+": "+evil, "\x00", "\uFFFD"); got != want {
		t.Errorf("title %q, want %q", got, want)
	}
}

// titleOf reads the badge as XML, to its end.
func titleOf(t *testing.T, svg string) string {
	t.Helper()
	var image struct {
		Title string `xml:"title"`
	}
	d := xml.NewDecoder(strings.NewReader(svg))
	if err := d.Decode(&image); err != nil {
		t.Fatalf("not XML: %v\n%s", err, svg)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("more follows the image: %s", svg)
	}
	return image.Title
}
