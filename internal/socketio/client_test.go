package socketio

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTimeout bounds every wait: a test that reaches it has failed.
const testTimeout = time.Minute

// testServer serves one set of namespaces on a real socket.
type testServer struct {
	*Server
	t   *testing.T
	url string
}

func newTestServer(t *testing.T, config Config, namespaces map[string]Namespace) *testServer {
	s := &testServer{t: t, Server: NewServer(config, namespaces)}
	web := httptest.NewServer(s.Server)
	s.url = web.URL + "/socket.io/"
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := recv(t, done, "Run ends"); err != nil {
			t.Errorf("Run: %v", err)
		}
		web.Close()
		if sessions, bytes := s.Sessions(), s.engine.Buffered(); sessions != 0 || bytes != 0 {
			t.Errorf("%d sessions and %d bytes are left", sessions, bytes)
		}
	})
	return s
}

// recv receives from c; it fails if nothing arrives.
func recv[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	timer := time.NewTimer(testTimeout)
	defer timer.Stop()
	select {
	case v = <-c:
	case <-timer.C:
		t.Fatalf("waited in vain until %s", what)
	}
	return v
}

// until polls for a state that has no signal.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(testTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// client is a WebSocket client that reads packets.
type client struct {
	t    *testing.T
	conn net.Conn
	in   io.Reader
}

// dial opens a session; it joins no namespace.
func (s *testServer) dial(query string) *client {
	s.t.Helper()
	dialer := ws.Dialer{Timeout: testTimeout}
	conn, br, _, err := dialer.Dial(context.Background(), "ws"+strings.TrimPrefix(s.url, "http")+"?EIO=4&transport=websocket"+query)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &client{t: s.t, conn: conn, in: conn}
	if br != nil {
		c.in = br
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(testTimeout))
	if first := c.read(); !strings.HasPrefix(first, "0{") {
		s.t.Fatalf("%q is not an open packet", first)
	}
	return c
}

// join opens a session and joins the main namespace.
func (s *testServer) join() *client {
	s.t.Helper()
	c := s.dial("")
	c.send("40")
	c.wantConnected("40")
	return c
}

func (c *client) send(messages ...string) {
	c.t.Helper()
	for _, m := range messages {
		if err := ws.WriteFrame(c.conn, ws.MaskFrame(ws.NewTextFrame([]byte(m)))); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *client) sendBinary(data ...byte) {
	c.t.Helper()
	if err := ws.WriteFrame(c.conn, ws.MaskFrame(ws.NewBinaryFrame(data))); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) read() string {
	c.t.Helper()
	f, err := ws.ReadFrame(c.in)
	if err != nil {
		c.t.Fatal(err)
	}
	if f.Header.OpCode == ws.OpClose {
		c.t.Fatalf("closed: %x", f.Payload)
	}
	return string(f.Payload)
}

func (c *client) want(messages ...string) {
	c.t.Helper()
	for _, want := range messages {
		if got := c.read(); got != want {
			c.t.Errorf("got %.200q, want %.200q", got, want)
		}
	}
}

// wantConnected expects the answer to CONNECT and returns the socket's id.
func (c *client) wantConnected(prefix string) string {
	c.t.Helper()
	got := c.read()
	var keys map[string]string
	if !strings.HasPrefix(got, prefix) || json.Unmarshal([]byte(got[len(prefix):]), &keys) != nil || len(keys) != 1 || keys["sid"] == "" {
		c.t.Fatalf("got %q, want %s and a sid alone", got, prefix)
	}
	return keys["sid"]
}

// wantClosed expects the end of the connection, and no packet before it.
func (c *client) wantClosed() {
	c.t.Helper()
	for {
		f, err := ws.ReadFrame(c.in)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			c.t.Fatal("the connection was not closed")
		case err != nil:
			return
		case f.Header.OpCode == ws.OpClose:
			_ = ws.WriteFrame(c.conn, ws.MaskFrame(f))
		default:
			c.t.Errorf("got %.200q before the end", f.Payload)
		}
	}
}

func (s *testServer) do(method, query, body string) (int, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.url+"?EIO=4&transport=polling"+query, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// poll opens a polling session and returns its query.
func (s *testServer) poll() string {
	s.t.Helper()
	_, body := s.do("GET", "", "")
	var session struct{ SID string }
	if body == "" || json.Unmarshal([]byte(body[1:]), &session) != nil || session.SID == "" {
		s.t.Fatalf("%q is not an open packet", body)
	}
	return "&sid=" + session.SID
}

// closes records why sockets were closed.
type closes chan Reason

func (c closes) want(t *testing.T, want Reason) {
	t.Helper()
	if got := recv(t, c, "the socket is closed: "+string(want)); got != want {
		t.Errorf("closed because of %q, want %q", got, want)
	}
}

func (c closes) none(t *testing.T) {
	t.Helper()
	select {
	case got := <-c:
		t.Errorf("closed because of %q", got)
	default:
	}
}
