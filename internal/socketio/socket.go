package socketio

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"sync/atomic"

	"github.com/buildcast/buildcast/internal/engineio"
)

// ErrClosed means that the socket is closed, or was closed by this call because its
// client does not read its packets.
var ErrClosed = errors.New("socketio: the socket is closed")

// Socket is a client in one namespace. Its methods may be called from any goroutine.
type Socket struct {
	// Data belongs to the application.
	Data any

	conn  *conn
	name  string // the namespace
	id    string
	state atomic.Int32
	why   Reason // set before state becomes gone
}

// The states of a socket. Its Disconnect is called after its Connect, never during it.
const (
	joining int32 = iota // Connect has not returned
	joined
	gone
)

func newSocket(c *conn, namespace string) *Socket {
	var b [15]byte
	_, _ = rand.Read(b[:]) // never fails
	return &Socket{conn: c, name: namespace, id: base64.RawURLEncoding.EncodeToString(b[:])}
}

// ID returns the socket's id. It is not the session's, and not a secret.
func (s *Socket) ID() string { return s.id }

// Namespace returns the name of the socket's namespace.
func (s *Socket) Namespace() string { return s.name }

// Handshake returns the kept part of the first HTTP request of the client's session.
func (s *Socket) Handshake() *engineio.Handshake { return s.conn.session.Handshake() }

// Transport returns the name of the transport in use: polling or websocket.
func (s *Socket) Transport() string { return s.conn.session.Transport() }

// Context returns a context that ends when the client's connection is closed.
func (s *Socket) Context() context.Context { return s.conn.session.Context() }

// Emit queues an event for the client; see NewPayload for the arguments. It
// does not wait. The error is ErrClosed, or that of encoding an argument.
func (s *Socket) Emit(event string, args ...any) error {
	p, err := NewPayload(args...)
	if err != nil {
		return err
	}
	return s.EmitPayload(event, p)
}

// EmitPayload queues an event whose payload is encoded already.
func (s *Socket) EmitPayload(event string, p Payload) error {
	if s.state.Load() == gone {
		return ErrClosed
	}
	return s.conn.push(p.event(s.name, event)...)
}

// Disconnect removes the client from the namespace. The stock client then stays
// disconnected until its user connects again.
func (s *Socket) Disconnect() {
	if s.conn.remove(s) {
		_ = s.conn.push(engineio.NewFrame(appendHead(nil, typeDisconnect, 0, s.name))) // an error: the client is closed already
		s.ended(ServerDisconnect)
	}
}

// Close closes the client's connection, with all its sockets, when everything
// queued has been sent. The stock client connects again.
func (s *Socket) Close() { s.conn.session.End() }

// leave is called when the client has left the namespace.
func (s *Socket) leave(reason Reason) {
	if s.conn.remove(s) {
		s.ended(reason)
	}
}

// connected is called when Connect has returned.
func (s *Socket) connected() {
	if !s.state.CompareAndSwap(joining, joined) {
		s.disconnect()
	}
}

// ended is called once, when the socket is closed.
func (s *Socket) ended(reason Reason) {
	s.why = reason
	if s.state.Swap(gone) == joined {
		s.disconnect()
	}
}

func (s *Socket) disconnect() {
	if f := s.conn.server.namespaces[s.name].Disconnect; f != nil {
		f(s, s.why)
	}
}

// handle runs the event's handler.
func (s *Socket) handle(in *incoming) {
	handler := s.conn.server.namespaces[s.name].Events[in.packet.event]
	if handler == nil {
		return
	}
	handler(s, &Event{
		Name:    in.packet.event,
		Payload: Payload{Args: in.packet.args, Attachments: in.attachments},
		socket:  s,
		ackID:   in.packet.ackID,
		wants:   in.packet.hasAckID,
	})
}

// Event is an event that a client sent.
type Event struct {
	Name string
	Payload

	socket *Socket
	ackID  uint64
	wants  bool
	acked  atomic.Bool
}

// WantsAck reports whether the client waits for an acknowledgement.
func (e *Event) WantsAck() bool { return e.wants }

// Ack answers the event; see NewPayload for the arguments. It does nothing if the
// client did not ask for an answer, or has been answered.
func (e *Event) Ack(args ...any) error {
	p, err := NewPayload(args...)
	if err != nil {
		return err
	}
	return e.AckPayload(p)
}

// AckPayload answers with a payload that is encoded already.
func (e *Event) AckPayload(p Payload) error {
	if !e.wants || e.acked.Swap(true) {
		return nil
	}
	return e.socket.conn.push(p.ack(e.socket.name, e.ackID)...)
}
