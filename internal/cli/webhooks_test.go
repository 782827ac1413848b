package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/webhooksig"
)

// webhookStub answers as the API of webhooks does, and writes down what is asked
// of it. It keeps endpoints; of deliveries it knows what the test says.
type webhookStub struct {
	ts  *testscript.TestScript
	log string

	mu        sync.Mutex
	endpoints []buildcast.Endpoint
}

// stubWebhooks FILE: starts a server, sets BUILDCAST_SERVER to it, and has it
// write each request that changes something, or is about deliveries, to FILE.
func stubWebhooks(ts *testscript.TestScript, _ bool, args []string) {
	stub := &webhookStub{ts: ts, log: ts.MkAbs(args[0])}
	s := httptest.NewServer(stub)
	ts.Defer(s.Close)
	ts.Setenv("BUILDCAST_SERVER", s.URL)
}

func (s *webhookStub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	path := strings.TrimPrefix(r.URL.Path, "/api/webhooks")
	s.write(fmt.Sprintf("%s %s %s\n", r.Method, strings.TrimPrefix(r.URL.RequestURI(), "/api/webhooks"), strings.TrimSpace(string(body))))
	_, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	id, verb, _ := strings.Cut(rest, "/")
	var e *buildcast.Endpoint
	for i := range s.endpoints {
		if s.endpoints[i].ID == id {
			e = &s.endpoints[i]
		}
	}
	switch {
	case path == "/status":
		answer(w, 200, stubStatus)
	case path == "/deliveries":
		answer(w, 200, deliveriesIn(r.FormValue("state")))
	case path == "/endpoints" && r.Method == http.MethodGet:
		answer(w, 200, map[string]any{"endpoints": s.endpoints})
	case path == "/endpoints":
		s.create(w, body)
	case e == nil:
		w.Header().Set("Content-Type", "application/problem+json")
		answer(w, 404, map[string]string{"code": "not_found", "detail": "there is no endpoint " + id})
	default:
		s.onEndpoint(w, r.Method+" "+verb, e, body)
	}
}

func (s *webhookStub) create(w http.ResponseWriter, body []byte) {
	e := buildcast.Endpoint{
		ID: fmt.Sprintf("we_%d", len(s.endpoints)+1), Enabled: true, TimeoutMS: 10_000,
		Ordering: buildcast.OrderingNormal, Payload: buildcast.PayloadFull, Breaker: buildcast.Breaker{State: buildcast.BreakerClosed},
		CreatedAt: buildcast.Now(), UpdatedAt: buildcast.Now(),
	}
	e.Secret = "whsec_bWFkZSBieSB0aGUgc2VydmVyLCBhbmQgbG9uZw=="
	_ = json.Unmarshal(body, &e) // the fields of a change are an endpoint's
	shown := e
	e.Secret = ""
	for name := range e.Headers {
		e.Headers[name] = "***"
	}
	s.endpoints = append(s.endpoints, e)
	answer(w, 201, shown)
}

func (s *webhookStub) onEndpoint(w http.ResponseWriter, call string, e *buildcast.Endpoint, body []byte) {
	switch call {
	case "PATCH ":
		_ = json.Unmarshal(body, e)
		answer(w, 200, e)
	case "DELETE ":
		e.ID = "gone"
		w.WriteHeader(http.StatusNoContent)
	case "POST rotate-secret":
		rotated := *e
		rotated.Secret = "whsec_cm90YXRlZCBieSB0aGUgc2VydmVyLCBsb25n"
		answer(w, 200, rotated)
	case "POST test":
		if e.Enabled {
			answer(w, 200, buildcast.Attempt{At: buildcast.Now(), DurationMS: 34, Status: 204})
		} else {
			answer(w, 200, buildcast.Attempt{At: buildcast.Now(), DurationMS: 3, Error: "connection refused"})
		}
	case "POST rewind":
		w.WriteHeader(http.StatusAccepted)
	case "POST redeliver":
		answer(w, 202, map[string]int{"redelivered": 3})
	default:
		http.NotFound(w, new(http.Request))
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *webhookStub) write(line string) { appendTo(s.ts, s.log, line) }

func appendTo(ts *testscript.TestScript, path, line string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		ts.Logf("%v", err) // not Check: the script has its own goroutine
		return
	}
	defer f.Close()
	_, _ = f.WriteString(line)
}

var stubStatus = json.RawMessage(`{"endpoints":[
	{"endpointId":"we_1","url":"https://a.example/hooks","enabled":true,"breaker":{"state":"closed"},"backlog":12,"cursors":2,"retrying":1,"dead":0,
	 "windows":{"1h":{"delivered":10,"failed":0,"success":1,"p50Ms":20,"p99Ms":30},"24h":{"delivered":2000,"failed":1,"success":0.9995,"p50Ms":21.6,"p99Ms":340}}},
	{"endpointId":"we_2","url":"https://b.example/hooks","enabled":true,"breaker":{"state":"open","failures":2,"reason":"answered 500","probeAt":"2020-01-01T00:00:00Z"},"backlog":0,"cursors":0,"retrying":0,"dead":7,
	 "windows":{"24h":{"delivered":0,"failed":0,"success":null,"p50Ms":null,"p99Ms":null}}}],
	"log":{"bytes":12345678,"windows":{"24h":{"events":2001,"bytes":999}}}}`)

func deliveriesIn(state string) json.RawMessage {
	all := map[string]string{
		"retrying": `{"endpointId":"we_1","buildId":"nightly","eventId":7,"eventType":"task_started","state":"retrying","tries":2,"attempts":[{"at":"2020-01-02T00:00:00Z","durationMs":5,"status":503}],"retryAt":"2020-01-03T00:00:00Z","createdAt":"2020-01-02T00:00:00Z","updatedAt":"2020-01-02T00:00:00Z"}`,
		"dead":     `{"endpointId":"we_1","buildId":"weekly","eventId":8,"eventType":"plan_started","state":"dead","tries":9,"attempts":[{"at":"2020-01-02T00:00:00Z","durationMs":5,"status":0,"error":"no such host"}],"createdAt":"2020-01-03T00:00:00Z","updatedAt":"2020-01-02T00:00:00Z"}`,
	}
	return json.RawMessage(`{"deliveries":[` + all[state] + `],"next":""}`)
}

// receiver FILE: starts a receiver of webhooks, which knows the secret in the
// script's environment now, and sets RECEIVER to its address. It writes a line to
// FILE for each request whose signature is good, and takes all events but those of
// the type refused.
func receiver(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	text := ts.Getenv("BUILDCAST_WEBHOOK_SECRET")
	if file, ok := strings.CutPrefix(text, "@"); ok {
		text = strings.TrimSpace(ts.ReadFile(file))
	}
	secret, err := webhooksig.ParseSecret(text)
	ts.Check(err)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var e buildcast.WebhookPayload
		_ = json.Unmarshal(body, &e)
		if err := webhooksig.Verify(r.Header, body, secret); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		appendTo(ts, path, fmt.Sprintf("%s %d %s %s %s\n", e.BuildID, e.ID, e.Type, e.Data, r.Header.Get("X-Test")))
		if e.Type == "refused" {
			http.Error(w, "I do not know\x1b[31m it\nat all", http.StatusUnprocessableEntity)
		}
	}))
	ts.Defer(s.Close)
	ts.Setenv("RECEIVER", s.URL+"/hooks")
}
