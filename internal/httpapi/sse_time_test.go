package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// clocked notes when a stream is written to, and what deadline it sets.
type clocked struct {
	discard
	begun time.Time

	mu     sync.Mutex
	writes []string
}

func (c *clocked) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes = append(c.writes, fmt.Sprintf("%v %s", time.Since(c.begun), strings.TrimSpace(string(b))))
	return len(b), nil
}

func (c *clocked) SetWriteDeadline(by time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes = append(c.writes, fmt.Sprintf("%v by %v", time.Since(c.begun), by.Sub(c.begun)))
	return nil
}

func (c *clocked) Flush() {}

// A quiet stream carries a comment each 15 s, and each write has 30 s.
func TestSSEHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		w := &clocked{discard: discard{header: make(http.Header)}, begun: time.Now()}
		ctx, leave := context.WithCancel(t.Context())
		var serving sync.WaitGroup
		serving.Go(func() {
			h.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/events/b1", nil).WithContext(ctx))
		})
		<-time.After(46 * time.Second) // of the bubble's time
		leave()
		serving.Wait()
		if !strings.HasPrefix(w.writes[1], "0s retry: ") {
			t.Fatalf("the stream begins with %q", w.writes)
		}
		want := []string{"15s by 45s", "15s :", "30s by 1m0s", "30s :", "45s by 1m15s", "45s :"}
		if got := w.writes[2:]; w.writes[0] != "0s by 30s" || !slices.Equal(got, want) {
			t.Errorf("got %q", w.writes)
		}
	})
}

// A client that reads no more is let go 30 s after the frame that it does not take.
func TestSSEOfAReaderThatStops(t *testing.T) {
	for _, coding := range []string{"identity", "gzip"} {
		t.Run(coding, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t)
				ended := make(chan time.Time, 1)
				dial := servePipes(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					h.handler.ServeHTTP(w, r)
					ended <- time.Now()
				}))
				conn := dial()
				defer conn.Close()
				if _, err := fmt.Fprintf(conn, "GET /events/b1 HTTP/1.1\r\nHost: x\r\nAccept-Encoding: %s\r\n\r\n", coding); err != nil {
					t.Fatal(err)
				}
				// It takes the answer's head and then nothing.
				for r := bufio.NewReaderSize(oneByte{conn}, 16); ; {
					line, err := r.ReadString('\n')
					if err != nil {
						t.Fatal(err)
					}
					if line == "\r\n" {
						break
					}
				}
				opened := time.Now()
				if took := (<-ended).Sub(opened); took != frameTimeout {
					t.Errorf("the stream ended %v after its client had stopped reading", took)
				}
			})
		})
	}
}

// oneByte reads no further than it must.
type oneByte struct{ io.Reader }

func (o oneByte) Read(b []byte) (int, error) { return o.Reader.Read(b[:1]) }

// servePipes serves the handler over connections without buffers, whose time is
// that of the bubble.
func servePipes(t *testing.T, handler http.Handler) (dial func() net.Conn) {
	t.Helper()
	l := pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return func() net.Conn {
		near, far := net.Pipe()
		l.conns <- far
		return near
	}
}

type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }
