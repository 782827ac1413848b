package socketio

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast/internal/engineio"
)

// contract has the namespaces of the protocol's suite, and a few more.
func contract(closed closes) map[string]Namespace {
	greet := func(s *Socket, auth json.RawMessage) { _ = s.Emit("auth", auth) }
	note := func(_ *Socket, r Reason) { closed <- r }
	return map[string]Namespace{
		"/": {
			Disconnect: note,
			Events: map[string]func(*Socket, *Event){
				"message": func(s *Socket, e *Event) { _ = s.EmitPayload("message-back", e.Payload) },
				"ack": func(_ *Socket, e *Event) {
					_ = e.AckPayload(e.Payload)
					_ = e.Ack("a second answer")
				},
				"5":     func(s *Socket, _ *Event) { _ = s.Emit("number") },
				"close": func(s *Socket, _ *Event) { _ = s.Emit("bye"); s.Close() },
				"disconnect me": func(s *Socket, _ *Event) {
					s.Disconnect()
					if err := s.Emit("too late"); !errors.Is(err, ErrClosed) {
						panic(err)
					}
				},
				"panic": func(*Socket, *Event) { panic("asked to") },
			},
		},
		"/custom": {Connect: greet},
		"/closed": {Authorize: func(_ *Socket, auth json.RawMessage) *Refusal {
			return &Refusal{Message: "not you", Data: auth}
		}},
	}
}

func TestConnect(t *testing.T) {
	s := newTestServer(t, Config{}, contract(make(closes, 9)))
	c := s.dial("")
	c.send(`40`)
	first := c.wantConnected("40")
	c.send(`40/custom,`)
	if second := c.wantConnected("40/custom,"); second == first {
		t.Error("both namespaces have one id")
	}
	c.want(`42/custom,["auth",{}]`)

	c = s.dial("")
	c.send(`40/custom,{"token":"abc"}`)
	c.wantConnected("40/custom,")
	c.want(`42/custom,["auth",{"token":"abc"}]`)
	c.send(`40/random`, `40/closed,{"a":1}`, `40/closed`)
	c.want(`44/random,{"message":"Invalid namespace"}`, `44/closed,{"message":"not you","data":{"a":1}}`, `44/closed,{"message":"not you","data":{}}`)
}

func TestSocketIDIsNotTheSessions(t *testing.T) {
	s := newTestServer(t, Config{}, contract(make(closes, 9)))
	_, body := s.do("GET", "", "")
	var session struct{ SID string }
	if err := json.Unmarshal([]byte(body[1:]), &session); err != nil {
		t.Fatal(err)
	}
	s.do("POST", "&sid="+session.SID, "40")
	if _, body = s.do("GET", "&sid="+session.SID, ""); !strings.HasPrefix(body, `40{"sid":"`) || strings.Contains(body, session.SID) {
		t.Errorf("%q", body)
	}
}

func TestEvents(t *testing.T) {
	s := newTestServer(t, Config{}, contract(make(closes, 9)))
	c := s.join()
	c.send(`42["message",1,"2",{"3":[true]}]`)
	c.want(`42["message-back",1,"2",{"3":[true]}]`)
	c.send(`42456["ack",1,"2",{"3":[false]}]`)
	c.want(`43456[1,"2",{"3":[false]}]`)
	c.send(`42["ack"]`, `42["unknown",1]`, `421["unknown"]`, `437["an answer nobody asked for"]`, `42[5]`)
	c.want(`42["number"]`)
}

func TestBinary(t *testing.T) {
	s := newTestServer(t, Config{Attachments: 10}, contract(make(closes, 9)))
	c := s.join()
	c.send(`452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)
	c.sendBinary(1, 2, 3)
	c.sendBinary(4, 5, 6)
	c.want(`452-["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, "\x01\x02\x03", "\x04\x05\x06")
	c.send(`451-789["ack",{"a":{"_placeholder":true,"num":0}}]`)
	c.sendBinary(7)
	c.want(`461-789[{"a":{"_placeholder":true,"num":0}}]`, "\x07")
	c.send(`450-["message"]`)
	c.want(`42["message-back"]`)
}

// Each of these closes the whole connection.
func TestCloseRules(t *testing.T) {
	tests := []struct {
		name   string
		send   []string // !x is the binary message x
		reason Reason
	}{
		{"unknown type", []string{`47`}, engineio.ParseError},
		{"letters", []string{`4abc`}, engineio.ParseError},
		{"invalid JSON", []string{`42["x"`}, engineio.ParseError},
		{"event that is not an array", []string{`42{}`}, engineio.ParseError},
		{"event that begins with an object", []string{`42[{}]`}, engineio.ParseError},
		{"reserved name", []string{`42["disconnecting"]`}, engineio.ParseError},
		{"DISCONNECT with a payload", []string{`41"x"`}, engineio.ParseError},
		{"invalid ack id", []string{`42abc["ack"]`}, engineio.ParseError},
		{"text while attachments are awaited", []string{`451-["message",{"_placeholder":true,"num":0}]`, `42["message"]`}, engineio.ParseError},
		{"unexpected binary", []string{"!x"}, engineio.ParseError},
		{"one attachment too many", []string{`451-["ack",1]`, "!x", "!y"}, engineio.ParseError},
		{"more than 10 attachments", []string{`4511-["message"]`}, engineio.ParseError},
		{"placeholder of nothing", []string{`451-["message",{"_placeholder":true,"num":1}]`, "!x"}, engineio.ParseError},
		{"namespace not joined", []string{`42/custom,["x"]`}, engineio.ForcedClose},
		{"unknown namespace", []string{`42/random,["x"]`}, engineio.ForcedClose},
		{"DISCONNECT of a namespace not joined", []string{`41/custom,`}, engineio.ForcedClose},
		{"CONNECT twice", []string{`40`}, engineio.ForcedClose},
		{"CONNECT_ERROR from a client", []string{`44{"message":"x"}`}, engineio.ForcedClose},
		{"panic of a handler", []string{`42["panic"]`}, engineio.ForcedClose},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			closed := make(closes, 9)
			s := newTestServer(t, Config{Attachments: 10}, contract(closed))
			c := s.join()
			for _, m := range tt.send {
				if data, ok := strings.CutPrefix(m, "!"); ok {
					c.sendBinary([]byte(data)...)
				} else {
					c.send(m)
				}
			}
			c.wantClosed()
			closed.want(t, tt.reason)
		})
	}
}

func TestPacketBeforeConnectCloses(t *testing.T) {
	s := newTestServer(t, Config{}, contract(make(closes, 9)))
	for _, m := range []string{`42["message"]`, `41`, `431[]`} {
		c := s.dial("")
		c.send(m)
		c.wantClosed()
	}
}

func TestClientLeavesANamespace(t *testing.T) {
	closed := make(closes, 9)
	s := newTestServer(t, Config{}, contract(closed))
	c := s.join()
	c.send(`40/custom`)
	c.wantConnected("40/custom,")
	c.want(`42/custom,["auth",{}]`)
	c.send(`41`)
	closed.want(t, ClientDisconnect)
	c.send(`40`) // and joins again
	c.wantConnected("40")
	c.send(`42["message",1]`)
	c.want(`42["message-back",1]`)
	_ = c.conn.Close()
	closed.want(t, engineio.TransportClose)
}

func TestServerDisconnects(t *testing.T) {
	closed := make(closes, 9)
	s := newTestServer(t, Config{}, contract(closed))
	c := s.join()
	c.send(`40/custom`)
	c.wantConnected("40/custom,")
	c.want(`42/custom,["auth",{}]`)
	c.send(`42["disconnect me"]`)
	c.want(`41`)
	closed.want(t, ServerDisconnect)
	c.send(`42["message"]`) // the connection was open until this
	c.wantClosed()
	closed.none(t)
}

func TestCloseSendsWhatIsQueued(t *testing.T) {
	closed := make(closes, 9)
	s := newTestServer(t, Config{}, contract(closed))
	c := s.join()
	c.send(`42["close"]`)
	c.want(`42["bye"]`)
	c.wantClosed()
	closed.want(t, engineio.ForcedClose)
}

func TestDrainSendsNoDisconnect(t *testing.T) {
	closed := make(closes, 9)
	s := newTestServer(t, Config{}, contract(closed))
	c := s.join()
	s.Drain()
	c.wantClosed()
	closed.want(t, engineio.ServerShutdown)
	if status, _ := s.do("GET", "", ""); status != 503 {
		t.Errorf("a new client was answered %d", status)
	}
}

func TestHandshake(t *testing.T) {
	seen := make(chan string, 1)
	s := newTestServer(t, Config{Config: engineio.Config{Query: []string{"lastEventId"}}}, map[string]Namespace{"/": {Connect: func(s *Socket, auth json.RawMessage) {
		seen <- s.Handshake().Query().Get("lastEventId") + string(auth) + s.Transport() + s.Namespace()
	}}})
	c := s.dial("&lastEventId=7")
	c.send(`40{"token":"x"}`)
	id := c.wantConnected("40")
	if got := recv(t, seen, "the client has joined"); got != `7{"token":"x"}websocket/` || len(id) != 20 {
		t.Errorf("%q %q", got, id)
	}
}

func TestConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, join := range []bool{false, true} {
			s := NewServer(Config{}, map[string]Namespace{"/": {}})
			c := &conn{server: s}
			closed := false
			c.mu.Lock()
			c.connectTimer = time.AfterFunc(s.config.ConnectTimeout, func() { closed = c.late() })
			c.mu.Unlock()
			time.Sleep(45*time.Second - time.Nanosecond)
			if join {
				c.join(newSocket(c, "/"))
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if closed == join {
				t.Errorf("joined %v, closed %v", join, closed)
			}
		}
	})
}

func TestConnectTimeoutClosesTheConnection(t *testing.T) {
	s := newTestServer(t, Config{ConnectTimeout: 10 * time.Millisecond}, contract(make(closes, 9)))
	s.dial("").wantClosed()
	c := s.dial("")
	c.send(`40/random`) // a refused client has not joined
	c.want(`44/random,{"message":"Invalid namespace"}`)
	c.wantClosed()
}

// A client that sends requests and does not read the answers is closed.
func TestQueueOverflow(t *testing.T) {
	for _, config := range []Config{{QueuePackets: 3}, {QueueBytes: 100}} {
		closed := make(closes, 9)
		s := newTestServer(t, config, contract(closed))
		query := s.poll()
		s.do("POST", query, "40")
		closed.none(t)
		packets := strings.Repeat(`421["ack","0123456789"]`+"\x1e", 9)
		s.do("POST", query, strings.TrimSuffix(packets, "\x1e"))
		closed.want(t, QueueOverflow)
		if status, _ := s.do("GET", query, ""); status != 400 {
			t.Errorf("the session is still open: %d", status)
		}
	}
}

// feed is a source of numbered events for one socket.
type feed struct {
	mu    sync.Mutex
	have  []*Frame
	asked int
}

func (f *feed) add(frames ...*Frame) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.have = append(f.have, frames...)
}

func (f *feed) Next() *Frame {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if len(f.have) == 0 {
		return nil
	}
	frame := f.have[0]
	f.have = f.have[1:]
	return frame
}

// joined returns a client and its socket.
func (s *testServer) joined(sockets <-chan *Socket) (*client, *Socket) {
	s.t.Helper()
	c := s.join()
	return c, recv(s.t, sockets, "the client has joined")
}

func newFeedServer(t *testing.T) (*testServer, <-chan *Socket, closes) {
	sockets, closed := make(chan *Socket, 1), make(closes, 9)
	return newTestServer(t, Config{}, map[string]Namespace{"/": {
		Connect:    func(s *Socket, _ json.RawMessage) { sockets <- s },
		Disconnect: func(_ *Socket, r Reason) { closed <- r },
	}}), sockets, closed
}

func event(name string) *Frame { return NewFrame("/", name) }

func TestStreams(t *testing.T) {
	s, sockets, _ := newFeedServer(t)
	c, socket := s.joined(sockets)
	a, b := &feed{}, &feed{}
	streamA, streamB := socket.Stream(a), socket.Stream(b)
	a.add(event("a1"))
	streamA.Wake()
	c.want(`42["a1"]`)

	// Wake-ups without a new frame do no harm.
	streamA.Wake()
	streamA.Wake()
	b.add(event("b1"), event("b2"))
	streamB.Wake()
	c.want(`42["b1"]`, `42["b2"]`)

	// A closed stream is not asked again.
	streamA.Close()
	a.add(event("a2"))
	streamA.Wake()
	b.add(event("b3"))
	streamB.Wake()
	c.want(`42["b3"]`)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.have) != 1 {
		t.Error("a closed stream was asked")
	}
}

// Streams take turns, and answers are sent before both.
func TestStreamsTakeTurns(t *testing.T) {
	s, sockets, _ := newFeedServer(t)
	query := s.poll() // with no GET pending, only this test asks for frames
	s.do("POST", query, "40")
	s.do("GET", query, "")
	socket := recv(t, sockets, "the client has joined")
	c := socket.conn
	a, b := &feed{}, &feed{}
	a.add(event("a1"), event("a2"), event("a3"))
	b.add(event("b1"), event("b2"))
	c.mu.Lock()
	for _, source := range []*feed{a, b} {
		c.ready.push(socket.Stream(source))
	}
	c.mu.Unlock()
	answer := event("answer")
	if err := c.push(answer); err != nil {
		t.Fatal(err)
	}
	want := []*Frame{answer, a.have[0], b.have[0], a.have[1], b.have[1], a.have[2], nil}
	for i, w := range want {
		if got := c.Next(); got != w {
			t.Errorf("frame %d is wrong", i)
		}
	}
	if c.queue != nil || c.queueBytes != 0 {
		t.Error("an idle client holds a queue")
	}
}

func TestStreamOfAClientThatIsGone(t *testing.T) {
	s, sockets, closed := newFeedServer(t)
	c, socket := s.joined(sockets)
	source := &feed{}
	stream := socket.Stream(source)
	_ = c.conn.Close()
	closed.want(t, engineio.TransportClose)
	recv(t, socket.Context().Done(), "the socket's context ends")
	source.add(event("x"))
	stream.Wake()
	if source.asked != 0 {
		t.Error("the source was asked")
	}
	if err := socket.Emit("x"); !errors.Is(err, ErrClosed) {
		t.Errorf("Emit: %v", err)
	}
	socket.Disconnect()
	closed.none(t)
}

// Disconnect follows Connect, even if the client disconnected before Connect
// returned.
func TestDisconnectFollowsConnect(t *testing.T) {
	gone, order := make(chan struct{}), make(chan string, 2)
	s := newTestServer(t, Config{}, map[string]Namespace{"/": {
		Connect: func(s *Socket, _ json.RawMessage) {
			s.conn.session.Close(engineio.PingTimeout)
			<-gone
			order <- "connect"
		},
		Disconnect: func(_ *Socket, r Reason) { order <- string(r) },
	}})
	c := s.dial("")
	c.send("40")
	c.wantConnected("40")
	close(gone)
	if first, second := recv(t, order, "Connect returns"), recv(t, order, "Disconnect is called"); first != "connect" || second != string(engineio.PingTimeout) {
		t.Errorf("%s, then %s", first, second)
	}
}

func TestBind(t *testing.T) {
	p := Payload{Args: []json.RawMessage{json.RawMessage(`{"buildId":"27"}`)}}
	var arg struct{ BuildID string }
	missing := "kept"
	if err := errors.Join(p.Bind(0, &arg), p.Bind(1, &missing)); err != nil || arg.BuildID != "27" || missing != "kept" {
		t.Errorf("%+v, %q, %v", arg, missing, err)
	}
	if p.Bind(0, &missing) == nil {
		t.Error("an object was bound to a string")
	}
}
