package request

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
)

// ask sends a request through the handler, from 10.0.0.1 to builds.internal.
// Headers come in pairs.
func ask(c Config, target string, next http.HandlerFunc, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, http.NoBody)
	r.RemoteAddr, r.Host = "10.0.0.1:4711", "builds.internal"
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	Handler(c, next).ServeHTTP(w, r)
	return w
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestForwardingHeadersOfTrustedProxiesCount(t *testing.T) {
	const direct = "10.0.0.1:4711 builds.internal "
	for _, tt := range []struct {
		name, trusted string
		headers       []string
		want          string // client, host, scheme
	}{
		{"no proxy is trusted", "", []string{"X-Forwarded-For", "1.2.3.4", "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "https"}, direct},
		{"another proxy is trusted", "10.0.0.2/32", []string{"X-Forwarded-For", "1.2.3.4", "X-Forwarded-Host", "evil.example"}, direct},
		{"no headers", "10.0.0.0/8", nil, direct},
		{"all of them", "10.0.0.0/8", []string{"X-Forwarded-For", "1.2.3.4", "X-Forwarded-Host", "b.example.com", "X-Forwarded-Proto", "https"}, "1.2.3.4:0 b.example.com https"},
		{"what a client made up is farther left", "10.0.0.0/8", []string{"X-Forwarded-For", "6.6.6.6, 1.2.3.4", "X-Forwarded-Host", "evil.example, b.example.com", "X-Forwarded-Proto", "gopher, http"}, "1.2.3.4:0 b.example.com http"},
		{"in lines of their own", "10.0.0.0/8", []string{"X-Forwarded-For", "6.6.6.6", "X-Forwarded-For", "1.2.3.4"}, "1.2.3.4:0 builds.internal "},
		{"two trusted proxies", "10.0.0.0/8", []string{"X-Forwarded-For", "6.6.6.6, 1.2.3.4, 10.0.0.9", "X-Forwarded-Host", "evil.example, b.example.com, inner", "X-Forwarded-Proto", "https, http"}, "1.2.3.4:0 b.example.com https"},
		{"only trusted proxies", "10.0.0.0/8", []string{"X-Forwarded-For", "10.0.0.8, 10.0.0.9"}, "10.0.0.8:0 builds.internal "},
		{"what cannot be read ends the chain", "10.0.0.0/8", []string{"X-Forwarded-For", "1.2.3.4, unknown, 10.0.0.9"}, "10.0.0.9:0 builds.internal "},
		{"nothing can be read", "10.0.0.0/8", []string{"X-Forwarded-For", "unknown"}, direct},
		{"IPv6 and a port", "10.0.0.0/8", []string{"X-Forwarded-For", "[2001:db8::1]:5000"}, "[2001:db8::1]:0 builds.internal "},
		{"IPv4 in IPv6", "10.0.0.0/8", []string{"X-Forwarded-For", "::ffff:1.2.3.4"}, "1.2.3.4:0 builds.internal "},
		{"RFC 7239", "10.0.0.0/8", []string{"Forwarded", `for=6.6.6.6;host=evil.example, for="[2001:db8::1]:80";Host=b.example.com;proto=https`}, "[2001:db8::1]:0 b.example.com https"},
		{"a client's Forwarded beside a proxy's X-Forwarded-For", "10.0.0.0/8", []string{"X-Forwarded-For", "1.2.3.4", "Forwarded", "for=6.6.6.6;host=evil.example"}, "1.2.3.4:0 builds.internal "},
		{"the scheme's own port", "10.0.0.0/8", []string{"X-Forwarded-For", "1.2.3.4", "X-Forwarded-Host", "b.example.com:443", "X-Forwarded-Proto", "HTTPS"}, "1.2.3.4:0 b.example.com https"},
		{"another port", "10.0.0.0/8", []string{"X-Forwarded-For", "1.2.3.4", "X-Forwarded-Host", "b.example.com:8443", "X-Forwarded-Proto", "https"}, "1.2.3.4:0 b.example.com:8443 https"},
		{"no host", "10.0.0.0/8", []string{"X-Forwarded-For", "1.2.3.4", "X-Forwarded-Host", "b.example.com/path"}, "1.2.3.4:0 builds.internal "},
		{"the host only", "10.0.0.0/8", []string{"X-Forwarded-Host", "b.example.com", "X-Forwarded-Proto", "https"}, "10.0.0.1:4711 b.example.com https"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{Logger: quiet()}
			if tt.trusted != "" {
				c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(tt.trusted)}
			}
			got := ""
			ask(c, "/", func(_ http.ResponseWriter, r *http.Request) {
				got = r.RemoteAddr + " " + r.Host + " " + r.URL.Scheme
			}, tt.headers...)
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPrefix(t *testing.T) {
	for target, want := range map[string]string{
		"/buildcast/api/builds":    "/api/builds",
		"/api/builds":              "/api/builds", // the proxy has taken it off
		"/buildcast/":              "/",
		"/buildcastle":             "/buildcastle",
		"/buildcast/builds/a%2Fb":  "/builds/a%2Fb",
		"/buildcast/buildcast/api": "/buildcast/api",
		"/buildcast%2Fapi/builds":  "/buildcast%2Fapi/builds",
	} {
		got := ""
		ask(Config{Prefix: "/buildcast", Logger: quiet()}, target, func(_ http.ResponseWriter, r *http.Request) { got = r.URL.EscapedPath() })
		if got != want {
			t.Errorf("%s is served as %s, want %s", target, got, want)
		}
	}
	w := ask(Config{Prefix: "/buildcast", Logger: quiet()}, "/buildcast?q=1", func(http.ResponseWriter, *http.Request) { t.Error("it is served") })
	if w.Code != http.StatusPermanentRedirect || w.Header().Get("Location") != "/buildcast/?q=1" {
		t.Errorf("without its slash: %d to %s", w.Code, w.Header().Get("Location"))
	}
}

// A mux redirects to the path that it was given, cleaned. That left the prefix.
func TestRedirectsStayBelowThePrefix(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/socket.io/", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/api/builds", func(http.ResponseWriter, *http.Request) {})
	for target, want := range map[string]string{
		"/buildcast/socket.io?EIO=4":   "/socket.io/?EIO=4",
		"/buildcast//api/builds":       "/api/builds",
		"/buildcast/x/../api/builds":   "/api/builds",
		"/buildcast//evil.example/../": "/",
		"//api/builds":                 "/api/builds", // the proxy has taken the prefix off
	} {
		for _, prefix := range []string{"/buildcast", ""} {
			if prefix == "" {
				target = strings.TrimPrefix(target, "/buildcast")
			}
			r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
			u, err := url.ParseRequestURI(target)
			if err != nil {
				t.Fatal(err)
			}
			r.URL = u
			w := httptest.NewRecorder()
			Handler(Config{Prefix: prefix, Logger: quiet()}, mux).ServeHTTP(w, r)
			if got := w.Header().Get("Location"); got != prefix+want {
				t.Errorf("%s below %q: redirected to %s, want %s", target, prefix, got, prefix+want)
			}
		}
	}
}

func TestRequestID(t *testing.T) {
	for given, kept := range map[string]bool{
		"": false, "01JD-3Y5R.8Q0V_6M:2K/7T+9X=@": true, "a b": false, "a\"b": false, "ümlaut": false,
		strings.Repeat("x", 128): true, strings.Repeat("x", 129): false, "a\x1b[31m": false,
	} {
		first := ask(Config{Logger: quiet()}, "/", func(http.ResponseWriter, *http.Request) {}, "X-Request-Id", given).Header().Get("X-Request-Id")
		second := ask(Config{Logger: quiet()}, "/", func(http.ResponseWriter, *http.Request) {}, "X-Request-Id", given).Header().Get("X-Request-Id")
		if (first == given) != kept || len(first) < 20 || !kept && first == second {
			t.Errorf("%q is answered with %q and %q", given, first, second)
		}
	}
}

func TestTraceParent(t *testing.T) {
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for header, want := range map[string]string{
		"00-" + trace + "-" + parent + "-01":                   trace,
		"01-" + trace + "-" + parent + "-01-later":             trace,
		"00-" + trace + "-" + parent + "-01-later":             "",
		"ff-" + trace + "-" + parent + "-01":                   "",
		"00-" + strings.ToUpper(trace) + "-" + parent + "-01":  "",
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01": "",
		"00-" + trace + "-" + strings.Repeat("0", 16) + "-01":  "",
		"00-" + trace + "-" + parent:                           "",
		"00-" + trace + "0-" + parent + "-01":                  "",
		"":                                                     "",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Header.Set("Traceparent", header)
		if got := traceOf(r); got != want {
			t.Errorf("%q has the trace %q, want %q", header, got, want)
		}
	}
}

// logging returns a logger of all levels, and what it wrote.
func logging() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})), &b
}

func TestOneLineForEachRequest(t *testing.T) {
	for _, tt := range []struct {
		name  string
		serve http.HandlerFunc
		want  string
	}{
		{"success", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }, "level=DEBUG msg=request method=GET path=/p status=200 duration=0s bytes=5"},
		{"nothing written", func(http.ResponseWriter, *http.Request) {}, "level=DEBUG msg=request method=GET path=/p status=200 duration=0s bytes=0"},
		{"the client's mistake", func(w http.ResponseWriter, r *http.Request) {
			Failed(r.Context(), buildcast.Errorf(buildcast.NotFound, "no build"))
			w.WriteHeader(http.StatusNotFound)
		}, `level=INFO msg=request method=GET path=/p status=404 duration=0s bytes=0 client=10.0.0.1 request_id=me trace_id=0af7651916cd43dd8448eb211c80319c error="no build"`},
		{"the store is away", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, "level=WARN msg=request method=GET path=/p status=503"},
		{"a defect", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "level=ERROR msg=request method=GET path=/p status=500"},
		{"the client has left", func(w http.ResponseWriter, r *http.Request) {
			Failed(r.Context(), fmt.Errorf("reading: %w", context.Canceled))
			w.WriteHeader(http.StatusServiceUnavailable)
		}, "level=DEBUG msg=request method=GET path=/p status=503"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, b := logging()
				ask(Config{Logger: log}, "/p?token=secret", tt.serve, "Authorization", "Bearer secret", "Cookie", "secret", "X-Api-Key", "secret",
					"X-Request-Id", "me", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
				got := b.String()
				if strings.Count(got, "\n") != 1 || !strings.Contains(got, tt.want) || !strings.Contains(got, "client=10.0.0.1 request_id=me trace_id=0af7651916cd43dd8448eb211c80319c") {
					t.Errorf("logged %s, want %s", got, tt.want)
				}
				if strings.Contains(got, "secret") {
					t.Errorf("the log tells a secret: %s", got)
				}
			})
		})
	}
}

func TestPanicsAreLogged(t *testing.T) {
	log, b := logging()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is swallowed: the connection would not be cut")
			}
		}()
		ask(Config{Logger: log}, "/p", func(http.ResponseWriter, *http.Request) { panic(errors.New("defect")) })
	}()
	if got := b.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "status=500") || !strings.Contains(got, "defect") {
		t.Errorf("logged %s", got)
	}
}

// A refusal by the configuration is logged at once, and again after a minute, not
// each time: the operator has to act.
func TestRefusalsAreLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, b := logging()
		handler := Handler(Config{Logger: log}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			Failed(r.Context(), ForeignOrigin(r.Header.Get("Origin")))
			w.WriteHeader(http.StatusForbidden)
		}))
		warnings := func(n int, origins ...string) {
			t.Helper()
			b.Reset()
			for _, origin := range origins {
				r := httptest.NewRequest(http.MethodGet, "/socket.io/", http.NoBody)
				r.Header.Set("Origin", origin)
				handler.ServeHTTP(httptest.NewRecorder(), r)
			}
			if got := strings.Count(b.String(), "level=WARN"); got != n || strings.Count(b.String(), "\n") != len(origins) {
				t.Errorf("%d warnings, want %d: %s", got, n, b)
			}
		}
		warnings(1, "https://a.example", "https://a.example", "https://a.example")
		if got := b.String(); !strings.Contains(got, "--allow-origins https://a.example") || !strings.Contains(got, "--public-url") {
			t.Errorf("the fix is not named: %s", got)
		}
		<-time.After(59 * time.Second)
		warnings(1, "https://a.example", "https://b.example")
		<-time.After(time.Second)
		warnings(1, "https://a.example", "https://b.example")
		<-time.After(time.Minute)
		var many []string
		for i := range maxCauses + 50 {
			many = append(many, fmt.Sprintf("https://%d.example", i))
		}
		warnings(maxCauses, many...)
	})
}

func TestSameOrigin(t *testing.T) {
	for _, tt := range []struct {
		origin, host, scheme, public string
		want                         bool
	}{
		{"http://localhost:8080", "localhost:8080", "", "", true},
		{"https://b.example.com", "b.example.com", "", "", true}, // TLS ends before this server
		{"https://b.example.com", "127.0.0.1:8080", "", "", false},
		{"https://B.example.com", "127.0.0.1:8080", "", "https://b.example.com", true},
		{"http://b.example.com", "127.0.0.1:8080", "", "https://b.example.com", false},
		{"http://b.example.com", "b.example.com", "https", "", false},
		{"https://b.example.com", "b.example.com", "https", "", true},
		{"null", "b.example.com", "", "", false},
		{"", "", "", "", false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Host, r.URL.Scheme = tt.host, tt.scheme
		r.Header.Set("Origin", tt.origin)
		if got := SameOrigin(r, tt.public); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// The kernel still copies files, and bytes are counted either way.
func TestBytesOfFiles(t *testing.T) {
	log, b := logging()
	w := ask(Config{Logger: log}, "/", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader("12345"))
		_, _ = io.WriteString(w, "678")
	})
	if w.Body.String() != "12345678" || !strings.Contains(b.String(), "bytes=8 ") {
		t.Errorf("%q, logged %s", w.Body, b)
	}
}

func FuzzForwarded(f *testing.F) {
	f.Add("for=1.2.3.4;proto=https;host=a, for=\"[::1]\"", "1.2.3.4, [::1]:80", "a,b", "http")
	f.Fuzz(func(t *testing.T, forwarded, chain, host, proto string) {
		h := http.Header{"Forwarded": {forwarded}, "X-Forwarded-For": {chain}, "X-Forwarded-Host": {host}, "X-Forwarded-Proto": {proto}}
		got := readForwarded(h, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
		if strings.ContainsAny(got.host, "/@?# \r\n\x00") || got.scheme != "" && got.scheme != "http" && got.scheme != "https" {
			t.Errorf("%+v", got)
		}
	})
}
