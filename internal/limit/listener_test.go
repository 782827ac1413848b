package limit

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

// testTimeout bounds every wait: a test that reaches it has failed.
const testTimeout = time.Minute

// newServer serves h with connections of a crowd.
func newServer(t *testing.T, config CrowdConfig, h http.HandlerFunc) (addr string, crowd *Crowd) {
	t.Helper()
	crowd = NewCrowd(config)
	server := httptest.NewUnstartedServer(h)
	listener := NewListener(server.Listener, crowd)
	server.Listener = listener
	server.Config.ConnState = listener.ConnState
	server.Start()
	t.Cleanup(func() {
		server.Close()
		if idle, active := crowd.Size(); idle+active != 0 {
			t.Errorf("%d idle and %d active connections are left", idle, active)
		}
	})
	return listener.Addr().String(), crowd
}

type peer struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, addr string) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(testTimeout))
	return &peer{t, conn, bufio.NewReader(conn)}
}

// get sends a request and reads the answer's header.
func (p *peer) get(path string) *http.Response {
	p.t.Helper()
	_, _ = io.WriteString(p, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp
}

// wantClosed expects the server to close the connection.
func (p *peer) wantClosed() {
	p.t.Helper()
	_, err := io.Copy(io.Discard, p.in)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Error("the connection was not closed")
	}
}

// stream sends its header at once and then waits until the client disconnects.
func stream(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).Flush()
	if r.URL.Path == "/stream" {
		<-r.Context().Done()
	}
}

// Attack: more connections than descriptors. The oldest are closed, and new clients
// are served.
func TestConnectionsAreBounded(t *testing.T) {
	addr, crowd := newServer(t, CrowdConfig{Idle: 3, Active: 5}, stream)
	var streams, silent []*peer
	for range 9 {
		p := dial(t, addr)
		p.get("/stream")
		streams = append(streams, p)
	}
	for range 6 {
		silent = append(silent, dial(t, addr))
	}
	for _, p := range append(streams[:4:4], silent[:3]...) {
		p.wantClosed()
	}
	if idle, active := crowd.Size(); idle > 3 || active > 5 {
		t.Errorf("%d idle, %d active", idle, active)
	}
	p := dial(t, addr)
	for range 3 { // kept alive between requests
		resp := p.get("/")
		_, _ = io.Copy(io.Discard, resp.Body)
	}
}

// A connection between requests is idle, and becomes active with the next request.
func TestConnectionBetweenRequestsIsIdle(t *testing.T) {
	conn, crowd := &Conn{}, NewCrowd(CrowdConfig{Active: 5})
	conn.member = crowd.Enter(netip.Addr{}, func() {})
	l := NewListener(nil, crowd)
	for _, state := range []http.ConnState{http.StateActive, http.StateIdle} {
		l.ConnState(conn, state)
	}
	if idle, active := crowd.Size(); idle != 1 || active != 0 {
		t.Errorf("%d idle, %d active", idle, active)
	}
}

// A hijacked connection counts until its handler closes it.
func TestHijackedConnectionsCount(t *testing.T) {
	taken := make(chan net.Conn, 1)
	addr, crowd := newServer(t, CrowdConfig{Idle: 3, Active: 5}, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		taken <- conn
	})
	dial(t, addr).get("/")
	conn := <-taken
	if idle, active := crowd.Size(); idle != 0 || active != 1 {
		t.Errorf("%d idle, %d active", idle, active)
	}
	if c, ok := conn.(*Conn); !ok {
		t.Errorf("a %T was hijacked", conn)
	} else if _, err := c.Socket(); err != nil {
		t.Error(err)
	}
	_ = conn.Close()
	if idle, active := crowd.Size(); idle != 0 || active != 0 {
		t.Errorf("after closing: %d idle, %d active", idle, active)
	}
}

// exhausted is a listener of a process that has no descriptor left.
type exhausted struct{ net.Listener }

func (exhausted) Accept() (net.Conn, error) { return nil, syscall.EMFILE }

func TestAcceptWithoutDescriptorsClosesAConnection(t *testing.T) {
	addr, crowd := newServer(t, CrowdConfig{Idle: 3, Active: 5}, stream)
	p := dial(t, addr)
	p.get("/stream")
	_, err := NewListener(exhausted{}, crowd).Accept()
	var again interface{ Temporary() bool }
	if !errors.As(err, &again) || !again.Temporary() { // http.Server continues only after such an error
		t.Errorf("%v is not temporary", err)
	}
	p.wantClosed()
}

func TestDescriptors(t *testing.T) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if n := Descriptors(); n < 1 || uint64(n) > files.Max || files.Cur != files.Max {
		t.Errorf("%d descriptors; the limits are %d and %d", n, files.Cur, files.Max)
	}
}
