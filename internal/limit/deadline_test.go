package limit

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a network within a synctest bubble.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// client is the other end of a connection to the server.
type client struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

// bubble serves h with Deadlines in the bubble's time; f gets the client's end.
func bubble(t *testing.T, h http.HandlerFunc, f func(c *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		server := &http.Server{Handler: Deadlines(h), ReadHeaderTimeout: 10 * time.Second}
		served := make(chan error, 1)
		go func() { served <- server.Serve(p) }()
		ours, theirs := net.Pipe()
		p.conns <- theirs
		f(&client{t, ours, bufio.NewReader(ours)})
		_ = ours.Close()
		close(p.done)
		<-served
		synctest.Wait()
		_ = server.Close()
	})
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// wantAnswer reads one answer to its end.
func (c *client) wantAnswer(status int, body string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || string(b) != body {
		c.t.Errorf("%d %.80q, %v; want %d %.80q", resp.StatusCode, b, err, status, body)
	}
}

const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

// Attack: a client sends a request and never reads the answer.
func TestClientThatNeverReadsIsCutOff(t *testing.T) {
	for name, size := range map[string]int{"a small answer": 10, "a large answer": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			done := make(chan error, 1) // net/http sends a small answer after the handler
			handler := func(w http.ResponseWriter, _ *http.Request) { _, err := w.Write(make([]byte, size)); done <- err }
			bubble(t, handler, func(c *client) {
				c.send(get)
				start := time.Now()
				time.Sleep(answerTimeout - time.Second)
				synctest.Wait()
				select {
				case err := <-done:
					if err != nil {
						t.Errorf("cut off after %v: %v", time.Since(start), err)
					}
				default:
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				// A pipe has no buffer: only bytes that were read were sent.
				if _, err := c.in.ReadByte(); !errors.Is(err, io.EOF) {
					t.Errorf("still there after %v: %v", time.Since(start), err)
				}
			})
		})
	}
}

// A client that reads slowly is served to the end, however long it takes.
func TestSlowClientIsServed(t *testing.T) {
	answer := strings.Repeat("x", 10*pieceBytes)
	handler := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }
	bubble(t, handler, func(c *client) {
		c.send(get)
		got := int64(0)
		for got < int64(len(answer)) {
			time.Sleep(20 * time.Second)
			n, err := io.CopyN(io.Discard, c.in, 2*pieceBytes)
			got += n
			if err != nil {
				break
			}
			if got >= int64(len(answer)) {
				return
			}
		}
		t.Errorf("cut off after %d bytes", got)
	})
}

// A handler may wait before it answers, or answer with a header only. Neither the
// time that has passed nor an earlier request's deadline ends it.
func TestWaitingIsNotBounded(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(5 * time.Minute)
		switch r.URL.Path {
		case "/none":
		case "/flush":
			_ = http.NewResponseController(w).Flush()
			time.Sleep(5 * time.Minute)
			_ = http.NewResponseController(w).Flush()
		default:
			_, _ = io.WriteString(w, "late")
		}
	}
	bubble(t, handler, func(c *client) {
		for path, want := range map[string]string{"/": "late", "/none": "", "/flush": "", "/again": "late"} {
			c.send("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")
			c.wantAnswer(http.StatusOK, want)
			time.Sleep(time.Minute)
		}
	})
}

// A handler's own deadline holds until the handler removes it.
func TestHandlersOwnDeadline(t *testing.T) {
	type result struct{ own, common error }
	var done chan result // made in the bubble
	handler := func(w http.ResponseWriter, _ *http.Request) {
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(time.Now().Add(time.Hour))
		_, own := w.Write(make([]byte, pieceBytes)) // read after 10 minutes
		_ = control.SetWriteDeadline(time.Time{})
		_, common := w.Write(make([]byte, pieceBytes)) // not read
		done <- result{own, common}
	}
	bubble(t, handler, func(c *client) {
		done = make(chan result, 1)
		c.send(get)
		time.Sleep(10 * time.Minute)
		_, _ = io.CopyN(io.Discard, c.in, pieceBytes+1024) // with the header
		start := time.Now()
		if r := <-done; r.own != nil || r.common == nil || time.Since(start) != answerTimeout {
			t.Errorf("within its own deadline: %v; beyond the common one: %v after %v", r.own, r.common, time.Since(start))
		}
	})
}

// Attack: drip a body to a request that takes none.
func TestBodyDrippedToAGETIsCutOff(t *testing.T) {
	handler := func(http.ResponseWriter, *http.Request) { t.Error("the handler was reached") }
	bubble(t, handler, func(c *client) {
		c.send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
		start := time.Now()
		var dripping sync.WaitGroup
		dripping.Go(func() {
			for {
				if _, err := c.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		c.wantAnswer(http.StatusBadRequest, "a GET takes no body: send the request without one\n")
		dripping.Wait() // until the server closes the connection
		if took := time.Since(start); took > unreadTimeout+time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}

// A body that arrives at once is dropped, and the server still notices when the
// client disconnects.
func TestBodyOfAGETIsDropped(t *testing.T) {
	var gone chan error // made in the bubble
	handler := func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			gone <- nil
		case <-time.After(time.Hour):
			gone <- errors.New("the server has not noticed that the client disconnected")
		}
	}
	bubble(t, handler, func(c *client) {
		gone = make(chan error, 1)
		c.send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
		time.Sleep(10 * time.Minute) // not ended by the body's deadline
		select {
		case <-gone:
			t.Error("the request was ended")
		default:
		}
		_ = c.Close()
		if err := <-gone; err != nil {
			t.Error(err)
		}
	})
}

// A body of a GET that is as long as the bound is dropped. If it is longer by one byte,
// the request is refused and its connection is closed.
func TestBodyOfAGETIsBounded(t *testing.T) {
	for size, status := range map[int]int{maxUnread: http.StatusOK, maxUnread + 1: http.StatusBadRequest} {
		bubble(t, func(http.ResponseWriter, *http.Request) {}, func(c *client) {
			c.send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n")
			go func() { _, _ = io.WriteString(c, strings.Repeat("x", size)) }()
			resp, err := http.ReadResponse(c.in, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != status || resp.Close != (status != http.StatusOK) {
				t.Errorf("%d bytes: status %d, closes: %t; want %d", size, resp.StatusCode, resp.Close, status)
			}
		})
	}
}

// Attack: drip a body to a handler that does not read it, or that reads all.
func TestDrippedBodyIsCutOff(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
		bound   time.Duration
	}{
		{"unread", func(http.ResponseWriter, *http.Request) {}, unreadTimeout},
		{"read", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }, bodyTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, tt.handler, func(c *client) {
				c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
				start := time.Now()
				go func() { _, _ = io.Copy(io.Discard, c.in) }()
				for {
					if _, err := c.Write([]byte("x")); err != nil {
						break
					}
					time.Sleep(time.Second)
				}
				if took := time.Since(start); took < tt.bound-time.Second || took > tt.bound+unreadTimeout+2*time.Second {
					t.Errorf("cut off after %v, want %v", took, tt.bound)
				}
			})
		})
	}
}

// The deadline of a body that was read does not end a long answer.
func TestBodysDeadlineEndsWithTheBody(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		select {
		case <-r.Context().Done():
			t.Error("the request was ended")
		case <-time.After(time.Hour):
		}
		_, _ = w.Write(b)
		if err != nil {
			t.Error(err)
		}
	}
	bubble(t, handler, func(c *client) {
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
		c.wantAnswer(http.StatusOK, "abc")
	})
}

// A hijacked connection has no deadline.
func TestHijackedConnectionHasNoDeadline(t *testing.T) {
	handler := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			time.Sleep(time.Hour)
			_, err := io.WriteString(conn, "here")
			if err != nil {
				t.Error(err)
			}
			_ = conn.Close()
		}()
	}
	bubble(t, handler, func(c *client) {
		c.send(get)
		if b, err := io.ReadAll(c.in); err != nil || string(b) != "here" {
			t.Errorf("%q, %v", b, err)
		}
	})
}
