package engineio

import (
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// upgrading returns a polling session and a WebSocket that has been probed.
func (s *testServer) upgrading() (query string, c *client) {
	s.t.Helper()
	query = s.poll()
	c = s.dial(strings.Replace(query, "polling", "websocket", 1))
	c.text("2probe")
	c.want(ws.OpText, "3probe")
	return query, c
}

func (s *testServer) upgraded() (query string, c *client) {
	s.t.Helper()
	query, c = s.upgrading()
	c.text("5")
	s.until(func() bool { return s.last().session.Transport() == "websocket" })
	return query, c
}

func TestUpgrade(t *testing.T) {
	s := newTestServer(t, Config{})
	query, c := s.upgrading()
	s.want(s.do("POST", query, "4over polling"), 200, "ok")
	s.want(s.do("GET", query, ""), 200, "4over polling")
	s.want(s.do("GET", query, ""), 200, "6")
	s.do("POST", query, "4kept for the WebSocket")
	c.text("5")
	c.want(ws.OpText, "4kept for the WebSocket")
	c.text("4hello")
	c.want(ws.OpText, "4hello")
	s.want(s.do("GET", query, ""), 400, `{"code":3,"message":"Bad request"}`)
	s.want(s.do("POST", query, "4a"), 400, `{"code":3,"message":"Bad request"}`)
	s.wantOpen()
}

func TestProbeAnswersThePendingGET(t *testing.T) {
	s := newTestServer(t, Config{})
	query := s.poll()
	get := s.pending(query)
	c := s.dial(strings.Replace(query, "polling", "websocket", 1))
	c.text("2probe")
	c.want(ws.OpText, "3probe")
	s.want(recv(t, get, "the GET is answered"), 200, "6")
}

func TestSecondWebSocketIsClosed(t *testing.T) {
	s := newTestServer(t, Config{})
	query, c := s.upgrading()
	again := strings.Replace(query, "polling", "websocket", 1)
	s.dial(again).wantClose(ws.StatusNormalClosure) // while the first is probed
	c.text("5")
	c.text("4a")
	c.want(ws.OpText, "4a")
	s.dial(again).wantClose(ws.StatusNormalClosure)
	c.text("4b")
	c.want(ws.OpText, "4b")
}

func TestProbeThatIsNone(t *testing.T) {
	for _, first := range []string{"2", "2other", "5", "4hello", "1", "9"} {
		s := newTestServer(t, Config{})
		query := s.poll()
		c := s.dial(strings.Replace(query, "polling", "websocket", 1))
		c.text(first)
		if f := c.read(); f.Header.OpCode != ws.OpClose {
			t.Errorf("%q was answered %q", first, f.Payload)
		}
		s.until(func() bool {
			session := s.last().session
			session.mu.Lock()
			defer session.mu.Unlock()
			return session.probe == nil
		})
		s.wantOpen() // the session continues over polling, and may try again
		s.do("POST", query, "4a")
		s.want(s.do("GET", query, ""), 200, "4a")
		again := s.dial(strings.Replace(query, "polling", "websocket", 1))
		again.text("2probe")
		again.want(ws.OpText, "3probe")
	}
}

func TestUpgradeTakesTooLong(t *testing.T) {
	s := newTestServer(t, Config{UpgradeTimeout: 30 * time.Millisecond})
	query, c := s.upgrading()
	c.wantClose(ws.StatusNormalClosure)
	s.do("POST", query, "4a")
	s.want(s.do("GET", query, ""), 200, "4a")
	s.wantOpen()
}

func TestLostProbeLeavesTheSession(t *testing.T) {
	s := newTestServer(t, Config{})
	query, c := s.upgrading()
	_ = c.conn.Close()
	s.until(func() bool {
		session := s.last().session
		session.mu.Lock()
		defer session.mu.Unlock()
		return session.probe == nil
	})
	s.do("POST", query, "4a")
	s.want(s.do("GET", query, ""), 200, "4a")
}

func TestClosedSessionTakesItsProbeAlong(t *testing.T) {
	s := newTestServer(t, Config{})
	query, c := s.upgrading()
	s.do("POST", query, "1")
	c.wantClose(ws.StatusNormalClosure)
	s.wantClosed(TransportClose)
}

func TestUpgradedSessionCloses(t *testing.T) {
	s := newTestServer(t, Config{})
	_, c := s.upgraded()
	c.text("1")
	c.wantClose(ws.StatusNormalClosure)
	s.wantClosed(TransportClose)
}
