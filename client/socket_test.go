package client

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
)

// flaky serves over real connections and breaks them. Of each method one request
// in three is served in full, one is cut off before it is read, and one after it
// is served, in the middle of the answer.
type flaky struct {
	http.Handler
	gets, posts atomic.Int64
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	requests := &f.gets
	if r.Method == http.MethodPost {
		requests = &f.posts
	}
	switch requests.Add(1) % 3 {
	case 0:
		reset(w)
	case 1:
		f.Handler.ServeHTTP(httptest.NewRecorder(), r)
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte(`{"events":[{"id":`))
		_ = http.NewResponseController(w).Flush()
		reset(w)
	default:
		f.Handler.ServeHTTP(w, r)
	}
}

// reset breaks the connection as a killed server does.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func TestOverConnectionsThatBreak(t *testing.T) {
	log := newServer()
	s := httptest.NewServer(&flaky{Handler: log})
	defer s.Close()
	throughRestart(t, log, s.URL, func() {})
}

// The server is not there at first, and comes on its address later.
func TestBeforeTheServerStarts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	log := newServer()
	throughRestart(t, log, "http://"+addr, func() {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		s := &httptest.Server{Listener: l, Config: &http.Server{Handler: log}}
		s.Start()
		t.Cleanup(s.Close)
	})
}

// throughRestart emits and follows, and checks both ends. start is called when
// both have begun.
func throughRestart(t *testing.T, log *server, url string, start func()) {
	t.Helper()
	c, err := New(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e, err := c.Emitter(build, EmitterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan []string, 1)
	go func() { got <- followFrom(t, c, 0, -1) }()
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprintf("e%d", i))
		if err := e.Emit(ev(want[i])); err != nil {
			t.Fatal(err)
		}
		if i == 10 {
			start()
		}
		if i > 10 && i%3 == 0 {
			if err := e.Flush(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	want = append(want, buildcast.BuildCancelled)
	if err := e.Keep(ev(buildcast.BuildCancelled)); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if types := log.types(); !slices.Equal(types, want) {
		t.Errorf("the log has %v", types)
	}
	select {
	case seen := <-got:
		if !slices.Equal(seen, want) {
			t.Errorf("followed %v", seen)
		}
	case <-ctx.Done():
		t.Error("the follower does not end")
	}
}

// Streams over real connections that are cut in the middle of an event, that
// leave one out, or are not there: each event is given once.
func TestStreamsOverConnectionsThatBreak(t *testing.T) {
	const event = "id: %d\ndata: {\"id\":%d,\"buildId\":\"b1\",\"type\":\"e%d\"}\n\n"
	faults := []func(w http.ResponseWriter, after int64){
		func(w http.ResponseWriter, after int64) { // one event and a half
			_, _ = fmt.Fprintf(w, event+"id: %d\ndata: {\"id\":", after+1, after+1, after, after+2)
			_ = http.NewResponseController(w).Flush()
			reset(w)
		},
		func(w http.ResponseWriter, after int64) { // a gap after one event
			_, _ = fmt.Fprintf(w, event+event, after+1, after+1, after, after+3, after+3, after+2)
		},
		func(w http.ResponseWriter, _ int64) { http.Error(w, "no such page", http.StatusNotFound) },
	}
	log := newServer()
	for i := range 10 {
		log.add(ev(fmt.Sprintf("e%d", i)))
	}
	log.add(ev(buildcast.BuildCancelled))
	var streams atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == streamType {
			if n := int(streams.Add(1)) - 1; n < len(faults) {
				after, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
				w.Header().Set("Content-Type", streamType)
				faults[n](w, after)
				return
			}
		}
		log.ServeHTTP(w, r)
	}))
	defer s.Close()
	c, err := New(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	if got := ids(t, c, 0); !slices.Equal(got, oneTo(11)) || streams.Load() < 2 {
		t.Errorf("got %v from %d streams", got, streams.Load())
	}
}
