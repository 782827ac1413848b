package limit

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"syscall"
)

// Listener accepts connections into a Crowd. A connection is active while a
// request is served on it, or after it was hijacked, and idle otherwise: before
// its first request has arrived, and between requests. Set [Listener.ConnState]
// as the http.Server's.
type Listener struct {
	net.Listener
	crowd *Crowd
}

// NewListener wraps a TCP listener.
func NewListener(l net.Listener, crowd *Crowd) *Listener { return &Listener{l, crowd} }

// Accept waits for the next connection. If no descriptor is left for it, Accept
// closes another connection to free one. It returns the error all the same, and
// http.Server tries again after a pause.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			l.crowd.Displace()
		}
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok { // unreachable: the listener is TCP
		_ = c.Close()
		return nil, errors.New("limit: a connection is not TCP")
	}
	conn := &Conn{TCPConn: tcp}
	addr, _ := netip.ParseAddrPort(tcp.RemoteAddr().String())
	conn.member = l.crowd.Enter(addr.Addr(), func() { _ = tcp.Close() })
	return conn, nil
}

// ConnState is for http.Server.ConnState.
func (l *Listener) ConnState(c net.Conn, state http.ConnState) {
	conn, ok := c.(*Conn)
	switch {
	case !ok:
	case state == http.StateActive:
		conn.member.Activate()
	case state == http.StateIdle:
		conn.member.Idle()
	}
}

// Conn is a connection that leaves its Crowd when it is closed. Its other methods
// are those of the socket.
type Conn struct {
	*net.TCPConn
	member *Member
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.member.Leave()
	return c.TCPConn.Close()
}

// Socket returns the socket: writing to it directly is the same as Write.
func (c *Conn) Socket() (syscall.RawConn, error) { return c.SyscallConn() }
