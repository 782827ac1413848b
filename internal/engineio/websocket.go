package engineio

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

const (
	// closeGrace is how long a closed WebSocket waits for the client to close its
	// side. Closing a socket with unread bytes resets the connection, and the client
	// would lose the last frames.
	closeGrace = 3 * time.Second
	// readStep is how much memory is allocated before the first bytes of a message
	// arrive, whatever length its frame declares. After that, each step allocates as
	// much as has arrived.
	readStep = 1 << 10
	// readBuffer is enough for a heartbeat or a small message in one read. Longer
	// payloads bypass it. It is most of the memory of an idle connection.
	readBuffer = 64
)

// webSocket is a session's WebSocket: its transport, or one that is being probed.
type webSocket struct {
	session  *Session
	conn     net.Conn
	raw      syscall.RawConn // nil if the connection is not a plain socket, such as TLS
	reader   *bufio.Reader
	compress bool // permessage-deflate was agreed to
	holds    int  // bytes of the message that is read; used by the reader only

	// Session.mu guards the rest.
	busy     bool        // a goroutine is writing what the socket did not take at once
	shutting bool        // closed from our side
	probed   bool        // the client's probe was answered
	deadline *time.Timer // of the upgrade
}

// statusTryAgainLater closes a WebSocket for which the server has no room.
const statusTryAgainLater ws.StatusCode = 1013

// acceptWebSocket upgrades the request. If it fails, it has answered the client. It
// accepts the first subprotocol that a client names: the name changes nothing here,
// but a browser closes a WebSocket if none of its subprotocols is accepted.
func acceptWebSocket(w http.ResponseWriter, r *http.Request, config *Config) (*webSocket, error) {
	t := &webSocket{}
	upgrader := ws.HTTPUpgrader{Timeout: config.UpgradeTimeout, Protocol: func(string) bool { return true }}
	if config.CompressFrom >= 0 {
		upgrader.Negotiate = negotiateDeflate(&t.compress)
	}
	conn, buffers, _, err := upgrader.Upgrade(r, w)
	if err != nil {
		if conn != nil {
			_ = conn.Close()
		}
		return nil, err
	}
	if buffers.Reader.Buffered() > 0 {
		_ = conn.Close()
		return nil, errors.New("engineio: the client sent frames before the handshake was answered")
	}
	// net/http's buffers, 8 kB, are no longer used: they become garbage.
	t.conn, t.raw = conn, rawConn(conn)
	t.reader = bufio.NewReaderSize(conn, readBuffer)
	return t, nil
}

// refuse closes a WebSocket that does not belong to a session.
func (t *webSocket) refuse() {
	_ = t.conn.SetDeadline(time.Now().Add(closeGrace))
	_, _ = t.conn.Write(ws.CompiledCloseNormalClosure)
	t.linger()
}

// linger closes the connection in two steps, so that the client can still read the
// close frame: the write side now, and the rest when the client has closed its side
// or closeGrace is over.
func (t *webSocket) linger() {
	if c, ok := t.conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, t.conn)
	_ = t.conn.Close()
}

// spawn runs f on a goroutine for which the server waits. mu is held and the
// WebSocket is not shut: its reader is counted, so the count is not zero.
func (t *webSocket) spawn(f func()) { t.session.server.tasks.Go(f) }

// start runs the reader. The caller has added it to Server.tasks.
func (t *webSocket) start() {
	go func() {
		defer t.session.server.tasks.Done()
		t.read()
	}()
}

// send writes the frame. mu is held, and the WebSocket is neither busy nor shut.
func (t *webSocket) send(f *Frame) {
	t.write(f.webSocket(t.compress, t.session.server.config.CompressFrom))
}

// write writes as much of b as the socket takes at once; a goroutine writes the rest.
func (t *webSocket) write(b []byte) {
	n, err := tryWrite(t.raw, b)
	switch {
	case err != nil:
		t.session.lost(t)
	case n < len(b):
		t.busy = true
		t.spawn(func() { t.finish(b[n:]) })
	}
}

// finish writes the bytes that the socket did not take at once, then continues the
// pump.
func (t *webSocket) finish(rest []byte) {
	s := t.session
	_ = t.conn.SetWriteDeadline(time.Now().Add(s.server.config.PingInterval + s.server.config.PingTimeout))
	_, err := t.conn.Write(rest)
	_ = t.conn.SetWriteDeadline(time.Time{})
	s.mu.Lock()
	t.busy = false
	if err != nil {
		s.lost(t)
	}
	s.unlock()
	s.pump()
}

// lost is called when a transport has failed. mu is held.
func (s *Session) lost(t *webSocket) {
	switch t {
	case s.ws:
		s.close(TransportError, closeFrame)
	case s.probe:
		s.dropProbe()
	}
}

// shut begins to close the WebSocket; its reader ends it. If writing the close
// frame may block, shut returns the frame for the caller to write. mu is held.
func (t *webSocket) shut(code ws.StatusCode) (unsent []byte) {
	if t.shutting {
		return nil
	}
	t.shutting = true
	_ = t.conn.SetDeadline(time.Now().Add(closeGrace))
	if t.busy && t.raw != nil { // a frame is half written: nothing can follow it
		_ = t.conn.Close()
		return nil
	}
	frame := ws.MustCompileFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(code, "")))
	if t.raw == nil { // net.Conn.Write writes whole frames, one after the other
		return frame
	}
	if n, err := tryWrite(t.raw, frame); err != nil || n < len(frame) {
		_ = t.conn.Close()
	}
	return nil
}

// shutNow is shut for callers that must not block. mu is held.
func (t *webSocket) shutNow(code ws.StatusCode) {
	if frame := t.shut(code); frame != nil {
		t.spawn(func() { _, _ = t.conn.Write(frame) })
	}
}

// pong answers a WebSocket ping. It sends nothing if the socket is full: then the
// client does not read, and cannot see the answer.
func (t *webSocket) pong(data []byte) {
	s := t.session
	s.mu.Lock()
	defer s.unlock()
	if !t.busy && !t.shutting {
		b := appendHeader(make([]byte, 0, maxHeader+len(data)), ws.OpPong, false, len(data))
		t.write(append(b, data...))
	}
}

// read handles the client's messages until the connection ends. A new goroutine
// waits for each next message: its stack is the smallest, while this goroutine's
// stack may have grown in the Conn's code.
func (t *webSocket) read() {
	if _, err := t.reader.Peek(1); err != nil { // nearly all connections wait here, with a shallow stack
		t.ended(err)
		return
	}
	for t.reader.Buffered() > 0 {
		data, binary, err := t.message()
		if err == nil {
			err = t.receive(data, binary)
		}
		t.session.Release(t.holds)
		t.holds = 0
		if err != nil {
			t.ended(err)
			return
		}
	}
	t.spawn(t.read)
}

// receive reads and handles one WebSocket message, which is one packet.
func (t *webSocket) receive(data []byte, binary bool) error {
	p := packet{kind: typeMessage, binary: true, data: data}
	if !binary {
		var err error
		if p, err = decodeText(data); err != nil {
			return err
		}
	}
	s := t.session
	s.mu.Lock()
	shutting, probing := t.shutting, s.ws != t
	s.mu.Unlock()
	switch {
	case shutting: // only the client's close frame is still of interest
	case probing:
		s.receiveProbe(t, p)
	default:
		s.receive(p)
	}
	return nil
}

// ended closes the connection. If the client broke a rule, the status code names it.
func (t *webSocket) ended(err error) {
	reason, code := TransportError, ws.StatusNormalClosure
	var broken *violation
	switch {
	case errors.Is(err, errOverloaded):
		reason, code = Overloaded, statusTryAgainLater
	case errors.As(err, &broken):
		code = broken.code
	case isPacketError(err):
		reason, code = ParseError, ws.StatusPolicyViolation
	case errors.Is(err, errClientClosed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		reason = TransportClose
	}
	s := t.session
	s.mu.Lock()
	unsent := t.shut(code)
	switch t {
	case s.ws:
		s.close(reason, closeFrame)
	case s.probe:
		s.dropProbe()
	}
	s.unlock()
	if unsent != nil {
		_, _ = t.conn.Write(unsent)
	}
	if code == ws.StatusNormalClosure {
		_ = t.conn.Close()
	} else {
		t.linger() // the client may have sent more
	}
}

func isPacketError(err error) bool {
	return errors.Is(err, errEmptyPacket) || errors.Is(err, errPacketType)
}

// violation is a breach of the WebSocket protocol, with its status code.
type violation struct {
	code ws.StatusCode
	err  error
}

func (v *violation) Error() string { return v.err.Error() }
func (v *violation) Unwrap() error { return v.err }

var (
	errClientClosed = errors.New("engineio: the client closed the WebSocket")
	errMessageSize  = errors.New("engineio: a message is longer than the limit")
	errOverloaded   = errors.New("engineio: all sessions together receive more than the limit")
)

// message reads the next message, answering control frames on the way.
func (t *webSocket) message() (data []byte, binary bool, err error) {
	limit := int64(t.session.server.config.MaxPayload)
	state := ws.StateServerSide
	compressed := false
	for {
		h, err := t.header(state)
		if err != nil {
			return nil, false, err
		}
		if h.OpCode.IsControl() {
			if err := t.control(h); err != nil {
				return nil, false, err
			}
			continue
		}
		if h.OpCode != ws.OpContinuation {
			binary, compressed = h.OpCode == ws.OpBinary, h.Rsv1()
		}
		if h.Length > limit-int64(len(data)) {
			return nil, false, &violation{ws.StatusMessageTooBig, errMessageSize}
		}
		if data, err = t.payload(data, h, t.hold); err != nil {
			return nil, false, err
		}
		if h.Fin {
			data, err = t.open(data, binary, compressed)
			return data, binary, err
		}
		state = state.Set(ws.StateFragmented)
	}
}

// header reads a frame's header and checks it.
func (t *webSocket) header(state ws.State) (ws.Header, error) {
	h, err := ws.ReadHeader(t.reader)
	if errors.Is(err, ws.ErrHeaderLengthMSB) || errors.Is(err, ws.ErrHeaderLengthUnexpected) {
		return h, &violation{ws.StatusProtocolError, err}
	}
	if err != nil {
		return h, err
	}
	checked := h
	if t.compress && h.OpCode.IsData() && h.OpCode != ws.OpContinuation {
		_, r2, r3 := ws.RsvBits(h.Rsv)
		checked.Rsv = ws.Rsv(false, r2, r3)
	}
	if err := ws.CheckHeader(checked, state); err != nil {
		return h, &violation{ws.StatusProtocolError, err}
	}
	return h, nil
}

// hold counts n bytes of the current message.
func (t *webSocket) hold(n int) error {
	if !t.session.Hold(n) {
		return errOverloaded
	}
	t.holds += n
	return nil
}

// payload appends the frame's payload to data. It allocates memory as bytes arrive,
// not by the length in the header.
func (t *webSocket) payload(data []byte, h ws.Header, hold func(n int) error) ([]byte, error) {
	start := len(data)
	for left := int(h.Length); left > 0; {
		step := min(left, max(readStep, len(data)))
		if err := hold(step); err != nil {
			return nil, err
		}
		at := len(data)
		data = slices.Grow(data, step)[:at+step]
		if _, err := io.ReadFull(t.reader, data[at:]); err != nil {
			return nil, err
		}
		left -= step
	}
	ws.Cipher(data[start:], h.Mask, 0)
	return data, nil
}

// open inflates a whole message and checks that its text is valid UTF-8.
func (t *webSocket) open(data []byte, binary, compressed bool) ([]byte, error) {
	if compressed {
		limit := t.session.server.config.MaxPayload
		if err := t.hold(limit); err != nil {
			return nil, err
		}
		plain, err := inflate(data, limit)
		switch {
		case errors.Is(err, errInflatedTooLarge):
			return nil, &violation{ws.StatusMessageTooBig, err}
		case err != nil:
			return nil, &violation{ws.StatusInvalidFramePayloadData, err}
		}
		data = plain
	}
	if !binary && !utf8.Valid(data) {
		return nil, &violation{ws.StatusInvalidFramePayloadData, errUTF8}
	}
	return data, nil
}

// control handles a ping, pong or close frame.
func (t *webSocket) control(h ws.Header) error {
	data, err := t.payload(nil, h, func(int) error { return nil }) // 125 bytes at most
	if err != nil {
		return err
	}
	switch h.OpCode {
	case ws.OpPing:
		t.pong(data)
	case ws.OpClose:
		return errClientClosed
	}
	return nil
}
