package engineio

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
)

// pipes is a network within a synctest bubble.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours, nil
}

// bubble runs f with a server whose network and time are the bubble's.
func bubble(t *testing.T, config Config, f func(s *testServer, p *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &testServer{t: t, url: "http://pipes/engine.io/"}
		s.Server = NewServer(config, s.openEcho)
		p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		transport := &http.Transport{DialContext: p.dial}
		s.http = &http.Client{Transport: transport}
		web := &http.Server{Handler: s.Server}
		served := make(chan error, 2)
		ctx, cancel := context.WithCancel(context.Background())
		go func() { served <- web.Serve(p) }()
		go func() { served <- s.Run(ctx) }()
		f(s, p)
		cancel()
		close(p.done)
		<-served // a deadlocked bubble fails by itself
		<-served
		transport.CloseIdleConnections()
		_ = web.Close()
		synctest.Wait()
		s.wantNothingLeft()
	})
}

// dialWebSocket opens a WebSocket and reads nothing from it.
func (p *pipes) dialWebSocket(s *testServer, query string) *client {
	s.t.Helper()
	conn, _ := p.dial(context.Background(), "", "")
	_ = conn.SetDeadline(time.Now().Add(time.Hour))
	_, _ = io.WriteString(conn, "GET /engine.io/"+query+" HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	var head []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); head = append(head, b[0]) {
		if _, err := conn.Read(b); err != nil {
			s.t.Fatal(err)
		}
	}
	return &client{t: s.t, conn: conn, in: conn}
}

func (p *pipes) webSocket(s *testServer) *client {
	s.t.Helper()
	c := p.dialWebSocket(s, "?EIO=4&transport=websocket")
	parseOpen(s.t, string(c.read().Payload))
	return c
}

// upgrading returns a polling session and a WebSocket that has been probed.
func (p *pipes) upgrading(s *testServer) (query string, c *client) {
	s.t.Helper()
	query = s.poll()
	c = p.dialWebSocket(s, strings.Replace(query, "polling", "websocket", 1))
	c.text("2probe")
	c.want(ws.OpText, "3probe")
	return query, c
}

// near allows for the heartbeat's grain.
func near(got, want, interval time.Duration) bool {
	return got >= want && got <= want+2*interval/1000
}

func TestHeartbeatOverWebSocket(t *testing.T) {
	bubble(t, Config{}, func(s *testServer, p *pipes) {
		c := p.webSocket(s)
		for range 3 {
			heard := time.Now()
			c.want(ws.OpText, "2")
			if d := time.Since(heard); !near(d, 25*time.Second, 25*time.Second) {
				t.Errorf("pinged after %v", d)
			}
			time.Sleep(19 * time.Second) // the client takes its time
			c.text("3")
			synctest.Wait()
		}
		c.want(ws.OpText, "2")
		pinged := time.Now()
		f := c.read()
		if d := time.Since(pinged); f.Header.OpCode != ws.OpClose || !near(d, 20*time.Second, 25*time.Second) {
			t.Errorf("%+v after %v", f, d)
		}
		_ = c.conn.Close()
		s.wantClosed(PingTimeout)
	})
}

func TestHeartbeatOverPolling(t *testing.T) {
	bubble(t, Config{}, func(s *testServer, _ *pipes) {
		query := s.poll()
		for range 3 {
			start := time.Now()
			a, err := s.try(context.Background(), "GET", query, "")
			if d := time.Since(start); err != nil || a.body != "2" || !near(d, 25*time.Second, 25*time.Second) {
				t.Errorf("%q, %v after %v", a.body, err, d)
			}
			s.want(s.do("POST", query, "3"), 200, "ok")
		}
		s.want(s.do("GET", query, ""), 200, "2")
		pinged := time.Now()
		s.want(s.do("GET", query, ""), 200, "1")
		if d := time.Since(pinged); !near(d, 20*time.Second, 25*time.Second) {
			t.Errorf("closed %v after the ping", d)
		}
		s.wantClosed(PingTimeout)
	})
}

// The deadline counts from the handshake, even if the client never polls for the
// ping.
func TestClientThatNeverPollsIsClosed(t *testing.T) {
	bubble(t, Config{PingInterval: 300 * time.Millisecond, PingTimeout: 200 * time.Millisecond}, func(s *testServer, _ *pipes) {
		query := s.poll()
		time.Sleep(499 * time.Millisecond)
		s.wantOpen()
		time.Sleep(time.Millisecond)
		s.want(s.do("GET", query, ""), 400, `{"code":1,"message":"Session ID unknown"}`)
		s.wantClosed(PingTimeout)
	})
}

// A client whose deadline has passed is refused even if Run is late.
func TestExpiredSessionIsRefusedBeforeRunComesToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed Reason
		s := NewServer(Config{}, func(*Session) Conn { return &closing{&closed} })
		session := &Session{server: s, id: "a", conn: &closing{&closed}}
		s.begin(session, netip.Addr{})
		time.Sleep(45*time.Second - time.Nanosecond)
		if s.session("a") == nil {
			t.Error("refused too early")
		}
		time.Sleep(time.Nanosecond)
		if s.session("a") != nil || closed != PingTimeout {
			t.Errorf("not refused (%q)", closed)
		}
	})
}

type closing struct{ reason *Reason }

func (c *closing) Message([]byte, bool) {}
func (c *closing) Next() *Frame         { return nil }
func (c *closing) Closed(r Reason)      { *c.reason = r }

// Sessions that open and close at arbitrary times are each pinged on time.
func TestHeartbeatOfManySessions(t *testing.T) {
	bubble(t, Config{}, func(s *testServer, p *pipes) {
		type result struct {
			after time.Duration
			err   error
		}
		results := make(chan result)
		for i := range 50 {
			time.Sleep(time.Duration(i*7) * time.Millisecond)
			c := p.webSocket(s)
			opened := time.Now()
			go func() {
				f, err := ws.ReadFrame(c.conn)
				if err == nil && string(f.Payload) != "2" {
					err = errors.New("not a ping")
				}
				results <- result{time.Since(opened), err}
				_ = c.conn.Close()
			}()
		}
		for range 50 {
			if r := recv(t, results, "a ping comes"); r.err != nil || !near(r.after, 25*time.Second, 25*time.Second) {
				t.Errorf("pinged after %v: %v", r.after, r.err)
			}
		}
		synctest.Wait()
		if n := s.Sessions(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	})
}

func TestUpgradeIn10Seconds(t *testing.T) {
	bubble(t, Config{}, func(s *testServer, p *pipes) {
		query, c := p.upgrading(s)
		start := time.Now()
		s.want(s.do("GET", query, ""), 200, "6")
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("the GET was answered after %v", d)
		}
		f := c.read()
		if d := time.Since(start); f.Header.OpCode != ws.OpClose || d < 9*time.Second || d > 10*time.Second {
			t.Errorf("%+v after %v", f.Header, d)
		}
		_ = c.conn.Close()
		s.wantOpen()
		s.do("POST", query, "1")
	})
}

func TestUpgradeWithAGETPending(t *testing.T) {
	bubble(t, Config{}, func(s *testServer, p *pipes) {
		query, c := p.upgrading(s)
		get := s.pending(query)
		c.text("5")
		s.want(recv(t, get, "the GET is answered"), 400, `{"code":3,"message":"Bad request"}`)
		c.text("4hello")
		c.want(ws.OpText, "4hello")
		_ = c.conn.Close()
		s.wantClosed(TransportClose)
	})
}

// Only a close waits for the client's GET if none is pending.
func TestOnlyACloseWaitsForTheGET(t *testing.T) {
	bubble(t, Config{}, func(s *testServer, _ *pipes) {
		took := func(query, body string) time.Duration {
			start := time.Now()
			s.want(s.do("POST", query, body), 200, "ok")
			return time.Since(start)
		}
		query := s.poll()
		if d := took(query, "4a\x1e3"); d != 0 {
			t.Errorf("a message was answered after %v", d)
		}
		s.want(s.do("GET", query, ""), 200, "4a")
		if d := took(query, "1\x1e1"); d != lastPollWait {
			t.Errorf("a close without a GET was answered after %v, want %v", d, lastPollWait)
		}
		query = s.poll()
		get := s.pending(query)
		if d := took(query, "1"); d != 0 {
			t.Errorf("a close with a GET pending was answered after %v", d)
		}
		s.want(<-get, 200, "6")
	})
}
