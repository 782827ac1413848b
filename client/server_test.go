package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is the part of buildcast's API that appends and follows use, in
// memory, for one build.
type server struct {
	mu     sync.Mutex
	events []buildcast.Event
	keys   map[string]int64
	status buildcast.Status
	grown  chan struct{}
}

const build = "b1"

func newServer() *server {
	return &server{keys: map[string]int64{}, status: buildcast.NewStatus(build, "", buildcast.Now()), grown: make(chan struct{})}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "POST /api/builds/b1/events":
		var events []buildcast.NewEvent
		if err := json.NewDecoder(r.Body).Decode(&events); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply(w, http.StatusCreated, map[string]any{"buildId": build, "ids": s.add(events...)})
	case "GET /api/builds/b1/events":
		after, _ := strconv.ParseInt(r.FormValue("lastEventId"), 10, 64)
		limit, _ := strconv.Atoi(r.FormValue("limit"))
		wait, _ := time.ParseDuration(r.FormValue("wait"))
		reply(w, http.StatusOK, s.poll(r.Context(), after, limit, wait))
	case "GET /api/builds/b1/status":
		s.mu.Lock()
		defer s.mu.Unlock()
		reply(w, http.StatusOK, s.status)
	default:
		http.NotFound(w, r)
	}
}

func (s *server) add(events ...buildcast.NewEvent) (ids []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range events {
		if id := s.keys[n.Key]; n.Key != "" && id > 0 {
			ids = append(ids, id)
			continue
		}
		if n.Timestamp.IsZero() {
			n.Timestamp = buildcast.Now()
		}
		e := buildcast.Event{ID: int64(len(s.events) + 1), BuildID: build, Type: n.Type, Data: n.Data, Timestamp: n.Timestamp}
		s.status.Apply(&e)
		s.events = append(s.events, e)
		s.keys[n.Key] = e.ID
		ids = append(ids, e.ID)
	}
	close(s.grown)
	s.grown = make(chan struct{})
	return ids
}

func (s *server) poll(ctx context.Context, after int64, limit int, wait time.Duration) Poll {
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		s.mu.Lock()
		events := s.events[min(int(after), len(s.events)):]
		events = events[:min(limit, len(events))]
		p := Poll{Events: events, LastEventID: after + int64(len(events)), HasMore: int(after)+len(events) < len(s.events)}
		grown := s.grown
		s.mu.Unlock()
		if len(events) > 0 || wait == 0 {
			return p
		}
		select {
		case <-grown:
		case <-over.C:
			return p
		case <-ctx.Done():
			return p
		}
	}
}

func (s *server) types() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		out = append(out, e.Type)
	}
	return out
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// refuse answers as buildcast does.
func refuse(w http.ResponseWriter, status int, code buildcast.Code, retryAfter string) {
	w.Header().Set("Content-Type", "application/problem+json")
	if retryAfter != "" {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"status": status, "code": code, "detail": "because"})
}

// wire carries requests to a handler without a socket, so that they take fake
// time, and breaks as the faults say.
type wire struct {
	handler http.Handler

	mu     sync.Mutex
	faults []string // of the next requests; none beyond
}

var errRefused = errors.New("connection refused")

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	fault := ""
	if len(w.faults) > 0 {
		fault, w.faults = w.faults[0], w.faults[1:]
	}
	w.mu.Unlock()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	rec := httptest.NewRecorder()
	rec.Body.Reset()
	switch fault {
	case "refused":
		return nil, errRefused
	case "busy":
		refuse(rec, http.StatusServiceUnavailable, buildcast.StoreUnavailable, "2")
	case "proxy":
		http.Error(rec, "<h1>Bad gateway</h1>", http.StatusBadGateway)
	case "silent": // the request never arrives
		<-r.Context().Done()
		return nil, context.Cause(r.Context())
	default:
		w.handler.ServeHTTP(rec, r)
	}
	resp := rec.Result()
	resp.Request = r
	switch fault {
	case "lost": // the answer
		return nil, io.ErrUnexpectedEOF
	case "cut": // in the middle of the answer
		resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(resp.Body, 20), broken{}))
	case "late": // the client has given up
		<-r.Context().Done()
		return nil, context.Cause(r.Context())
	}
	return resp, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// connect makes a client whose requests go to the handler through a wire.
func connect(t *testing.T, h http.Handler, faults ...string) *Client {
	t.Helper()
	c, err := New("http://buildcast.test", HTTPClient(&http.Client{Transport: &wire{handler: h, faults: faults}}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ev(typ string) buildcast.NewEvent { return buildcast.NewEvent{Type: typ} }
