package engineio

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/buildcast/buildcast/internal/limit"
)

// Conn is the application's end of a session: it receives the client's messages and
// returns the frames for the client. This package holds no lock when it calls these
// methods, so they may call the session's methods.
type Conn interface {
	// Message handles one message; the Conn may keep data. Calls for one session do
	// not overlap. Nothing is read from the client during a call.
	Message(data []byte, binary bool)
	// Next returns the next frame, or nil if there is none now; when there may be
	// one, the Conn calls Wake. Next must not block: it runs on the goroutine that
	// calls Wake. Calls for one session do not overlap, but may run at the same time
	// as Message.
	Next() *Frame
	// Closed is called once, when the session is closed. Message or Next may still
	// be running.
	Closed(reason Reason)
}

// Reason is why a session was closed.
type Reason string

// The reasons have the names that the protocol's own server uses, if it has one.
const (
	TransportClose Reason = "transport close" // the client closed it, or went away
	TransportError Reason = "transport error" // the client broke the transport's rules, or the network failed
	PingTimeout    Reason = "ping timeout"    // the client did not answer a ping in time
	ParseError     Reason = "parse error"     // the client sent an invalid packet
	ForcedClose    Reason = "forced close"    // the application closed it
	ServerShutdown Reason = "server shutting down"
	Overloaded     Reason = "server overloaded" // there were too many sessions, or they held too many bytes
)

// pollBytes is the size at which no more frames are added to an answer to a GET. It
// determines how much memory slow clients hold (socketapi.TestSlowReadersCostNothing).
const pollBytes = 32 << 10

// turn is how many frames a caller of Wake sends to one session before a goroutine
// takes over, so that a client that catches up at full speed does not delay the
// caller.
const turn = 16

// Session is one client's session. Its methods may be called from any goroutine.
type Session struct {
	server    *Server
	id        string
	conn      Conn
	handshake Handshake
	beat      beat
	holds     atomic.Int64 // bytes; see Hold

	receiving sync.Mutex // held while Conn.Message runs

	mu      sync.Mutex
	closed  bool
	ending  bool          // to be closed once all frames are sent
	pumping bool          // a goroutine is in pump
	again   bool          // Wake was called meanwhile: ask the Conn once more
	pingDue bool          // a ping is to be sent
	posting bool          // a POST is being read
	poll    *poll         // the pending GET
	polled  chan struct{} // closed by the next GET; nil unless a close waits for it
	ws      *webSocket    // the transport, once it is not polling
	probe   *webSocket    // a WebSocket that may become the transport
	held    *Frame        // taken from the Conn when the transport was lost
	report  Reason        // to be reported to the Conn when mu is unlocked
	member  *limit.Member // nil until the session has entered the crowd

	ctx    context.Context // made when first asked for
	cancel context.CancelFunc
}

// ID returns the session's id. Whoever knows it can act as the client.
func (s *Session) ID() string { return s.id }

// Handshake returns the kept part of the session's first request.
func (s *Session) Handshake() *Handshake { return &s.handshake }

// Context returns a context that ends when the session is closed.
func (s *Session) Context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		s.ctx, s.cancel = context.WithCancel(context.Background())
		if s.closed {
			s.cancel()
		}
	}
	return s.ctx
}

// Transport returns the name of the transport in use: polling or websocket.
func (s *Session) Transport() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ws != nil {
		return "websocket"
	}
	return "polling"
}

// Settle ends the session's pending state; see Config.MaxPending.
func (s *Session) Settle() {
	s.mu.Lock()
	member := s.member
	s.mu.Unlock()
	member.Activate()
}

// Wake is called when the Conn may have a frame. It sends what the client can
// take now and never waits for the client.
func (s *Session) Wake() { s.pump() }

// Close closes the session at once. Unsent frames are lost.
func (s *Session) Close(reason Reason) {
	s.mu.Lock()
	defer s.unlock()
	s.close(reason, closeFrame)
}

// End closes the session once the Conn has no more frames and the transport has
// taken them. A client that does not take them is closed by the heartbeat.
func (s *Session) End() {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	s.pump()
}

// unlock unlocks mu, then reports a close: the Conn may call the session.
func (s *Session) unlock() {
	reason := s.report
	s.report = ""
	s.mu.Unlock()
	if reason != "" {
		s.conn.Closed(reason)
	}
}

// close closes the session and its transports; last is the answer to a pending
// GET. mu is held.
func (s *Session) close(reason Reason, last *Frame) {
	if s.closed {
		return
	}
	s.closed, s.report, s.held = true, reason, nil
	s.server.forget(s)
	if s.cancel != nil {
		s.cancel()
	}
	if s.poll != nil {
		s.poll.frames = append(s.poll.frames, last)
		s.answer(http.StatusOK)
	}
	code := ws.StatusNormalClosure
	switch reason {
	case ServerShutdown:
		code = ws.StatusGoingAway
	case Overloaded:
		code = statusTryAgainLater
	}
	if s.ws != nil {
		s.ws.shutNow(code)
	}
	s.dropProbe()
}

// ping sends a ping as soon as the transport accepts one.
func (s *Session) ping() {
	s.mu.Lock()
	s.pingDue = true
	s.mu.Unlock()
	s.pump()
}

// writable reports whether the transport can take a frame now. mu is held.
func (s *Session) writable() bool {
	switch {
	case s.closed:
		return false
	case s.ws != nil:
		return !s.ws.busy && !s.ws.shutting
	default:
		return s.poll != nil
	}
}

// pump moves frames from the Conn to the transport until the Conn has no more or
// the transport accepts no more. Only one goroutine pumps at a time; if another
// calls pump meanwhile, the first asks the Conn once more.
func (s *Session) pump() {
	s.mu.Lock()
	defer s.unlock()
	if s.pumping {
		s.again = true
		return
	}
	s.pumping = true
	for sent := 0; s.writable(); sent++ {
		if sent == turn && s.ws != nil {
			s.ws.spawn(s.pump)
			break
		}
		f := s.take()
		if f == nil {
			s.sentAll()
			break
		}
		if !s.writable() {
			s.held = f
			break
		}
		s.send(f)
	}
	s.pumping = false
}

// take returns the next frame. It unlocks mu while it calls the Conn.
func (s *Session) take() *Frame {
	for {
		if s.pingDue {
			s.pingDue = false
			return pingFrame
		}
		if f := s.held; f != nil {
			s.held = nil
			return f
		}
		s.again = false
		s.mu.Unlock()
		f := s.conn.Next()
		s.mu.Lock()
		if f != nil || !s.again {
			return f
		}
	}
}

// send passes the frame to the transport, which is writable. mu is held.
func (s *Session) send(f *Frame) {
	if s.ws != nil {
		s.ws.send(f)
		return
	}
	s.poll.frames = append(s.poll.frames, f)
	s.poll.bytes += f.Size()
	if s.poll.bytes >= pollBytes {
		s.answer(http.StatusOK)
	}
}

// sentAll is called when the Conn has no more frames. mu is held.
func (s *Session) sentAll() {
	switch {
	case s.closed:
	case s.ending:
		s.close(ForcedClose, closeFrame)
	case s.poll != nil && len(s.poll.frames) > 0:
		s.answer(http.StatusOK)
	}
}

// receive handles a packet from the session's transport.
func (s *Session) receive(p packet) {
	switch p.kind {
	case typeMessage:
		s.deliver(p)
	case typePong:
		s.mu.Lock()
		if !s.closed {
			s.server.heartbeat.renew(s)
		}
		s.mu.Unlock()
	case typeClose:
		s.mu.Lock()
		s.close(TransportClose, noopFrame)
		s.unlock()
	case typePing: // in this version of the protocol only servers ping
		s.Close(TransportError)
	case typeOpen, typeUpgrade, typeNoop: // have no meaning from a client here
	}
}

// deliver passes a message to the Conn. A panic there closes only this session: a
// client must not be able to bring the server down.
func (s *Session) deliver(p packet) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	defer func() {
		if v := recover(); v != nil {
			s.server.config.Logger.Error("a message's handler panicked", "panic", v)
			s.Close(ForcedClose)
		}
	}()
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if !closed {
		s.conn.Message(p.data, p.binary)
	}
}

// probe is the data of the first ping and pong of an upgrade.
const probe = "probe"

// noopWait is how long a GET stays pending while a WebSocket is being probed: the
// client continues only when its last GET is answered.
const noopWait = 100 * time.Millisecond

// startProbe accepts a WebSocket that a polling client opened for its session. It
// returns false if the session has one already.
func (s *Session) startProbe(t *webSocket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ws != nil || s.probe != nil {
		return false
	}
	s.probe = t
	s.server.tasks.Add(1) // its reader: counted before a drain can close the session
	t.deadline = time.AfterFunc(s.server.config.UpgradeTimeout, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.probe == t {
			s.dropProbe()
		}
	})
	return true
}

// dropProbe ends an upgrade; the session stays on polling. mu is held.
func (s *Session) dropProbe() {
	if s.probe != nil {
		s.probe.deadline.Stop()
		s.probe.shutNow(ws.StatusNormalClosure)
		s.probe = nil
	}
}

// receiveProbe handles a packet from a WebSocket that is not the transport yet.
func (s *Session) receiveProbe(t *webSocket, p packet) {
	s.mu.Lock()
	switch {
	case p.kind == typePing && string(p.data) == probe && !t.probed && !t.busy:
		t.probed = true
		if s.poll != nil && len(s.poll.frames) == 0 {
			s.poll.frames = append(s.poll.frames, noopFrame)
			s.answer(http.StatusOK)
		}
		t.send(probeFrame)
		s.unlock()
	case p.kind == typeUpgrade && t.probed:
		s.upgrade(t)
		s.unlock()
		s.pump()
	default:
		s.dropProbe()
		s.unlock()
	}
}

// upgrade makes the WebSocket the session's transport. mu is held.
func (s *Session) upgrade(t *webSocket) {
	t.deadline.Stop()
	s.probe, s.ws = nil, t
	switch {
	case s.poll == nil:
	case len(s.poll.frames) > 0: // these frames belong to the answer already
		s.answer(http.StatusOK)
	default:
		s.answer(http.StatusBadRequest)
	}
}
