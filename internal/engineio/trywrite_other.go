//go:build !unix

package engineio

import (
	"net"
	"syscall"
)

// Without a way to write that does not wait, a goroutine does each write.
func rawConn(net.Conn) syscall.RawConn { return nil }

func tryWrite(syscall.RawConn, []byte) (int, error) { return 0, nil }
