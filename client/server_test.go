package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
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
	case "GET /events/b1":
		after, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
		s.stream(w, r, after)
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

// stream sends server-sent events as buildcast does.
func (s *server) stream(w http.ResponseWriter, r *http.Request, after int64) {
	if over, _ := s.over(after); over {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(format string, args ...any) bool {
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil && http.NewResponseController(w).Flush() == nil
	}
	if !send("retry: 1000\n\n") {
		return
	}
	for {
		_, grown := s.over(after)
		for _, e := range s.poll(r.Context(), after, 1000, 0).Events {
			if !send("id: %d\ndata: %s\n\n", e.ID, e.AppendJSON(nil)) {
				return
			}
			after = e.ID
		}
		if over, _ := s.over(after); over {
			send("event: end\ndata: {}\n\n")
			return
		}
		heartbeat := time.NewTimer(15 * time.Second)
		select {
		case <-grown:
		case <-heartbeat.C:
			if !send(":\n\n") {
				return
			}
		case <-r.Context().Done():
			return
		}
		heartbeat.Stop()
	}
}

// over reports whether nothing comes after the id, and what tells of a change.
func (s *server) over(after int64) (bool, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status.Phase.Terminal() && after >= int64(len(s.events)), s.grown
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

// errUnreachable is what the client makes of it.
var errUnreachable = buildcast.Errorf(buildcast.Unreachable, "the server cannot be reached").Because(errRefused)

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
	if r.Header.Get("Accept") == streamType && !slices.Contains(asOfPolls, fault) {
		return w.stream(r, fault)
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

// asOfPolls are the faults that are the same for a stream.
var asOfPolls = []string{"refused", "busy", "proxy", "silent"}

// stream gives the answer while the handler writes it.
func (w *wire) stream(r *http.Request, fault string) (*http.Response, error) {
	if fault == "lost" {
		return nil, io.ErrUnexpectedEOF
	}
	reader, writer := io.Pipe()
	p := &piped{PipeWriter: writer, header: http.Header{}, begun: make(chan struct{}), fault: fault}
	if fault != "late" { // the proxy has it, and sends nothing
		go func() {
			w.handler.ServeHTTP(p, r)
			p.WriteHeader(http.StatusOK)
			_ = writer.Close()
		}()
	}
	context.AfterFunc(r.Context(), func() { _ = reader.CloseWithError(r.Context().Err()) })
	resp := &http.Response{Header: http.Header{"Content-Type": {streamType}}, StatusCode: http.StatusOK, Body: reader, Request: r}
	if fault == "late" || fault == "held" {
		resp.Body = io.NopCloser(until(r.Context().Done()))
		return resp, nil
	}
	select {
	case <-p.begun:
		resp.StatusCode, resp.Header = p.status, p.header
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	switch fault {
	case "cut": // in the middle of an event
		resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(reader, 40), broken{}))
	case "cut later":
		resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(reader, 400), broken{}))
	case "ended": // as a server that stops does
		resp.Body = io.NopCloser(io.LimitReader(reader, 250))
	case "stalls":
		resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(reader, 300), until(r.Context().Done())))
	}
	return resp, nil
}

// piped is a ResponseWriter whose reader reads along.
type piped struct {
	*io.PipeWriter
	header http.Header
	status int
	begun  chan struct{} // closed with the header
	fault  string
	events int
}

func (p *piped) Header() http.Header { return p.header }
func (p *piped) Flush()              {}

func (p *piped) WriteHeader(status int) {
	if p.status == 0 {
		p.status = status
		close(p.begun)
	}
}

func (p *piped) Write(b []byte) (int, error) {
	p.WriteHeader(http.StatusOK)
	if bytes.HasPrefix(b, []byte("id:")) {
		switch p.events++; {
		case p.fault == "gap" && p.events == 2:
			return len(b), nil
		case p.fault == "double":
			_, _ = p.PipeWriter.Write(b)
		}
	}
	return p.PipeWriter.Write(b)
}

// until is a connection on which nothing comes, to its end.
type until <-chan struct{}

func (u until) Read([]byte) (int, error) {
	<-u
	return 0, context.Canceled
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
