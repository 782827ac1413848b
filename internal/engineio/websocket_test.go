package engineio

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

func TestWebSocketMessages(t *testing.T) {
	s := newTestServer(t, Config{})
	c := s.webSocket()
	c.text("4hello")
	c.want(ws.OpText, "4hello")
	c.frame(ws.NewBinaryFrame([]byte{1, 2, 3, 4}))
	c.want(ws.OpBinary, "\x01\x02\x03\x04")
	if s.last().session.Transport() != "websocket" {
		t.Error("the transport is not websocket")
	}
}

// The library unmasks in blocks: every remainder, and payloads read in several steps.
func TestEveryLengthIsUnmasked(t *testing.T) {
	s := newTestServer(t, Config{})
	c := s.webSocket()
	lengths := []int{1000, 65535, 65536, readStep - 1, readStep, readStep + 1, 5*readStep + 7}
	for n := range 150 {
		lengths = append(lengths, n)
	}
	for _, n := range lengths {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(i*7 + n)
		}
		c.frame(ws.NewBinaryFrame(data))
		if f := c.read(); !bytes.Equal(f.Payload, data) {
			t.Fatalf("%d bytes came back changed", n)
		}
	}
}

func TestFragments(t *testing.T) {
	s := newTestServer(t, Config{})
	c := s.webSocket()
	c.frame(ws.NewFrame(ws.OpText, false, []byte("4a")))
	c.frame(ws.NewPingFrame([]byte("p")))
	c.frame(ws.NewFrame(ws.OpContinuation, false, nil))
	c.frame(ws.NewFrame(ws.OpContinuation, true, []byte("b")))
	c.want(ws.OpPong, "p")
	c.want(ws.OpText, "4ab")
}

func TestClientCloses(t *testing.T) {
	s := newTestServer(t, Config{})
	c := s.webSocket()
	c.text("1")
	c.wantClose(ws.StatusNormalClosure)
	s.wantClosed(TransportClose)

	c = s.webSocket()
	c.frame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusGoingAway, "")))
	c.wantClose(ws.StatusNormalClosure)
	s.wantClosed(TransportClose)

	c = s.webSocket()
	_ = c.conn.Close()
	s.wantClosed(TransportClose)
}

func TestViolationsClose(t *testing.T) {
	text := func(s string) []ws.Frame { return []ws.Frame{ws.NewTextFrame([]byte(s))} }
	rsv := ws.NewTextFrame([]byte("4a"))
	rsv.Header.Rsv = ws.Rsv(true, false, false)
	tests := []struct {
		name   string
		frames []ws.Frame
		code   ws.StatusCode
		reason Reason
	}{
		{"unknown packet", text("abc"), ws.StatusPolicyViolation, ParseError},
		{"empty packet", text(""), ws.StatusPolicyViolation, ParseError},
		{"ping packet", text("2"), ws.StatusNormalClosure, TransportError},
		{"message too long", text("4" + strings.Repeat("x", 1000)), ws.StatusMessageTooBig, TransportError},
		{"fragments too long", []ws.Frame{
			ws.NewFrame(ws.OpText, false, bytes.Repeat([]byte("4"), 600)),
			ws.NewFrame(ws.OpContinuation, true, bytes.Repeat([]byte("4"), 401)),
		}, ws.StatusMessageTooBig, TransportError},
		{"not UTF-8", text("4\xff"), ws.StatusInvalidFramePayloadData, TransportError},
		{"reserved opcode", []ws.Frame{ws.NewFrame(3, true, nil)}, ws.StatusProtocolError, TransportError},
		{"compressed without agreement", []ws.Frame{rsv}, ws.StatusProtocolError, TransportError},
		{"continuation of nothing", []ws.Frame{ws.NewFrame(ws.OpContinuation, true, []byte("4"))}, ws.StatusProtocolError, TransportError},
		{"message within a message", []ws.Frame{ws.NewFrame(ws.OpText, false, []byte("4")), ws.NewTextFrame([]byte("4"))}, ws.StatusProtocolError, TransportError},
		{"long control frame", []ws.Frame{ws.NewFrame(ws.OpPing, true, make([]byte, 126))}, ws.StatusProtocolError, TransportError},
		{"fragmented control frame", []ws.Frame{ws.NewFrame(ws.OpPing, false, nil)}, ws.StatusProtocolError, TransportError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, Config{MaxPayload: 1000})
			c := s.webSocket()
			for _, f := range tt.frames {
				c.frame(f)
			}
			c.wantClose(tt.code)
			s.wantClosed(tt.reason)
		})
	}
}

func TestUnmaskedFrameCloses(t *testing.T) {
	s := newTestServer(t, Config{})
	c := s.webSocket()
	if err := ws.WriteFrame(c.conn, ws.NewTextFrame([]byte("4a"))); err != nil {
		t.Fatal(err)
	}
	c.wantClose(ws.StatusProtocolError)
	s.wantClosed(TransportError)
}

// A header declares more than the limit, and no payload follows.
func TestDeclaredLengthIsRefusedUnread(t *testing.T) {
	s := newTestServer(t, Config{})
	c := s.webSocket()
	if err := ws.WriteHeader(c.conn, ws.Header{Fin: true, OpCode: ws.OpBinary, Masked: true, Length: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	c.wantClose(ws.StatusMessageTooBig)
	s.wantClosed(TransportError)
}

func TestFramesBeforeTheHandshakesAnswerAreRefused(t *testing.T) {
	s := newTestServer(t, Config{})
	conn, err := net.Dial("tcp", strings.Split(s.url, "/")[2])
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, conn, nil)
	_, _ = io.WriteString(conn, "GET /engine.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x81\x00\x00\x00\x004")
	c.wantEnd()
	if s.Sessions() != 0 {
		t.Error("a session is open")
	}
}

const offer = "permessage-deflate; client_max_window_bits"

func TestCompression(t *testing.T) {
	s := newTestServer(t, Config{})
	c := s.dial("?EIO=4&transport=websocket", "Sec-WebSocket-Extensions", offer)
	parseOpen(t, string(c.read().Payload))
	message := []byte("4" + strings.Repeat("abc", 1000))
	for range 2 { // the second shows that no context is kept
		f := ws.NewTextFrame(deflate(message))
		f.Header.Rsv = ws.Rsv(true, false, false)
		c.frame(f)
		back := c.read()
		plain, err := inflate(back.Payload, len(message))
		if err != nil || !back.Header.Rsv1() || !bytes.Equal(plain, message) {
			t.Fatalf("compressed %v, %d bytes, %v", back.Header.Rsv1(), len(plain), err)
		}
	}
	c.text("4short") // a client need not compress, nor do we
	c.want(ws.OpText, "4short")
}

func TestInflatedMessageTooLong(t *testing.T) {
	s := newTestServer(t, Config{MaxPayload: 5000})
	c := s.dial("?EIO=4&transport=websocket", "Sec-WebSocket-Extensions", offer)
	parseOpen(t, string(c.read().Payload))
	f := ws.NewTextFrame(deflate([]byte("4" + strings.Repeat("x", 5000))))
	f.Header.Rsv = ws.Rsv(true, false, false)
	c.frame(f)
	c.wantClose(ws.StatusMessageTooBig)
	s.wantClosed(TransportError)
}

func TestCompressedGarbageCloses(t *testing.T) {
	s := newTestServer(t, Config{})
	c := s.dial("?EIO=4&transport=websocket", "Sec-WebSocket-Extensions", offer)
	parseOpen(t, string(c.read().Payload))
	f := ws.NewTextFrame([]byte{0xff, 0xff, 0xff})
	f.Header.Rsv = ws.Rsv(true, false, false)
	c.frame(f)
	c.wantClose(ws.StatusInvalidFramePayloadData)
}

// Offers that shared frames cannot satisfy are declined, and the connection is not
// compressed.
func TestCompressionOffers(t *testing.T) {
	tests := []struct {
		offer  string
		config Config
		agreed bool
	}{
		{"permessage-deflate", Config{}, true},
		{offer, Config{}, true},
		{"permessage-deflate; server_no_context_takeover; client_no_context_takeover", Config{}, true},
		{"permessage-deflate; server_max_window_bits=10", Config{}, false},
		{"permessage-deflate; unheard_of", Config{}, false},
		{"x-webkit-deflate-frame", Config{}, false},
		{offer, Config{CompressFrom: -1}, false},
	}
	for _, tt := range tests {
		s := newTestServer(t, tt.config)
		c := s.dial("?EIO=4&transport=websocket", "Sec-WebSocket-Extensions", tt.offer)
		parseOpen(t, string(c.read().Payload))
		if got := s.last().session.ws.compress; got != tt.agreed {
			t.Errorf("%q: agreed %v, want %v", tt.offer, got, tt.agreed)
		}
		message := "4" + strings.Repeat("x", 2000)
		c.text(message)
		if f := c.read(); f.Header.Rsv1() != tt.agreed {
			t.Errorf("%q: the answer is compressed: %v", tt.offer, f.Header.Rsv1())
		}
	}
}

func TestEndOverWebSocket(t *testing.T) {
	s := newTestServer(t, Config{})
	c := s.webSocket()
	c.text("4end")
	c.want(ws.OpText, "4bye")
	c.wantClose(ws.StatusNormalClosure)
	s.wantClosed(ForcedClose)
}

func TestPanicOverWebSocket(t *testing.T) {
	s := newTestServer(t, Config{})
	c := s.webSocket()
	c.text("4panic")
	c.wantClose(ws.StatusNormalClosure)
	s.wantClosed(ForcedClose)
}

// The client names subprotocols; a browser closes the WebSocket if none is accepted.
func TestSubprotocol(t *testing.T) {
	s := newTestServer(t, Config{})
	for offered, want := range map[string]string{"v1": "v1", "v1, v2": "v1", "": ""} {
		dialer := ws.Dialer{Timeout: testTimeout, Protocols: strings.FieldsFunc(offered, func(r rune) bool { return r == ',' || r == ' ' })}
		conn, br, handshake, err := dialer.Dial(t.Context(), "ws"+strings.TrimPrefix(s.url, "http")+"?EIO=4&transport=websocket")
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(t, conn, br)
		parseOpen(t, string(c.read().Payload))
		if handshake.Protocol != want {
			t.Errorf("offered %q, agreed to %q", offered, handshake.Protocol)
		}
	}
}

// A frame that a Conn has from the start is sent.
func TestFrameFromTheStart(t *testing.T) {
	s := newTestServer(t, Config{})
	s.open = func(session *Session) Conn {
		conn := s.openEcho(session).(*echo)
		conn.queue = []*Frame{NewFrame([]byte("hello"))}
		return conn
	}
	s.webSocket().want(ws.OpText, "4hello")
	s.want(s.do("GET", s.poll(), ""), 200, "4hello")
}
