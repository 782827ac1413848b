package socketio

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/buildcast/buildcast/internal/engineio"
)

const kib = 1 << 10

// Attack: packets that announce attachments. A server accepts none by default.
func TestAttachmentsAreRefused(t *testing.T) {
	for _, packet := range []string{
		`451-["message",{"_placeholder":true,"num":0}]`, `4510-["message"]`, `461-1[{"_placeholder":true,"num":0}]`,
	} {
		closed := make(closes, 9)
		s := newTestServer(t, Config{}, contract(closed))
		c := s.join()
		c.send(packet)
		c.wantClosed()
		closed.want(t, engineio.ParseError)
	}
}

// Attack: attachments that together are longer than any message may be.
func TestPacketsAreBounded(t *testing.T) {
	closed := make(closes, 9)
	s := newTestServer(t, Config{Attachments: 10, MaxPacket: 10 * kib}, contract(closed))
	head := `55-["unknown"]`
	c := s.join()
	c.send("4" + head)
	for range 4 {
		c.sendBinary(make([]byte, 2*kib)...)
	}
	c.sendBinary(make([]byte, 2*kib-len(head)+1)...) // a byte too many
	c.wantClosed()
	closed.want(t, engineio.ParseError)

	c = s.join()
	c.send("4" + head)
	for range 4 {
		c.sendBinary(make([]byte, 2*kib)...)
	}
	c.sendBinary(make([]byte, 2*kib-len(head))...)
	c.send(`421["ack"]`)
	c.want(`431[]`)

	c = s.join()
	c.send("4" + head)
	c.sendBinary(make([]byte, 11*kib)...) // in the middle
	c.wantClosed()
	closed.want(t, engineio.ParseError)
}

// Attack: 16 MB a socket through attachments that never complete, on many
// sockets. All together they hold no more than the budget.
func TestAttachmentsAreWithinTheBudget(t *testing.T) {
	closed := make(closes, 9)
	s := newTestServer(t, Config{Config: engineio.Config{MaxBuffered: 100 * kib}, Attachments: 10}, contract(closed))
	attack := func() *client {
		c := s.join()
		c.send(`4510-["message"]`)
		for range 3 {
			c.sendBinary(make([]byte, 10*kib)...)
		}
		return c
	}
	var attackers []*client
	for range 3 {
		c := attack()
		attackers = append(attackers, c)
	}
	until(t, "90 KiB are held", func() bool { return s.engine.Buffered() > 80*kib })
	attack().wantClosed()
	closed.want(t, engineio.Overloaded)
	honest := s.join()
	honest.send(`42["message","hello"]`)
	honest.want(`42["message-back","hello"]`)
	for _, c := range attackers {
		_ = c.conn.Close()
		closed.want(t, engineio.TransportClose)
	}
	until(t, "nothing is held", func() bool { return s.engine.Buffered() == 0 })
}

// A complete packet no longer counts against the budget.
func TestWholePacketsHoldNothing(t *testing.T) {
	s := newTestServer(t, Config{Attachments: 10}, contract(make(closes, 9)))
	c := s.join()
	for range 3 {
		c.send(`451-["unknown"]`)
		c.sendBinary(make([]byte, 10*kib)...)
		c.send(`421["ack"]`)
		c.want(`431[]`)
	}
	until(t, "nothing is held", func() bool { return s.engine.Buffered() == 0 })
}

// Attack: many clients that send requests and do not read the answers.
func TestQueuesAreWithinTheBudget(t *testing.T) {
	closed := make(closes, 99)
	s := newTestServer(t, Config{Config: engineio.Config{MaxBuffered: 100 * kib}}, contract(closed))
	ask := "421[\"ack\",\"" + strings.Repeat("x", 20*kib) + "\"]"
	var queries []string
	for range 4 { // each holds 18 KiB of the budget and sends as much
		query := s.poll()
		s.do("POST", query, "40")
		if status, body := s.do("POST", query, ask); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		queries = append(queries, query)
	}
	closed.none(t)
	query := s.poll()
	s.do("POST", query, "40")
	s.do("POST", query, ask)
	s.do("POST", query, ask)
	closed.want(t, engineio.Overloaded)
	for _, query := range queries {
		if _, body := s.do("GET", query, ""); !strings.Contains(body, "xxx") {
			t.Errorf("%.40q", body)
		}
	}
	until(t, "nothing is held", func() bool { return s.engine.Buffered() == 0 })
}

// Attack: sessions that join no namespace. Each new one closes the oldest of them; a
// client that has joined stays connected.
func TestSessionsThatJoinNothingGo(t *testing.T) {
	closed := make(closes, 9)
	s := newTestServer(t, Config{Config: engineio.Config{MaxPending: 3}}, contract(closed))
	honest := s.join()
	for range 50 {
		s.poll()
	}
	if n := s.Sessions(); n != 4 {
		t.Errorf("%d sessions are open, want 3 and the honest one", n)
	}
	honest.send(`42["message","still here"]`)
	honest.want(`42["message-back","still here"]`)
	s.join()
	closed.none(t)
}

// Attack: many sessions of one host join. Beyond MaxSessions the oldest of them is
// closed, and a new client is accepted.
func TestSessionsThatJoinAreBounded(t *testing.T) {
	closed := make(closes, 99)
	s := newTestServer(t, Config{Config: engineio.Config{MaxSessions: 5}}, contract(closed))
	for range 20 {
		s.join()
	}
	for range 15 {
		closed.want(t, engineio.Overloaded)
	}
	s.join().send(`42["message"]`)
	if n := s.Sessions(); n > 5 {
		t.Errorf("%d sessions are open", n)
	}
}

// Other servers serve the client's script at this path.
func TestClientsScript(t *testing.T) {
	s := newTestServer(t, Config{}, contract(make(closes, 9)))
	for _, name := range []string{"socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.min.js.map"} {
		resp, err := http.Get(s.url + name)
		if err != nil {
			t.Fatal(err)
		}
		var b [500]byte
		n, _ := resp.Body.Read(b[:])
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound || !strings.Contains(string(b[:n]), "npm install socket.io-client") {
			t.Errorf("%s: %d %s", name, resp.StatusCode, b[:n])
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// If Connect panics, Disconnect is called all the same.
func TestPanicInConnect(t *testing.T) {
	closed := make(closes, 9)
	s := newTestServer(t, Config{}, map[string]Namespace{"/": {
		Connect:    func(*Socket, json.RawMessage) { panic("asked to") },
		Disconnect: func(_ *Socket, r Reason) { closed <- r },
	}})
	c := s.dial("")
	c.send("40")
	c.wantConnected("40")
	c.wantClosed()
	closed.want(t, engineio.ForcedClose)
}
