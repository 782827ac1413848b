package sandbox

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// maxBridged bounds the connections of one bridge at once. Others wait in the
// listener's queue.
const maxBridged = 128

const acceptAgain = 10 * time.Millisecond

// bridge serves 127.0.0.1:port by copying each connection to the Unix socket and back.
// It goes on until the process ends.
func bridge(port int, socket string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	free := make(chan struct{}, maxBridged)
	go func() {
		for {
			free <- struct{}{}
			c, err := l.Accept()
			if err != nil {
				<-free
				<-time.After(acceptAgain) // descriptors are short, or it was broken off
				continue
			}
			go func() {
				defer func() { <-free }()
				connect(c, socket)
			}()
		}
	}()
	return nil
}

// connect copies both ways until both have ended.
func connect(inside net.Conn, socket string) {
	defer inside.Close()
	var d net.Dialer
	outside, err := d.DialContext(context.Background(), "unix", socket)
	if err != nil {
		return
	}
	defer outside.Close()
	var ways sync.WaitGroup
	ways.Go(func() { copyHalf(outside, inside) })
	ways.Go(func() { copyHalf(inside, outside) })
	ways.Wait()
}

// copyHalf copies one way, and passes its end on.
func copyHalf(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		from.Close() // the other way has no use either
		to.Close()
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
