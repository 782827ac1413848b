//go:build !unix

package engineio

import (
	"net"
	"syscall"
)

// No non-blocking write is known for this system, so a goroutine does each write.
func rawConn(net.Conn) syscall.RawConn { return nil }

func tryWrite(syscall.RawConn, []byte) (int, error) { return 0, nil }
