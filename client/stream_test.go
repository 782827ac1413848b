package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
)

// front is what stands before the server. It counts requests, and may answer
// streams in its own way.
type front struct {
	server  *server
	streams http.HandlerFunc // nil: the server's

	mu    sync.Mutex
	count map[string]int // stream, poll, status
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := "poll"
	switch {
	case r.Header.Get("Accept") == streamType:
		kind = "stream"
	case strings.HasSuffix(r.URL.Path, "/status"):
		kind = "status"
	}
	f.mu.Lock()
	f.count[kind]++
	streams := f.streams
	f.mu.Unlock()
	if kind == "stream" && streams != nil {
		streams(w, r)
		return
	}
	f.server.ServeHTTP(w, r)
}

func newFront(streams http.HandlerFunc) *front {
	return &front{server: newServer(), streams: streams, count: map[string]int{}}
}

// counts is how many requests were made: streams, polls, statuses.
func (f *front) counts() [3]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return [3]int{f.count["stream"], f.count["poll"], f.count["status"]}
}

// emits adds n events and the end, a second apart.
func (f *front) emits(n int) {
	for range n {
		<-time.After(time.Second)
		f.server.add(ev("step"))
	}
	<-time.After(time.Second)
	f.server.add(ev(buildcast.BuildCompleted))
}

// ids follows to the end and gives the ids.
func ids(t *testing.T, c *Client, after int64) (all []int64) {
	t.Helper()
	for e, err := range c.Follow(t.Context(), build, after) {
		if err != nil {
			t.Errorf("after %v: %v", all, err)
			break
		}
		all = append(all, e.ID)
	}
	return all
}

// oneTo is 1, 2, … n.
func oneTo(n int64) (all []int64) {
	for id := int64(1); id <= n; id++ {
		all = append(all, id)
	}
	return all
}

func TestABuildIsOneStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(nil)
		go f.emits(300) // with heartbeats between them, were they not events
		if got := ids(t, connect(t, f), 0); !slices.Equal(got, oneTo(301)) {
			t.Errorf("got %v", got)
		}
		if c := f.counts(); c != [3]int{1, 0, 0} {
			t.Errorf("%v streams, polls, statuses", c)
		}
		// From the middle of a finished build, and from its end.
		if got := ids(t, connect(t, f), 299); !slices.Equal(got, []int64{300, 301}) {
			t.Errorf("got %v", got)
		}
		if got := ids(t, connect(t, f), 301); got != nil {
			t.Errorf("got %v", got)
		}
	})
}

func TestAQuietStreamLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(nil)
		go func() {
			<-time.After(time.Hour)
			f.emits(2)
		}()
		if got := ids(t, connect(t, f), 0); !slices.Equal(got, oneTo(3)) || f.counts() != [3]int{1, 0, 0} {
			t.Errorf("got %v with %v streams, polls, statuses", got, f.counts())
		}
	})
}

// Each fault of a stream, at the first one or at the first few: what it costs to
// get past it.
func TestFaultsOfStreams(t *testing.T) {
	for _, test := range []struct {
		fault   string
		times   int
		streams int
		polls   int // at most
	}{
		{"cut", 1, 2, 1},       // in the first event: a poll tells whose fault it is
		{"cut", 9, 3, 25},      // after three of them there are only polls
		{"cut later", 1, 2, 0}, // one that was good and breaks is followed by the next
		{"cut later", 9, 7, 0},
		{"ended", 1, 2, 0}, // as a server does that stops
		{"stalls", 1, 2, 0},
		{"held", 1, 1, 25}, // by a proxy that collects the answer
		{"late", 1, 1, 25},
		{"silent", 1, 1, 25},
		{"gap", 1, 2, 1},
		{"gap", 9, 7, 7},
		{"double", 1, 1, 0},
		{"lost", 1, 2, 1},
		{"busy", 1, 2, 1},
	} {
		t.Run(fmt.Sprintf("%s %d", test.fault, test.times), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFront(nil)
				go f.emits(20)
				w := &faultyStreams{wire: wire{handler: f}, fault: test.fault, left: test.times}
				c, err := New("http://buildcast.test", HTTPClient(&http.Client{Transport: w}))
				if err != nil {
					t.Fatal(err)
				}
				if got := ids(t, c, 0); !slices.Equal(got, oneTo(21)) {
					t.Errorf("got %v", got)
				}
				if polls := f.counts()[1]; w.streams != test.streams || polls > test.polls {
					t.Errorf("%d streams and %d polls", w.streams, polls)
				}
			})
		})
	}
}

// faultyStreams is a wire with a fault in the first few streams, and in nothing else.
type faultyStreams struct {
	wire
	fault   string
	left    int
	streams int
}

func (w *faultyStreams) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.faults = nil
	if r.Header.Get("Accept") == streamType {
		if w.streams++; w.left > 0 {
			w.left--
			w.faults = []string{w.fault}
		}
	}
	w.mu.Unlock()
	return w.wire.RoundTrip(r)
}

// Where streams do not get through at all there are polls, and a stream is tried
// again now and then.
func TestPollsWhereThereAreNoStreams(t *testing.T) {
	page := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = w.Write([]byte("<h1>Hello</h1>"))
		}
	}
	problem := func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, buildcast.NotFound, "")
	}
	endless := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", streamType)
		for err := error(nil); err == nil; _, err = w.Write([]byte("data: x")) {
		}
	}
	nonsense := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", streamType)
		_, _ = w.Write([]byte("data: {]\n\n"))
	}
	other := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", streamType)
		_, _ = w.Write([]byte("data: {\"id\":1,\"buildId\":\"other\",\"type\":\"step\"}\n\n"))
	}
	empty := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", streamType)
		_, _ = w.Write([]byte("retry: 5\n\n"))
	}
	for name, test := range map[string]struct {
		streams http.HandlerFunc
		tries   int // in a minute
	}{
		"404": {page(404), 1}, "404 of its own": {problem, 1}, "405": {page(405), 1}, "406": {page(406), 1}, "403": {page(403), 1},
		"a page": {page(200), 1}, "a redirect": {page(302), 1},
		"500": {page(500), 3}, "502": {page(502), 3}, "503": {page(503), 3},
		"no end of a line": {endless, 3}, "nonsense": {nonsense, 3}, "another build": {other, 3}, "nothing in it": {empty, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFront(test.streams)
				go f.emits(50)
				if got := ids(t, connect(t, f), 0); !slices.Equal(got, oneTo(51)) || f.counts()[0] != test.tries {
					t.Errorf("got %v with %v streams, polls, statuses", got, f.counts())
				}
			})
		})
	}
}

// A proxy takes requests for streams and sends nothing. When it is gone, streams
// are used again. The connections are real ones but for their time.
func TestAProxyThatHoldsStreamsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		c, stop := overPipes(t, f)
		defer stop()
		went := map[int]time.Duration{}
		began := time.Now()
		go f.emits(600)
		n := int64(0)
		for e, err := range c.Follow(t.Context(), build, 0) {
			if n++; err != nil || e.ID != n {
				t.Fatal(e.ID, err)
			}
			if late := time.Since(e.Timestamp.Std()); late > firstByte+time.Second {
				t.Errorf("event %d is late by %v", n, late)
			}
			if s := f.counts()[0]; went[s] == 0 {
				went[s] = time.Since(began)
			}
			if n == 100 { // the second stream was tried by then
				f.mu.Lock()
				f.streams = nil
				f.mu.Unlock()
			}
		}
		if s := f.counts()[0]; n != 601 || s != 3 {
			t.Errorf("%d events, %d streams", n, s)
		}
		if second, third := went[2], went[3]-went[2]; second < minPolls || second > 2*minPolls || third < 2*minPolls || third > 3*minPolls {
			t.Errorf("the second stream came after %v, the third after %v more", second, third)
		}
	})
}

// overPipes serves the handler with net/http at both ends, in fake time.
func overPipes(t *testing.T, h http.Handler) (c *Client, stop func()) {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l)
	}()
	c, err := New("http://buildcast.test", HTTPClient(&http.Client{Transport: &http.Transport{DialContext: l.dial}}))
	if err != nil {
		t.Fatal(err)
	}
	return c, func() {
		c.CloseIdleConnections()
		_ = s.Close()
		<-served
	}
}

// pipes is a listener without a network.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.closed:
		return nil, errRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// A server that stops has told each client how long to stay away.
func TestAStreamThatEndsIsOpenedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		f := newFront(func(w http.ResponseWriter, r *http.Request) {
			after := r.Header.Get("Last-Event-ID")
			at = append(at, time.Now())
			w.Header().Set("Content-Type", streamType)
			if after == "" {
				_, _ = w.Write([]byte("retry: 3000\n\ndata: {\"id\":1,\"buildId\":\"b1\",\"type\":\"step\"}\n\n"))
				return
			}
			_, _ = w.Write([]byte("data: {\"id\":2,\"buildId\":\"b1\",\"type\":\"build_completed\"}\n\nevent: end\ndata: {}\n\n"))
		})
		if got := ids(t, connect(t, f), 0); !slices.Equal(got, oneTo(2)) || len(at) != 2 {
			t.Fatalf("got %v from %d streams", got, len(at))
		}
		if d := at[1].Sub(at[0]); d < 1500*time.Millisecond || d > 3*time.Second {
			t.Errorf("the second stream came after %v", d)
		}
	})
}

// Leaving a follow ends its stream, though its context goes on.
func TestAStreamThatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, left := newServer(), make(chan struct{})
		s.add(ev("step"))
		c := connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.ServeHTTP(w, r)
			close(left)
		}))
		for range c.Follow(t.Context(), build, 0) {
			break
		}
		synctest.Wait()
		select {
		case <-left:
		default:
			t.Error("the stream goes on")
		}
	})
}

func TestADeadStreamIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(nil)
		for range 5 {
			f.server.add(ev("step"))
		}
		w := &faultyStreams{wire: wire{handler: f}, fault: "stalls", left: 1}
		c, err := New("http://buildcast.test", HTTPClient(&http.Client{Transport: w}))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for e, err := range c.Follow(t.Context(), build, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.ID == 5 {
				break
			}
		}
		if took := time.Since(began); took < stall || took > stall+time.Second {
			t.Errorf("the last event came after %v", took)
		}
	})
}

// A caller that takes its time is no stall.
func TestASlowCallerKeepsItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(nil)
		go f.emits(5)
		n := 0
		for _, err := range connect(t, f).Follow(t.Context(), build, 0) {
			if err != nil {
				t.Fatal(err)
			}
			n++
			<-time.After(10 * stall)
		}
		if n != 6 || f.counts() != [3]int{1, 0, 0} {
			t.Errorf("%d events with %v streams, polls, statuses", n, f.counts())
		}
	})
}

// What the server says no to ends a follow at once, and says why.
func TestRefusedForGood(t *testing.T) {
	for _, code := range []buildcast.Code{buildcast.CursorAhead, "token_expired", buildcast.Unauthenticated, buildcast.PermissionDenied} {
		synctest.Test(t, func(t *testing.T) {
			began, n := time.Now(), 0
			c := connect(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusForbidden, code, "") }))
			for e, err := range c.Follow(t.Context(), build, 7) {
				if n++; buildcast.CodeOf(err) != code || n > 1 {
					t.Errorf("%v, %v", e, err)
				}
			}
			if n != 1 || time.Since(began) > 0 {
				t.Errorf("%d errors after %v", n, time.Since(began))
			}
		})
	}
}

// The same where a stream was good, and its token ends.
func TestAStreamWhoseTokenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, expired := newServer(), false
		s.add(ev("step"))
		c := connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if expired {
				refuse(w, http.StatusUnauthorized, "token_expired", "")
				return
			}
			ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
			defer cancel()
			s.ServeHTTP(w, r.WithContext(ctx))
			expired = true
		}))
		var last error
		n := 0
		for _, last = range c.Follow(t.Context(), build, 0) {
			n++
		}
		if n != 2 || buildcast.CodeOf(last) != "token_expired" {
			t.Errorf("%d, %v", n, last)
		}
	})
}

func TestAStreamEndsWithItsContext(t *testing.T) {
	for name, fault := range map[string]string{"quiet": "", "not begun": "late", "no answer": "silent", "stalled": "stalls"} {
		synctest.Test(t, func(t *testing.T) {
			why := errors.New("enough")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(2*time.Second, func() { cancel(why) })
			began := time.Now()
			var last error
			for _, last = range connect(t, newServer(), fault).Follow(ctx, build, 0) {
			}
			if took := time.Since(began); took != 2*time.Second || !errors.Is(last, why) {
				t.Errorf("%s: %v after %v", name, last, took)
			}
		})
	}
}
