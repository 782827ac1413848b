package local

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

var site = map[string]string{
	"index.html": "<h1>home</h1>", "a/index.html": "<h1>a</h1>", "a/page.html": "page", "empty/x.txt": "x",
	"style.css": "h1{}", "app.js": "1", "app.mjs": "1", "data.json": "{}", "logo.svg": "<svg/>", "font.woff2": "w",
	"notes.txt": "0123456789", "thing.unknown": "<script>", "UPPER.HTML": "up", "with space.txt": "s", "a..b.txt": "dots",
}

func TestHandlerServes(t *testing.T) {
	target := newTarget(t)
	url := mustDeploy(t, target, "27", site)
	tests := []struct {
		path  string
		code  int
		media string
		body  string
	}{
		{"", 200, "text/html; charset=utf-8", "<h1>home</h1>"},
		{"index.html", 200, "text/html; charset=utf-8", "<h1>home</h1>"},
		{"a/", 200, "text/html; charset=utf-8", "<h1>a</h1>"},
		{"a/page.html", 200, "text/html; charset=utf-8", "page"},
		{"UPPER.HTML", 200, "text/html; charset=utf-8", "up"},
		{"style.css", 200, "text/css; charset=utf-8", "h1{}"},
		{"app.js", 200, "text/javascript; charset=utf-8", "1"},
		{"app.mjs", 200, "text/javascript; charset=utf-8", "1"},
		{"data.json", 200, "application/json", "{}"},
		{"logo.svg", 200, "image/svg+xml", "<svg/>"},
		{"font.woff2", 200, "font/woff2", "w"},
		{"thing.unknown", 200, "application/octet-stream", "<script>"},
		{"with%20space.txt", 200, "text/plain; charset=utf-8", "s"},
		{"a..b.txt", 200, "text/plain; charset=utf-8", "dots"},
		{"missing.html", 404, "text/html; charset=utf-8", ""},
		{"empty/", 404, "text/html; charset=utf-8", ""}, // no listing of directories
		{"style.css/", 404, "text/html; charset=utf-8", ""},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			w := get(target, url+tt.path)
			if w.Code != tt.code || w.Header().Get("Content-Type") != tt.media || tt.body != "" && w.Body.String() != tt.body {
				t.Errorf("got %d %s %q", w.Code, w.Header().Get("Content-Type"), w.Body)
			}
			if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Cache-Control") != "no-cache" {
				t.Errorf("headers %v", w.Header())
			}
		})
	}
}

func TestHandlerRedirectsDirectories(t *testing.T) {
	target := newTarget(t)
	url := mustDeploy(t, target, "27", map[string]string{"index.html": "x", "a/b/index.html": "b"})
	for from, to := range map[string]string{
		url + "a/b":                             url + "a/b/",
		url + "a/b?q=1":                         url + "a/b/?q=1",
		"http://127.0.0.1:8081/build-27":        "http://127.0.0.1:8081/build-27/",
		"http://127.0.0.1:8081/build-27/a/b?q=": "http://127.0.0.1:8081/build-27/a/b/?q=",
	} {
		w := get(target, from)
		req := httptest.NewRequest(http.MethodGet, from, nil)
		got, err := req.URL.Parse(w.Header().Get("Location"))
		if w.Code != http.StatusTemporaryRedirect || err != nil || got.String() != to {
			t.Errorf("%s: %d to %v, want %s", from, w.Code, got, to)
		}
	}
}

func TestHandlerOwn404(t *testing.T) {
	target := newTarget(t)
	url := mustDeploy(t, target, "27", map[string]string{"index.html": "x", "404.html": "<h1>lost</h1>"})
	w := get(target, url+"missing")
	if w.Code != 404 || w.Body.String() != "<h1>lost</h1>" || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("got %d %v %q", w.Code, w.Header(), w.Body)
	}
	if w := ask(target, http.MethodHead, url+"missing"); w.Code != 404 || w.Body.Len() != 0 || w.Header().Get("Content-Length") != "13" {
		t.Errorf("HEAD: %d %v %q", w.Code, w.Header(), w.Body)
	}
}

func TestHandlerConditionalAndRangeRequests(t *testing.T) {
	target := newTarget(t)
	url := mustDeploy(t, target, "27", site) + "notes.txt"
	etag := get(target, url).Header().Get("ETag")
	if w := get(target, url, "If-None-Match", etag); w.Code != 304 || w.Body.Len() != 0 {
		t.Errorf("unchanged: %d %q", w.Code, w.Body)
	}
	if w := get(target, url, "Range", "bytes=2-4"); w.Code != 206 || w.Body.String() != "234" {
		t.Errorf("range: %d %q", w.Code, w.Body)
	}
	if w := get(target, url, "Range", "bytes=20-"); w.Code != 416 {
		t.Errorf("range beyond the end: %d", w.Code)
	}
	if w := ask(target, http.MethodHead, url); w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") != "10" {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
	// Another deploy is another version, even of the same length and second.
	mustDeploy(t, target, "27", map[string]string{"notes.txt": "9876543210"})
	if w := get(target, url, "If-None-Match", etag); w.Code != 200 || w.Body.String() != "9876543210" {
		t.Errorf("after another deploy: %d %q", w.Code, w.Body)
	}
	if w := get(target, url, "If-Range", etag, "Range", "bytes=2-4"); w.Code != 200 || w.Body.Len() != 10 {
		t.Errorf("a range of the previous version: %d %q", w.Code, w.Body)
	}
}

func TestHandlerHosts(t *testing.T) {
	target := newTarget(t)
	mustDeploy(t, target, "27", map[string]string{"index.html": "27"})
	tests := []struct {
		url     string
		code    int
		text    string
		sandbox bool
	}{
		{"http://build-27.localhost:8081/", 200, "27", false},
		{"http://BUILD-27.LocalHost:8081/", 200, "27", false},
		{"http://build-27.localhost.:8081/", 200, "27", false},
		{"http://build-27.localhost/", 200, "27", false},
		{"http://127.0.0.1:8081/build-27/", 200, "27", true},
		{"http://[::1]:8081/build-27/", 200, "27", true},
		{"http://[::ffff:127.0.0.1]:8081/build-27/", 200, "27", true},
		{"http://localhost:8081/build-27/", 200, "27", true},
		{"http://127.0.0.1:8081/build-27/missing", 404, "no such page", false},
		{"http://127.0.0.1:8081/", 404, "build-27.localhost:8081", false},
		{"http://127.0.0.1:8081/27/", 404, "build-27.localhost:8081", false},
		{"http://127.0.0.1:8081/build-../", 404, "build-27.localhost:8081", false},
		{"http://build-28.localhost:8081/", 404, "No preview here", false},
		{"http://127.0.0.1:8081/build-28/", 404, "No preview here", false},
		{"http://build-27.example.com/", 421, "Unknown host", false},
		{"http://rebound.example.com/build-27/", 421, "Unknown host", false},
		{"http://192.0.2.1/build-27/", 421, "Unknown host", false},
		{"http://build-27.localhost.example.com/", 421, "Unknown host", false},
		{"http://build-.localhost/", 421, "Unknown host", false},
		{"http://a.build-27.localhost/", 421, "Unknown host", false},
	}
	for _, tt := range tests {
		t.Run(tt.url, func(t *testing.T) {
			w := get(target, tt.url)
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.text) {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			policy := w.Header().Get("Content-Security-Policy")
			if (policy == sandbox) != tt.sandbox {
				t.Errorf("policy %q", policy)
			}
			if tt.code != 200 && !strings.Contains(policy, "sandbox") {
				t.Errorf("a page of the preview server itself has the policy %q", policy)
			}
		})
	}
}

func TestHandlerPathFormSandboxesTheSitesOwn404(t *testing.T) {
	target := newTarget(t)
	mustDeploy(t, target, "27", map[string]string{"404.html": "<script>"})
	if w := get(target, "http://127.0.0.1:8081/build-27/missing"); w.Header().Get("Content-Security-Policy") != sandbox {
		t.Errorf("policy %q", w.Header().Get("Content-Security-Policy"))
	}
}

func TestHandlerMethods(t *testing.T) {
	target := newTarget(t)
	url := mustDeploy(t, target, "27", site)
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "PROPFIND"} {
		if w := ask(target, method, url); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d %v", method, w.Code, w.Header())
		}
	}
}

func TestHandlerPagesEscapeWhatTheyShow(t *testing.T) {
	target := New(Config{Dir: t.TempDir(), Address: Address{scheme: "http", after: `"><script>alert(1)</script>`}})
	w := get(target, "http://127.0.0.1/")
	if strings.Contains(w.Body.String(), "<script>") {
		t.Errorf("got %s", w.Body)
	}
}
