package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What package body has. Many tests call a body body.
const (
	jsonBody, ndjsonBody = body.JSON, body.NDJSON
	maxBody, maxArriving = body.MaxBytes, body.MaxArriving
	smallBody            = body.Small
	bodyTimeout          = body.Timeout
)

// harness is the API over the real log and hub, with a store in memory unless it says otherwise.
type harness struct {
	t       testing.TB
	store   *memory
	handler http.Handler
	log     *eventlog.Log
	server  *httptest.Server // nil until url is asked for
}

func newHarness(t testing.TB, tweak ...func(*Config)) *harness {
	t.Helper()
	m := newMemory()
	h := newHarnessOver(t, m, tweak...)
	h.store = m
	return h
}

func newHarnessOver(t testing.TB, s interface {
	store.Appender
	store.Reader
	store.Builds
	eventlog.Cuts
}, tweak ...func(*Config),
) *harness {
	t.Helper()
	h := &harness{t: t}
	hub := live.NewHub(s)
	log := eventlog.New(s, s, quiet())
	log.Subscribe(hub.Changed)
	h.log = log
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = log.Run(ctx) })
	running.Go(func() { _ = hub.Run(ctx) })
	t.Cleanup(func() {
		if h.server != nil {
			h.server.Close()
		}
		cancel()
		running.Wait()
	})
	c := Config{
		Log: log, Builds: s, Events: s, Hub: hub,
		Ping:   func(context.Context) error { return nil },
		Logger: quiet(), Version: "1.2.3",
	}
	for _, f := range tweak {
		f(&c)
	}
	h.handler = New(c)
	return h
}

// url is the address of a real server around the handler.
func (h *harness) url() string {
	if h.server == nil {
		h.server = httptest.NewServer(h.handler)
	}
	return h.server.URL
}

// answer is what came back, with the body read.
type httpAnswer struct {
	t      testing.TB
	Status int
	Header http.Header
	Body   []byte
}

// do sends a request straight to the handler. Headers come in pairs; a body
// without a Content-Type among them is JSON.
func (h *harness) do(method, path, body string, headers ...string) httpAnswer {
	h.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, path, in)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	return httpAnswer{h.t, w.Code, w.Header(), w.Body.Bytes()}
}

func (h *harness) get(path string, headers ...string) httpAnswer {
	h.t.Helper()
	return h.do("GET", path, "", headers...)
}

func (h *harness) post(path, body string, headers ...string) httpAnswer {
	h.t.Helper()
	return h.do("POST", path, body, headers...)
}

// append stores events of the given types.
func (h *harness) append(id string, types ...string) {
	h.t.Helper()
	for _, typ := range types {
		h.post("/api/builds/"+id+"/events", `{"type":"`+typ+`"}`).want(http.StatusCreated)
	}
}

func (a httpAnswer) want(status int) httpAnswer {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("status %d, want %d: %s", a.Status, status, a.Body)
	}
	return a
}

// into decodes the body, strictly.
func (a httpAnswer) into(v any) {
	a.t.Helper()
	d := json.NewDecoder(bytes.NewReader(a.Body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		a.t.Fatalf("decoding %s: %v", a.Body, err)
	}
}

// problem checks the shape of an error and gives it.
func (a httpAnswer) problem(code buildcast.Code, field string) problem.Problem {
	a.t.Helper()
	var p problem.Problem
	if ct := a.Header.Get("Content-Type"); ct != "application/problem+json" {
		a.t.Fatalf("an answer %d of type %q is no problem: %.300s", a.Status, ct, a.Body)
	}
	a.into(&p)
	if p.Code != string(code) || p.Field != field || p.Status != a.Status {
		a.t.Fatalf("status %d, problem %+v; want code %s and field %q", a.Status, p, code, field)
	}
	if p.Title == "" || p.Detail == "" || p.Type != "/docs#"+string(code) {
		a.t.Fatalf("problem %+v lacks something", p)
	}
	return p
}

func decode[T any](a httpAnswer) T {
	a.t.Helper()
	var v T
	a.into(&v)
	return v
}

func asJSON(t testing.TB, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}
