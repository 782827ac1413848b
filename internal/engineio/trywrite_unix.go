//go:build unix

package engineio

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// plain is a connection that wraps a socket and declares that its Write only writes
// to the socket. A syscall.Conn does not declare that: a wrapper may do more, such as
// encrypt.
type plain interface {
	Socket() (syscall.RawConn, error)
}

// rawConn returns the connection's socket, or nil if the connection's Write does
// more than write to the socket.
func rawConn(conn net.Conn) syscall.RawConn {
	var raw syscall.RawConn
	var err error
	switch c := conn.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	case plain:
		raw, err = c.Socket()
	}
	if err != nil {
		return nil
	}
	return raw
}

// attempt is one non-blocking write. Attempts are pooled, so that sending a frame to
// a thousand sockets allocates nothing.
type attempt struct {
	b   []byte
	n   int
	err error
	run func(fd uintptr) bool
}

var attempts = sync.Pool{New: func() any {
	a := &attempt{}
	a.run = a.write
	return a
}}

// write always returns true: false would wait until the socket has room.
func (a *attempt) write(fd uintptr) bool {
	for {
		a.n, a.err = syscall.Write(int(fd), a.b)
		if !errors.Is(a.err, syscall.EINTR) {
			return true
		}
	}
}

// tryWrite writes as much of b as the socket takes without waiting; nothing if
// raw is nil.
func tryWrite(raw syscall.RawConn, b []byte) (int, error) {
	if raw == nil {
		return 0, nil
	}
	a := attempts.Get().(*attempt)
	a.b = b
	err := raw.Write(a.run)
	n, writeErr := a.n, a.err
	a.b, a.n, a.err = nil, 0, nil
	attempts.Put(a)
	switch {
	case err != nil:
		return 0, err
	case errors.Is(writeErr, syscall.EAGAIN):
		return 0, nil
	case writeErr != nil:
		return 0, writeErr
	}
	return n, nil
}
