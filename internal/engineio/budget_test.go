package engineio

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

const kib = 1 << 10

// unfinished sends all of a message of n+1 bytes except the last byte.
func (c *client) unfinished(n int) {
	c.t.Helper()
	header := ws.Header{Fin: true, OpCode: ws.OpBinary, Masked: true, Length: int64(n) + 1}
	if err := ws.WriteHeader(c.conn, header); err != nil {
		c.t.Fatal(err)
	}
	_, _ = c.conn.Write(make([]byte, n))
}

// used waits until so many bytes are counted.
func (s *testServer) used(want int64) {
	s.t.Helper()
	s.until(func() bool { return s.budget.used.Load() == want })
}

// Attack: messages that never end, on many sockets. Together they hold no more
// than the budget; honest clients are served meanwhile.
func TestReceivingIsBounded(t *testing.T) {
	s := newTestServer(t, Config{MaxBuffered: 100 * kib, MaxPayload: 64 * kib})
	honest := s.webSocket()
	var attackers []*client
	for range 2 {
		c := s.webSocket()
		c.unfinished(32*kib - 1)
		attackers = append(attackers, c)
	}
	s.used(60 * kib) // an allowance of 2 KiB is each session's own
	c := s.webSocket()
	c.unfinished(64*kib - 1)
	c.wantClose(statusTryAgainLater)
	s.wantClosed(Overloaded)
	s.used(60 * kib)
	honest.text("4" + strings.Repeat("x", kib))
	honest.want(ws.OpText, "4"+strings.Repeat("x", kib))
	for _, c := range attackers {
		_ = c.conn.Close()
	}
	s.used(0)
}

func TestPOSTsAreWithinTheBudget(t *testing.T) {
	s := newTestServer(t, Config{MaxBuffered: 10 * kib})
	query := s.poll()
	s.want(s.do("POST", query, "4"+strings.Repeat("x", 12*kib-1)), 200, "ok")
	s.used(0)
	a := s.do("POST", query, "4"+strings.Repeat("x", 12*kib))
	if a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("answered %d %v", a.status, a.header)
	}
	s.wantClosed(Overloaded)
	s.used(0)
}

// Inflated bytes count as well as received bytes.
func TestInflatingIsWithinTheBudget(t *testing.T) {
	s := newTestServer(t, Config{MaxBuffered: 10 * kib, MaxPayload: 50 * kib})
	c := s.dial("?EIO=4&transport=websocket", "Sec-WebSocket-Extensions", offer)
	parseOpen(t, string(c.read().Payload))
	f := ws.NewTextFrame(deflate(bytes.Repeat([]byte("4"), 40*kib)))
	f.Header.Rsv = ws.Rsv(true, false, false)
	c.frame(f)
	c.wantClose(statusTryAgainLater)
	s.used(0)
}

// A frame's declared length allocates no memory before its bytes arrive.
func TestDeclaredBytesAreNotCounted(t *testing.T) {
	s := newTestServer(t, Config{})
	c := s.webSocket()
	if err := ws.WriteHeader(c.conn, ws.Header{Fin: true, OpCode: ws.OpBinary, Masked: true, Length: 900_000}); err != nil {
		t.Fatal(err)
	}
	_, _ = c.conn.Write(make([]byte, 2*kib))
	session := s.last().session
	s.until(func() bool { return session.holds.Load() == 4*kib })

	query := s.poll()
	conn, err := net.Dial("tcp", strings.Split(s.url, "/")[2])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST /engine.io/"+query+" HTTP/1.1\r\nHost: a\r\nContent-Length: "+strconv.Itoa(900_000)+"\r\n\r\n4a")
	session = s.last().session
	s.until(func() bool { return session.holds.Load() == 2 })
}

func TestHoldAndRelease(t *testing.T) {
	s := NewServer(Config{MaxBuffered: 10 * kib}, nil)
	a, b := &Session{server: s}, &Session{server: s}
	if !a.Hold(12*kib) || a.Hold(1) || b.Hold(allowance+1) || !b.Hold(allowance) {
		t.Error("Hold does not keep to the limit and the allowances")
	}
	a.Release(12 * kib)
	if !b.Hold(10 * kib) {
		t.Error("released bytes still count")
	}
	b.Release(10*kib + allowance)
	if n := s.budget.used.Load(); n != 0 {
		t.Errorf("%d bytes are counted", n)
	}
}
