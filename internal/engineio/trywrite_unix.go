//go:build unix

package engineio

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// rawConn gives the connection's socket, where writing to the socket is all
// that writing to the connection does.
func rawConn(conn net.Conn) syscall.RawConn {
	var socket syscall.Conn
	switch c := conn.(type) { // not any syscall.Conn: one that wraps a socket may do more
	case *net.TCPConn:
		socket = c
	case *net.UnixConn:
		socket = c
	default:
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// attempt is one write that does not wait. They are pooled so that a frame
// going to a thousand sockets makes no garbage.
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

// write reports true always: false would wait until the socket has room.
func (a *attempt) write(fd uintptr) bool {
	for {
		a.n, a.err = syscall.Write(int(fd), a.b)
		if !errors.Is(a.err, syscall.EINTR) {
			return true
		}
	}
}

// tryWrite writes as much of b as the socket takes without waiting. Where raw
// is nil that is nothing.
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
