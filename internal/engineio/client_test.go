package engineio

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/httphead"
	"github.com/gobwas/ws"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTimeout bounds every wait: a test that reaches it has failed.
const testTimeout = time.Minute

// echo sends each message back and records why it was closed.
type echo struct {
	session *Session
	closed  chan Reason // capacity 1: a second close would block the test

	mu    sync.Mutex
	queue []*Frame
}

func (e *echo) Message(data []byte, binary bool) {
	switch {
	case binary:
		e.push(NewBinaryFrame(data))
	case string(data) == "panic":
		panic("asked to")
	case string(data) == "settle":
		e.session.Settle()
	case string(data) == "end":
		e.push(NewFrame([]byte("bye")))
		e.session.End()
	default:
		e.push(NewFrame(data))
	}
}

func (e *echo) push(f *Frame) {
	e.mu.Lock()
	e.queue = append(e.queue, f)
	e.mu.Unlock()
	e.session.Wake()
}

func (e *echo) Next() *Frame {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 {
		return nil
	}
	f := e.queue[0]
	e.queue = e.queue[1:]
	return f
}

func (e *echo) Closed(reason Reason) { e.closed <- reason }

// testServer is a server of echoes on a real socket.
type testServer struct {
	*Server
	t    *testing.T
	url  string
	http *http.Client

	mu    sync.Mutex
	conns []*echo
}

func newTestServer(t *testing.T, config Config) *testServer {
	s := &testServer{t: t}
	s.Server = NewServer(config, s.openEcho)
	web := httptest.NewServer(s.Server)
	s.url, s.http = web.URL+"/engine.io/", web.Client()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := recv(t, done, "Run ends"); err != nil {
			t.Errorf("Run: %v", err)
		}
		web.Close()
		s.wantNothingLeft()
	})
	return s
}

// wantNothingLeft checks that the server holds nothing when all sessions are closed
// and all requests have ended.
func (s *testServer) wantNothingLeft() {
	s.t.Helper()
	if n := s.Sessions(); n != 0 {
		s.t.Errorf("%d sessions are left", n)
	}
	if idle, active := s.crowd.Size(); idle != 0 || active != 0 {
		s.t.Errorf("%d pending and %d settled sessions are counted", idle, active)
	}
	if n := s.budget.used.Load(); n != 0 {
		s.t.Errorf("%d bytes are counted", n)
	}
	if s.heartbeat.pings.first != nil || s.heartbeat.pongs.first != nil {
		s.t.Error("the heartbeat still has a session")
	}
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

func (s *testServer) openEcho(session *Session) Conn {
	e := &echo{session: session, closed: make(chan Reason, 1)}
	s.mu.Lock()
	s.conns = append(s.conns, e)
	s.mu.Unlock()
	return e
}

// last returns the session that was opened last.
func (s *testServer) last() *echo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns[len(s.conns)-1]
}

// wantClosed waits until the last session is closed.
func (s *testServer) wantClosed(want Reason) {
	s.t.Helper()
	select {
	case got := <-s.last().closed:
		if got != want {
			s.t.Errorf("closed because of %q, want %q", got, want)
		}
	case <-time.After(testTimeout):
		s.t.Errorf("the session was not closed, want %q", want)
	}
}

// wantOpen checks that the last session is not closed.
func (s *testServer) wantOpen() {
	s.t.Helper()
	select {
	case got := <-s.last().closed:
		s.t.Errorf("closed because of %q", got)
	default:
	}
}

type answer struct {
	status int
	body   string
	header http.Header
}

func (s *testServer) do(method, query, body string, header ...string) answer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	a, err := s.try(ctx, method, query, body, header...)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *testServer) try(ctx context.Context, method, query, body string, header ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.url+query, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := s.http.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(b), resp.Header}, err
}

// opened is the data of the open packet.
type opened struct {
	SID          string
	Upgrades     []string
	PingInterval int
	PingTimeout  int
	MaxPayload   int
}

func parseOpen(t *testing.T, packet string) opened {
	t.Helper()
	var o opened
	if !strings.HasPrefix(packet, "0") || json.Unmarshal([]byte(packet[1:]), &o) != nil || o.SID == "" {
		t.Fatalf("%q is not an open packet", packet)
	}
	return o
}

// poll opens a polling session and returns its query.
func (s *testServer) poll() string {
	s.t.Helper()
	a := s.do("GET", "?EIO=4&transport=polling", "")
	return "?EIO=4&transport=polling&sid=" + parseOpen(s.t, a.body).SID
}

// pending starts a GET and returns when the server has it.
func (s *testServer) pending(query string) <-chan answer {
	s.t.Helper()
	done := make(chan answer, 1)
	session := s.last().session
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		a, err := s.try(ctx, "GET", query, "")
		if err != nil {
			a.body = err.Error()
		}
		done <- a
	}()
	s.until(func() bool {
		session.mu.Lock()
		defer session.mu.Unlock()
		return session.poll != nil
	})
	return done
}

// until polls for a state that has no signal.
func (s *testServer) until(ok func() bool) { s.t.Helper(); until(s.t, ok) }

func until(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(testTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("waited in vain")
		}
	}
}

func (s *testServer) want(a answer, status int, body string) {
	s.t.Helper()
	if a.status != status || a.body != body {
		s.t.Errorf("answered %d %q, want %d %q", a.status, a.body, status, body)
	}
}

// client is a WebSocket client that reads frames, not messages.
type client struct {
	t    *testing.T
	conn net.Conn
	in   io.Reader
}

func (s *testServer) dial(query string, header ...string) *client {
	s.t.Helper()
	c, err := s.tryDial(query, header...)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *testServer) tryDial(query string, header ...string) (*client, error) {
	h := http.Header{}
	dialer := ws.Dialer{Timeout: testTimeout, Header: ws.HandshakeHeaderHTTP(h)}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Sec-WebSocket-Extensions" {
			dialer.Extensions, _ = httphead.ParseOptions([]byte(header[i+1]), nil)
			continue
		}
		h.Set(header[i], header[i+1])
	}
	conn, br, _, err := dialer.Dial(context.Background(), "ws"+strings.TrimPrefix(s.url, "http")+query)
	if err != nil {
		return nil, err
	}
	return newClient(s.t, conn, br), nil
}

func newClient(t *testing.T, conn net.Conn, br *bufio.Reader) *client {
	c := &client{t: t, conn: conn, in: conn}
	if br != nil {
		c.in = br
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(testTimeout))
	return c
}

func (c *client) frame(f ws.Frame) {
	c.t.Helper()
	if err := ws.WriteFrame(c.conn, ws.MaskFrame(f)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) text(s string) { c.t.Helper(); c.frame(ws.NewTextFrame([]byte(s))) }

func (c *client) read() ws.Frame {
	c.t.Helper()
	f, err := ws.ReadFrame(c.in)
	if err != nil {
		c.t.Fatal(err)
	}
	return f
}

func (c *client) want(op ws.OpCode, payload string) {
	c.t.Helper()
	f := c.read()
	if f.Header.OpCode != op || !bytes.Equal(f.Payload, []byte(payload)) {
		c.t.Errorf("got %d %q, want %d %q", f.Header.OpCode, f.Payload, op, payload)
	}
}

// wantClose expects a close frame with the code, and then the end of the
// connection.
func (c *client) wantClose(code ws.StatusCode) {
	c.t.Helper()
	f := c.read()
	if got, _ := ws.ParseCloseFrameData(f.Payload); f.Header.OpCode != ws.OpClose || got != code {
		c.t.Fatalf("got %d %q (%d), want a close with %d", f.Header.OpCode, f.Payload, got, code)
	}
	_ = ws.WriteFrame(c.conn, ws.MaskFrame(f)) // the server may have closed the connection already
	c.wantEnd()
}

func (c *client) wantEnd() {
	c.t.Helper()
	var timeout net.Error
	if _, err := io.Copy(io.Discard, c.in); errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Error("the connection was not closed")
	}
}

// webSocket opens a session over WebSocket and takes its open packet.
func (s *testServer) webSocket() *client {
	s.t.Helper()
	c := s.dial("?EIO=4&transport=websocket")
	parseOpen(s.t, string(c.read().Payload))
	return c
}
