package httpapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/store"
)

func TestNoRoute(t *testing.T) {
	h := newHarness(t)
	for _, path := range []string{"/", "/api", "/api/build", "/api/builds/", "/api/builds/b1/x", "/api/builds/b1/events/", "/docs/x", "/openapi.xml"} {
		h.get(path).want(http.StatusNotFound).problem(buildcast.NotFound, "")
	}
	for _, tt := range []struct{ method, path, allow string }{
		{"PUT", "/api/builds", "GET, HEAD, POST"},
		{"DELETE", "/api/builds", "GET, HEAD, POST"},
		{"POST", "/api/builds/b1", "GET, HEAD, DELETE"},
		{"GET", "/api/builds/b1/cancel", "POST"},
		{"PATCH", "/api/builds/b1/events", "GET, HEAD, POST"},
		{"OPTIONS", "/api/builds/b1/events", "GET, HEAD, POST"},
		{"PUT", "/api/webhooks/endpoints/e1", "GET, HEAD, PATCH, DELETE"},
		{"POST", "/healthz", "GET, HEAD"},
		{"POST", "/docs", "GET, HEAD"},
		{strings.Repeat("X", 100), "/docs", "GET, HEAD"},
	} {
		a := h.do(tt.method, tt.path, "").want(http.StatusMethodNotAllowed)
		a.problem(problem.MethodNotAllowed, "")
		if got := strings.Join(a.Header.Values("Allow"), ", "); got != tt.allow {
			t.Errorf("%s %s allows %s, want %s", tt.method, tt.path, got, tt.allow)
		}
	}
}

func TestHead(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "a")
	r, err := http.NewRequest("HEAD", h.url()+eventsPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := h.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if a.StatusCode != 200 || a.Header.Get("ETag") == "" {
		t.Errorf("HEAD gives %d, %v", a.StatusCode, a.Header)
	}
}

// explodingLog panics, as only a defect does.
type explodingLog struct{ Events }

func (explodingLog) Bounds(context.Context, []string) (map[string]store.Bounds, error) {
	panic("secret defect")
}

func TestPanic(t *testing.T) {
	var logged bytes.Buffer
	h := newHarness(t, func(c *Config) {
		c.Events = explodingLog{c.Events}
		c.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	})
	a := h.get(eventsPath).want(http.StatusInternalServerError)
	a.problem(buildcast.Internal, "")
	if strings.Contains(string(a.Body), "secret") {
		t.Errorf("the answer shows the panic: %s", a.Body)
	}
	if got := logged.String(); !strings.Contains(got, "secret defect") || !strings.Contains(got, "explodingLog") {
		t.Errorf("the log lacks the panic or its stack: %s", got)
	}
	h.get("/healthz").want(200)
}

// TestPanicAfterTheAnswerBegan: half an answer must not look like a whole one.
func TestPanicAfterTheAnswerBegan(t *testing.T) {
	a := New(Config{Logger: quiet()}).(*api)
	a.mux.HandleFunc("GET /half", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		panic("defect")
	})
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("the connection is not cut: %v", err)
		}
	}()
	a.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/half", nil))
	t.Error("it returns")
}

type guardFunc func(*http.Request) error

func (f guardFunc) Check(r *http.Request) error        { return f(r) }
func (f guardFunc) CheckPrivate(r *http.Request) error { return f(r) }

func TestGuard(t *testing.T) {
	h := newHarness(t, func(c *Config) {
		c.Guard = guardFunc(func(r *http.Request) error {
			switch r.Header.Get("X-Test") {
			case "401":
				return buildcast.Errorf(buildcast.Unauthenticated, "this needs an API key")
			case "403":
				return buildcast.Errorf(buildcast.PermissionDenied, "not from there")
			}
			return nil
		})
	})
	a := h.post(eventsPath, `{"type":"x"}`, "X-Test", "401").want(401)
	a.problem(buildcast.Unauthenticated, "")
	if a.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("headers %v", a.Header)
	}
	h.get(eventsPath, "X-Test", "403").want(403).problem(buildcast.PermissionDenied, "")
	h.post(eventsPath, `{"type":"x"}`).want(201)
	if got := len(h.store.events("b1")); got != 1 {
		t.Errorf("%d events", got)
	}
}

func TestCORS(t *testing.T) {
	const app, evil = "https://app.example.com", "https://evil.example"
	h := newHarness(t, func(c *Config) { c.AllowOrigins = []string{app} })
	for _, tt := range []struct{ origin, want string }{{app, app}, {evil, ""}, {"", ""}, {"null", ""}, {app + ".evil.example", ""}} {
		a := h.get("/api/builds", "Origin", tt.origin).want(200)
		if got := a.Header.Get("Access-Control-Allow-Origin"); got != tt.want {
			t.Errorf("origin %q is given %q", tt.origin, got)
		}
		if !slices.Contains(a.Header.Values("Vary"), "Origin") {
			t.Errorf("Vary is %q", a.Header.Values("Vary"))
		}
	}
	preflight := []string{"Origin", app, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization"}
	a := h.do("OPTIONS", eventsPath, "", preflight...).want(http.StatusNoContent)
	if a.Header.Get("Access-Control-Allow-Origin") != app || !strings.Contains(a.Header.Get("Access-Control-Allow-Headers"), "Authorization") || !strings.Contains(a.Header.Get("Access-Control-Allow-Methods"), "POST") {
		t.Errorf("preflight %v", a.Header)
	}
	preflight[1] = evil
	a = h.do("OPTIONS", eventsPath, "", preflight...).want(http.StatusForbidden)
	if a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a preflight of another origin is answered with %v", a.Header)
	}
	if p := a.problem(buildcast.PermissionDenied, ""); !strings.Contains(p.Detail, "--allow-origins "+evil) {
		t.Errorf("the refusal %q does not name the fix", p.Detail)
	}
	// Errors can be read too.
	if a := h.get("/api/builds/none", "Origin", app).want(404); a.Header.Get("Access-Control-Allow-Origin") != app {
		t.Errorf("an error is given %v", a.Header)
	}

	all := newHarness(t, func(c *Config) { c.AllowOrigins = []string{"*"} })
	if a := all.get("/api/builds", "Origin", evil).want(200); a.Header.Get("Access-Control-Allow-Origin") != "*" || a.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("* gives %v", a.Header)
	}
	none := newHarness(t)
	if a := none.get("/api/builds", "Origin", app).want(200); a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("no origin is allowed, and %v is given", a.Header)
	}
}

func TestGzip(t *testing.T) {
	h := newHarness(t)
	h.stream("b1", lines(100)).want(201)
	plain := h.get(eventsPath).want(200)
	a := h.get(eventsPath, "Accept-Encoding", "zstd, gzip").want(200)
	if a.Header.Get("Content-Encoding") != "gzip" || len(a.Body) >= len(plain.Body)/4 || a.Header.Get("ETag") != plain.Header.Get("ETag") {
		t.Errorf("%d of %d bytes, headers %v", len(a.Body), len(plain.Body), a.Header)
	}
	if !slices.Contains(a.Header.Values("Vary"), "Accept-Encoding") {
		t.Errorf("Vary is %q", a.Header.Values("Vary"))
	}
	z, err := gzip.NewReader(bytes.NewReader(a.Body))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, plain.Body) {
		t.Errorf("it unpacks to something else: %v", err)
	}
	for _, path := range []string{eventsPath + "?limit=2", "/healthz", "/api/builds/none"} {
		if a := h.get(path, "Accept-Encoding", "gzip"); a.Header.Get("Content-Encoding") != "" {
			t.Errorf("the %d bytes of %s are packed", len(a.Body), path)
		}
	}
	h.get(eventsPath, "Accept-Encoding", "gzip", "If-None-Match", a.Header.Get("ETag")).want(http.StatusNotModified)
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var notReady, storeAway error
		asked := 0
		h := newHarness(t, func(c *Config) {
			c.Ready = func() error { return notReady }
			c.Ping = func(ctx context.Context) error {
				if _, ok := ctx.Deadline(); !ok {
					t.Error("the store is asked without a deadline")
				}
				asked++
				return storeAway
			}
		})
		for _, path := range []string{"/healthz", "/readyz"} {
			a := h.get(path).want(200)
			if got := decode[health](a); got != (health{Service: "buildcast", Version: "1.2.3"}) || a.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s returns %+v, %v", path, got, a.Header)
			}
		}
		// The store writes for each check: it is asked once a second.
		storeAway = errors.New("the disk is full")
		<-time.After(pingAge - time.Millisecond)
		h.get("/readyz").want(200)
		<-time.After(time.Millisecond)
		h.get("/readyz").want(503).problem(buildcast.StoreUnavailable, "")
		h.get("/readyz").want(503)
		if asked != 2 {
			t.Errorf("the store was asked %d times, want 2", asked)
		}
		storeAway = nil
		<-time.After(pingAge)
		h.get("/readyz").want(200)
		notReady = errors.New("stopping")
		if a := h.get("/readyz").want(503); a.Header.Get("Retry-After") == "" {
			t.Errorf("headers %v", a.Header)
		}
		h.get("/healthz").want(200)
	})
}

// Those who ask at the same time wait for one check, and no longer than they want.
func TestReadyzAsksOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		p := pinger{ping: func(ctx context.Context) error {
			asked++
			<-ctx.Done() // a store that does not answer
			return ctx.Err()
		}}
		patient, impatient := make(chan error, 20), make(chan error, 1)
		for range cap(patient) {
			go func() { patient <- p.check(t.Context()) }()
		}
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			impatient <- p.check(ctx)
		}()
		begun := time.Now()
		if err := <-impatient; !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		for range cap(patient) {
			if err := <-patient; !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != pingTimeout {
				t.Errorf("%v after %v", err, time.Since(begun))
			}
		}
		if asked != 1 {
			t.Errorf("the store was asked %d times, want once", asked)
		}
	})
}

// TestEveryCodeHasAStatus: a code that the table lacks would be answered as a
// defect.
func TestEveryCodeHasAStatus(t *testing.T) {
	for _, code := range []buildcast.Code{
		buildcast.InvalidArgument, buildcast.TooLarge, buildcast.Unauthenticated, buildcast.PermissionDenied, buildcast.NotFound,
		buildcast.Conflict, buildcast.NotFinished, buildcast.CursorAhead, buildcast.Fenced, buildcast.Overloaded,
		buildcast.StoreUnavailable, buildcast.NoPlanner, buildcast.Internal,
	} {
		p := problem.Of(buildcast.Errorf(code, "x"))
		if (p.Status == 500) != (code == buildcast.Internal) || p.Title == "" {
			t.Errorf("%s is answered with %+v", code, p)
		}
	}
	for _, err := range []error{context.DeadlineExceeded, context.Canceled} {
		if p := problem.Of(err); p.Status != 503 || p.RetryAfter != 1 {
			t.Errorf("%v is answered with %+v", err, p)
		}
	}
}

// TestCancelledRequestIsNoSuccess: a handler that writes nothing sends a 200.
func TestCancelledRequestIsNoSuccess(t *testing.T) {
	var logged bytes.Buffer
	h := newHarness(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	release := make(chan struct{})
	defer close(release)
	h.store.appending = func([]store.Append) { <-release }
	r := httptest.NewRequest("POST", eventsPath, strings.NewReader(`{"type":"x"}`)).WithContext(ctx)
	r.Header.Set("Content-Type", jsonBody)
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	httpAnswer{t, w.Code, w.Header(), w.Body.Bytes()}.want(503).problem(buildcast.Unreachable, "")
	if logged.Len() > 0 {
		t.Errorf("a client that left is logged: %s", logged.String())
	}
}

func TestNosniff(t *testing.T) {
	h := newHarness(t)
	for _, path := range []string{"/docs", "/nothing", "/api/builds"} {
		if got := h.get(path).Header.Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("%s has X-Content-Type-Options %q", path, got)
		}
	}
}
