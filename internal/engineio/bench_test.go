package engineio

import (
	"context"
	"io"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gobwas/ws"
)

// shared is a source that returns the same frame to all sessions, once for each wake-up.
type shared struct {
	frame *Frame
	due   atomic.Int64
}

func (s *shared) Message([]byte, bool) {}
func (s *shared) Closed(Reason)        {}
func (s *shared) Next() *Frame {
	if s.due.Load() == 0 {
		return nil
	}
	s.due.Add(-1)
	return s.frame
}

// BenchmarkFanOut sends a frame of 300 bytes to 100 WebSockets. It measures the time
// of the goroutine that wakes them, and the system's time.
func BenchmarkFanOut(b *testing.B) {
	frame := NewFrame(make([]byte, 300))
	var mu sync.Mutex
	var conns []*shared
	var sessions []*Session
	server := NewServer(Config{}, func(s *Session) Conn {
		mu.Lock()
		defer mu.Unlock()
		c := &shared{frame: frame}
		conns, sessions = append(conns, c), append(sessions, s)
		return c
	})
	web := httptest.NewServer(server)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	for range 100 {
		conn, _, _, err := ws.Dial(ctx, "ws"+web.URL[len("http"):]+"/?EIO=4&transport=websocket")
		if err != nil {
			b.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, conn); conn.Close() }()
	}
	for b.Loop() {
		for i, s := range sessions {
			conns[i].due.Add(1)
			s.Wake()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(100*b.N), "ns/delivery")
	cancel()
	<-done
	web.Close()
}
