package engineio

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/buildcast/buildcast/internal/limit"
)

// counting returns numbered frames of one size until it has returned limit of them.
type counting struct {
	session *Session
	size    int
	limit   atomic.Int64 // 0 until the client is connected
	given   atomic.Int64
	closed  chan Reason
}

func (c *counting) Message([]byte, bool) { c.session.Wake() }
func (c *counting) Closed(r Reason)      { c.closed <- r }
func (c *counting) Next() *Frame {
	n := c.given.Load()
	if n >= c.limit.Load() {
		return nil
	}
	data := make([]byte, c.size)
	binary.BigEndian.PutUint64(data, uint64(n))
	c.given.Add(1)
	return NewBinaryFrame(data)
}

// newCounting returns a server of counting sources, and a function that opens a
// WebSocket and returns it with its source.
func newCounting(t *testing.T, size int, limit int64, secure bool) (dial func() (*client, *counting)) {
	opened := make(chan *counting, 1)
	// No pings: on a slow machine they would arrive between the frames.
	server := NewServer(Config{PingInterval: time.Hour}, func(s *Session) Conn {
		c := &counting{session: s, size: size, closed: make(chan Reason, 1)}
		opened <- c
		return c
	})
	web := httptest.NewUnstartedServer(server)
	scheme := "ws"
	if secure {
		web.StartTLS()
		scheme = "wss"
	} else {
		web.Start()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		recv(t, done, "Run ends")
		web.Close()
	})
	return func() (*client, *counting) {
		t.Helper()
		dialer := ws.Dialer{TLSConfig: &tls.Config{InsecureSkipVerify: true}}
		conn, br, _, err := dialer.Dial(ctx, scheme+"://"+web.Listener.Addr().String()+"/?EIO=4&transport=websocket")
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(t, conn, br)
		parseOpen(t, string(c.read().Payload))
		source := recv(t, opened, "the session is opened")
		source.limit.Store(limit)
		return c, source
	}
}

// wantAll reads limit frames in order.
func wantAll(t *testing.T, c *client, limit int64) {
	t.Helper()
	for n := range limit {
		f := c.read()
		if f.Header.OpCode != ws.OpBinary || binary.BigEndian.Uint64(f.Payload) != uint64(n) {
			t.Fatalf("frame %d is %d of %d bytes, numbered %d", n, f.Header.OpCode, len(f.Payload), binary.BigEndian.Uint64(f.Payload))
		}
	}
}

// The source of a client that does not read is not called, and the caller of Wake
// does not wait.
func TestSlowReader(t *testing.T) {
	const limit = 5000 // 80 MB: more than a socket takes
	dial := newCounting(t, 16<<10, limit, false)
	c, source := dial()
	source.session.Wake()
	stuck := func() bool {
		source.session.mu.Lock()
		defer source.session.mu.Unlock()
		return source.session.ws.busy
	}
	until(t, stuck)
	given := source.given.Load()
	if given >= limit {
		t.Fatal("the socket took everything")
	}
	for range 1000 {
		source.session.Wake()
	}
	if again := source.given.Load(); again != given && stuck() {
		t.Errorf("a full socket was given %d more frames", again-given)
	}
	// Others are served meanwhile.
	other, otherSource := dial()
	otherSource.session.Wake()
	wantAll(t, other, limit)
	// When it reads at last, no frame is missing or damaged.
	wantAll(t, c, limit)
}

func TestStuckClientIsClosedAtOnce(t *testing.T) {
	dial := newCounting(t, 1<<20, 1000, false)
	_, source := dial()
	source.session.Wake()
	until(t, func() bool {
		source.session.mu.Lock()
		defer source.session.mu.Unlock()
		return source.session.ws.busy
	})
	source.session.Close(PingTimeout)
	if reason := recv(t, source.closed, "the session is closed"); reason != PingTimeout {
		t.Errorf("closed because of %q", reason)
	}
}

// Wake returns even if the source has endless frames and the client reads them.
func TestWakeIsNotHeldUpByAFastReader(t *testing.T) {
	dial := newCounting(t, 64, 1<<40, false)
	c, source := dial()
	source.session.Wake()
	wantAll(t, c, 10*turn)
	source.session.Close(ForcedClose)
	recv(t, source.closed, "the session is closed")
}

func TestOverTLS(t *testing.T) {
	dial := newCounting(t, 1000, 2000, true)
	c, source := dial()
	if source.session.ws.raw != nil {
		t.Fatal("TLS would be written past")
	}
	c.text("4go")
	wantAll(t, c, 2000)
	c.frame(ws.NewPingFrame([]byte("p")))
	c.want(ws.OpPong, "p")
	c.text("bad")
	c.wantClose(ws.StatusPolicyViolation)
	if reason := recv(t, source.closed, "the session is closed"); reason != ParseError {
		t.Errorf("closed because of %q", reason)
	}
}

// The non-blocking write must not bypass a connection that does more than write to
// its socket.
func TestOnlyPlainSocketsAreWrittenDirectly(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	type wrapped struct{ *net.TCPConn }
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	counted, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer counted.Close()
	if rawConn(&limit.Conn{TCPConn: counted.(*net.TCPConn)}) == nil { // the server's own connections
		t.Error("a connection that is counted is not written to directly")
	}
	if rawConn(a) != nil || rawConn(wrapped{}) != nil || rawConn(tls.Client(a, nil)) != nil {
		t.Error("a connection that does more than write to its socket is written to directly")
	}
	if n, err := tryWrite(nil, []byte("x")); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// A frame that is sent to many sockets is not copied for each.
func TestFanOutMakesNoGarbage(t *testing.T) {
	dial := newCounting(t, 0, 0, false)
	c, source := dial()
	f := NewFrame(make([]byte, 1000))
	go func() { _, _ = io.Copy(io.Discard, c.conn) }()
	s := source.session
	allocations := testing.AllocsPerRun(500, func() {
		s.mu.Lock()
		if !s.ws.busy {
			s.ws.send(f)
		}
		s.mu.Unlock()
	})
	if allocations >= 1 {
		t.Errorf("%v allocations a frame", allocations)
	}
}
