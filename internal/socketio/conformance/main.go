// Command conformance is the server that the test suites of the Engine.IO and
// Socket.IO protocol repositories expect on http://localhost:3000:
//
//	go run ./internal/socketio/conformance -listen 127.0.0.1:3000
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/buildcast/buildcast/internal/engineio"
	"github.com/buildcast/buildcast/internal/socketio"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:3000", "address to listen on")
	pingTimeout := flag.Duration("ping-timeout", 200*time.Millisecond, "time for a pong; the suites want 200ms")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *listen, *pingTimeout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen string, pingTimeout time.Duration) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "listening on", listener.Addr())
	config := engineio.Config{PingInterval: 300 * time.Millisecond, PingTimeout: pingTimeout}
	engine := engineio.NewServer(config, newEcho)
	sockets := socketio.NewServer(socketio.Config{Config: config, ConnectTimeout: time.Second, Attachments: 10}, namespaces())
	mux := http.NewServeMux()
	mux.Handle("/engine.io/", engine)
	mux.Handle("/socket.io/", sockets)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return engine.Run(ctx) })
	group.Go(func() error { return sockets.Run(ctx) })
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return group.Wait()
}

// namespaces returns the namespaces that the Socket.IO suite needs.
func namespaces() map[string]socketio.Namespace {
	greet := func(s *socketio.Socket, auth json.RawMessage) { _ = s.Emit("auth", auth) }
	return map[string]socketio.Namespace{
		"/": {
			Connect: greet,
			Events: map[string]func(*socketio.Socket, *socketio.Event){
				"message":          func(s *socketio.Socket, e *socketio.Event) { _ = s.EmitPayload("message-back", e.Payload) },
				"message-with-ack": func(_ *socketio.Socket, e *socketio.Event) { _ = e.AckPayload(e.Payload) },
			},
		},
		"/custom": {Connect: greet},
	}
}

// echo sends each message back, as the Engine.IO suite expects.
type echo struct {
	session *engineio.Session
	mu      sync.Mutex
	queue   []*engineio.Frame
}

// echoQueue is how many messages may wait for one client.
const echoQueue = 1000

func newEcho(session *engineio.Session) engineio.Conn { return &echo{session: session} }

func (e *echo) Message(data []byte, binary bool) {
	f := engineio.NewBinaryFrame(data)
	if !binary {
		f = engineio.NewFrame(data)
	}
	e.mu.Lock()
	full := len(e.queue) == echoQueue
	if !full {
		e.queue = append(e.queue, f)
	}
	e.mu.Unlock()
	if full {
		e.session.Close(engineio.ForcedClose)
		return
	}
	e.session.Wake()
}

func (e *echo) Next() *engineio.Frame {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 {
		return nil
	}
	f := e.queue[0]
	e.queue = e.queue[1:]
	return f
}

func (e *echo) Closed(engineio.Reason) {}
