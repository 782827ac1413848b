package auth

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
)

const key, other = "0123456789abcdef", "fedcba9876543210"

func guard(t *testing.T, c Config) *Guard {
	t.Helper()
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func ask(method, host string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, "/api/builds", nil)
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func TestKeys(t *testing.T) {
	g := guard(t, Config{Keys: []string{key, other}})
	tests := []struct {
		name    string
		method  string
		headers []string
		want    buildcast.Code
	}{
		{"reading is open", "GET", nil, ""},
		{"and so is HEAD", "HEAD", nil, ""},
		{"writing without a key", "POST", nil, buildcast.Unauthenticated},
		{"deleting without a key", "DELETE", nil, buildcast.Unauthenticated},
		{"an unknown method without a key", "PURGE", nil, buildcast.Unauthenticated},
		{"the first key", "POST", []string{"Authorization", "Bearer " + key}, ""},
		{"the second key", "POST", []string{"Authorization", "bearer " + other}, ""},
		{"the other header", "POST", []string{"X-API-Key", key}, ""},
		{"a wrong key", "POST", []string{"Authorization", "Bearer " + key + "0"}, buildcast.Unauthenticated},
		{"a beginning of a key", "POST", []string{"Authorization", "Bearer " + key[:15]}, buildcast.Unauthenticated},
		{"an empty key", "POST", []string{"Authorization", "Bearer "}, buildcast.Unauthenticated},
		{"another scheme", "POST", []string{"Authorization", "Basic " + key}, buildcast.Unauthenticated},
		{"a wrong bearer beside a right header", "POST", []string{"Authorization", "Bearer x", "X-API-Key", key}, buildcast.Unauthenticated},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// With keys every Host is accepted: a reverse proxy sends its own name.
			if got := buildcast.CodeOf(g.Check(ask(tt.method, "builds.example.com", tt.headers...))); got != tt.want {
				t.Errorf("code %q, want %q", got, tt.want)
			}
		})
	}
}

// With a single key the server accepts public hosts, for reads and writes.
func TestOneKeyServesAnyHost(t *testing.T) {
	g := guard(t, Config{Keys: []string{key}})
	for _, method := range []string{"GET", "POST"} {
		if err := g.Check(ask(method, "builds.example.com", "X-API-Key", key)); err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
	if err := g.CheckHost(ask("GET", "builds.example.com")); err != nil {
		t.Errorf("the dashboard: %v", err)
	}
}

// TestWriteThroughAProxy: through a proxy on this machine, requests from the whole
// network come from loopback.
func TestWriteThroughAProxy(t *testing.T) {
	direct, careless := guard(t, Config{}), guard(t, Config{AnyProxy: true})
	for _, header := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Anything", "X-Real-IP", "Via"} {
		r := ask("POST", "localhost:8080", header, "x")
		err := direct.Check(r)
		if buildcast.CodeOf(err) != buildcast.PermissionDenied || !strings.Contains(err.Error(), "--api-keys") || !strings.Contains(err.Error(), http.CanonicalHeaderKey(header)) {
			t.Errorf("a write with %s: %v", header, err)
		}
		if err := direct.Check(ask("GET", "localhost:8080", header, "x")); err != nil {
			t.Errorf("reading with %s: %v", header, err)
		}
		if err := direct.CheckPrivate(ask("GET", "localhost:8080", header, "x")); buildcast.CodeOf(err) != buildcast.PermissionDenied {
			t.Errorf("private reading with %s: %v", header, err)
		}
		if err := careless.Check(r); err != nil {
			t.Errorf("AnyProxy refuses %s: %v", header, err)
		}
		if err := guard(t, Config{Keys: []string{key}}).Check(ask("POST", "localhost:8080", header, "x", "X-API-Key", key)); err != nil {
			t.Errorf("with a key, %s is refused: %v", header, err)
		}
	}
	old := ask("POST", "localhost:8080")
	old.Proto, old.ProtoMajor, old.ProtoMinor = "HTTP/1.0", 1, 0
	if err := direct.Check(old); buildcast.CodeOf(err) != buildcast.PermissionDenied || !strings.Contains(err.Error(), "HTTP/1.0") {
		t.Errorf("HTTP/1.0, as nginx speaks it: %v", err)
	}
}

// Everybody may read from a public server that asks for no key, and nobody may write.
func TestPublicURLWithoutKeys(t *testing.T) {
	public := func(raw string) *url.URL {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	g := guard(t, Config{Public: public("https://builds.example.com:8443/x")})
	if err := g.Check(ask("GET", "Builds.example.com:8443")); err != nil {
		t.Errorf("its own name is refused: %v", err)
	}
	if err := g.Check(ask("GET", "evil.example")); buildcast.CodeOf(err) != buildcast.PermissionDenied {
		t.Errorf("another name: %v", err)
	}
	for _, host := range []string{"builds.example.com:8443", "localhost"} {
		err := g.Check(ask("POST", host))
		if buildcast.CodeOf(err) != buildcast.PermissionDenied || !strings.Contains(err.Error(), "--api-keys") {
			t.Errorf("a write to %s: %v", host, err)
		}
	}
	if err := guard(t, Config{Public: public("http://localhost:9000")}).Check(ask("POST", "localhost:9000")); err != nil {
		t.Errorf("a public URL on loopback: %v", err)
	}
}

func TestErrorsDoNotTellWhatWasWrong(t *testing.T) {
	g := guard(t, Config{Keys: []string{key}})
	none := g.Check(ask("POST", "localhost"))
	wrong := g.Check(ask("POST", "localhost", "Authorization", "Bearer wrong-key-wrong-key"))
	if none == nil || wrong == nil || none.Error() != wrong.Error() {
		t.Errorf("error for a missing key: %v; for a wrong one: %v", none, wrong)
	}
}

func TestShortKeyIsRefusedAndNotShown(t *testing.T) {
	_, err := New(Config{Keys: []string{key, "secret"}})
	if buildcast.CodeOf(err) != buildcast.InvalidArgument || strings.Contains(err.Error(), "secret") ||
		!strings.Contains(err.Error(), "API key 2 of 2") {
		t.Errorf("error %v", err)
	}
}

func TestBadOriginIsRefused(t *testing.T) {
	if _, err := New(Config{TrustedOrigins: []string{"app.example.com/path"}}); buildcast.CodeOf(err) != buildcast.InvalidArgument {
		t.Errorf("error %v", err)
	}
}

// TestDNSRebinding: if a page's host name now resolves to 127.0.0.1, its browser takes
// this server for the same origin. Only the Host header shows the attack.
func TestDNSRebinding(t *testing.T) {
	g := guard(t, Config{})
	for _, host := range []string{"localhost", "localhost:8080", "LOCALHOST.", "build-7.localhost:8081", "127.0.0.1:8080", "127.8.9.1", "[::1]:8080", "[::1]"} {
		if err := g.Check(ask("GET", host)); err != nil {
			t.Errorf("%s is refused: %v", host, err)
		}
	}
	for _, host := range []string{"", "evil.example", "evil.example:8080", "localhost.evil.example", "notlocalhost", "127.0.0.1.evil.example", "128.0.0.1", "0.0.0.0:8080", "[::2]:80", "10.0.0.1", "2130706433"} {
		if err := g.Check(ask("GET", host)); buildcast.CodeOf(err) != buildcast.PermissionDenied {
			t.Errorf("%q is served: %v", host, err)
		}
	}
	if err := guard(t, Config{AnyHost: true}).Check(ask("GET", "10.0.0.1:8080")); err != nil {
		t.Errorf("AnyHost refuses: %v", err)
	}
}

// TestCrossSiteWrite: a form on any site can post to localhost from a
// developer's browser.
func TestCrossSiteWrite(t *testing.T) {
	g := guard(t, Config{TrustedOrigins: []string{"https://app.example.com"}})
	tests := []struct {
		name, method string
		headers      []string
		want         buildcast.Code
	}{
		{"curl", "POST", nil, ""},
		{"our own page", "POST", []string{"Sec-Fetch-Site", "same-origin"}, ""},
		{"another site", "POST", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, buildcast.PermissionDenied},
		{"another port of this machine", "POST", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://localhost:8081"}, buildcast.PermissionDenied},
		{"an old browser", "DELETE", []string{"Origin", "https://evil.example"}, buildcast.PermissionDenied},
		{"a sandboxed frame", "POST", []string{"Origin", "null"}, buildcast.PermissionDenied},
		{"a trusted site", "POST", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://app.example.com"}, ""},
		{"reading", "GET", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := buildcast.CodeOf(g.Check(ask(tt.method, "localhost:8080", tt.headers...))); got != tt.want {
				t.Errorf("code %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPrivateReading(t *testing.T) {
	withKeys, without := guard(t, Config{Keys: []string{key}}), guard(t, Config{TrustedOrigins: []string{"https://app.example.com"}})
	fromSite := func(origin string) []string { return []string{"Sec-Fetch-Site", "cross-site", "Origin", origin} }
	for _, tt := range []struct {
		name    string
		guard   *Guard
		method  string
		host    string
		headers []string
		want    buildcast.Code
	}{
		{"without a key", withKeys, "GET", "x.example", nil, buildcast.Unauthenticated},
		{"HEAD without a key", withKeys, "HEAD", "x.example", nil, buildcast.Unauthenticated},
		{"with a key", withKeys, "GET", "x.example", []string{"X-API-Key", key}, ""},
		{"on loopback", without, "GET", "localhost", nil, ""},
		{"a rebound name", without, "GET", "evil.example", nil, buildcast.PermissionDenied},
		{"a page of another site", without, "GET", "localhost", fromSite("https://evil.example"), buildcast.PermissionDenied},
		{"a page of a trusted site", without, "GET", "localhost", fromSite("https://app.example.com"), ""},
	} {
		r := ask(tt.method, tt.host, tt.headers...)
		if got := buildcast.CodeOf(tt.guard.CheckPrivate(r)); got != tt.want {
			t.Errorf("%s: code %q, want %q", tt.name, got, tt.want)
		}
		if r.Method != tt.method {
			t.Errorf("%s: the request's method is now %s", tt.name, r.Method)
		}
	}
}

func FuzzIsLoopback(f *testing.F) {
	for _, s := range []string{"localhost:80", "[::1]:80", "127.0.0.1", "a.localhost.", "[", "]", ":", "::1%lo"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if isLoopback(host) && !strings.Contains(strings.ToLower(host), "localhost") && !strings.Contains(host, "127.") && !strings.Contains(host, ":") {
			t.Errorf("%q counts as this machine", host)
		}
	})
}
