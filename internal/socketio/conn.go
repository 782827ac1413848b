package socketio

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/buildcast/buildcast/internal/engineio"
)

// conn is one client: its Engine.IO session and its sockets.
type conn struct {
	server  *Server
	session *engineio.Session

	// awaiting is the packet whose attachments have not all arrived. Only Message uses it.
	awaiting *incoming

	mu           sync.Mutex
	closed       bool
	connectTimer *time.Timer // nil once the client has joined a namespace
	sockets      []*Socket   // one for each namespace joined
	queue        []*Frame
	queueBytes   int
	partBytes    int // of awaiting
	ready        streamQueue
}

// incoming is a packet and the attachments that have arrived for it.
type incoming struct {
	packet      packet
	attachments [][]byte
}

// Message handles one Engine.IO message: a packet, or an attachment of the last one.
func (c *conn) Message(data []byte, binary bool) {
	if err := c.message(data, binary); err != nil {
		c.session.Close(engineio.ParseError)
	}
}

func (c *conn) message(data []byte, binary bool) error {
	if binary != (c.awaiting != nil) {
		return errSequence
	}
	if binary {
		c.awaiting.attachments = append(c.awaiting.attachments, data)
	} else {
		p, err := decode(data, c.server.config.Attachments)
		if err != nil {
			return err
		}
		c.awaiting = &incoming{packet: p}
	}
	in := c.awaiting
	if len(in.attachments) < in.packet.attachments {
		return c.holdPart(len(data))
	}
	c.awaiting = nil
	defer c.releaseParts()
	if len(in.attachments) > 0 {
		if c.held()+len(data) > c.server.config.MaxPacket {
			return errPacketSize
		}
		if err := checkPlaceholders(in.packet.args, len(in.attachments)); err != nil {
			return err
		}
	}
	c.receive(in)
	return nil
}

// holdPart counts the bytes of one message of an incomplete packet.
func (c *conn) holdPart(n int) error {
	if c.held()+n > c.server.config.MaxPacket {
		return errPacketSize
	}
	if !c.session.Hold(n) {
		c.session.Close(engineio.Overloaded)
		return nil
	}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.partBytes += n
	}
	c.mu.Unlock()
	if closed {
		c.session.Release(n)
	}
	return nil
}

func (c *conn) held() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.partBytes
}

func (c *conn) releaseParts() {
	c.mu.Lock()
	n := c.partBytes
	c.partBytes = 0
	c.mu.Unlock()
	c.session.Release(n)
}

// receive handles a complete packet.
func (c *conn) receive(in *incoming) {
	p := &in.packet
	socket := c.socket(p.namespace)
	switch {
	case p.kind == typeConnect && socket == nil:
		c.connect(p.namespace, p.payload)
	case p.kind == typeConnect, p.kind == typeConnectError, socket == nil:
		c.session.Close(engineio.ForcedClose)
	case p.kind == typeDisconnect:
		socket.leave(ClientDisconnect)
	case p.kind == typeEvent:
		socket.handle(in)
	case p.kind == typeAck: // ignored: this server asks for no acknowledgements
	}
}

// socket returns the client's socket in the namespace, or nil if it has not joined.
func (c *conn) socket(namespace string) *Socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.sockets, func(s *Socket) bool { return s.name == namespace })
	if i < 0 {
		return nil
	}
	return c.sockets[i]
}

func (c *conn) connect(name string, auth json.RawMessage) {
	namespace, ok := c.server.namespaces[name]
	if !ok {
		c.refuse(name, &Refusal{Message: "Invalid namespace"})
		return
	}
	if auth == nil {
		auth = json.RawMessage("{}")
	}
	s := newSocket(c, name)
	if namespace.Authorize != nil {
		if refusal := namespace.Authorize(s, auth); refusal != nil {
			c.refuse(name, refusal)
			return
		}
	}
	if !c.join(s) {
		return
	}
	c.session.Settle()
	answer := append(appendString([]byte(`{"sid":`), s.id), '}')
	if c.push(engineio.NewFrame(appendHead(nil, typeConnect, 0, name), answer)) != nil {
		return
	}
	defer s.connected() // after a panic too: Disconnect undoes what Connect did
	if namespace.Connect != nil {
		namespace.Connect(s, auth)
	}
}

func (c *conn) refuse(name string, refusal *Refusal) {
	data, err := json.Marshal(refusal)
	if err != nil { // its Data is not JSON
		data = []byte(`{"message":"refused"}`)
	}
	_ = c.push(engineio.NewFrame(appendHead(nil, typeConnectError, 0, name), data)) // if it fails, the client is closed
}

// join adds the socket, unless the client is closed.
func (c *conn) join(s *Socket) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	if c.connectTimer != nil {
		c.connectTimer.Stop()
		c.connectTimer = nil
	}
	c.sockets = append(c.sockets, s)
	return true
}

// remove removes the socket from the client. It returns false if the client does not
// have it.
func (c *conn) remove(s *Socket) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.sockets, s)
	if i < 0 {
		return false
	}
	c.sockets = slices.Delete(c.sockets, i, i+1)
	return true
}

// connectTimedOut closes a client that has not joined a namespace in time.
func (c *conn) connectTimedOut() {
	if c.late() {
		c.session.Close(engineio.ForcedClose)
	}
}

// late reports whether the client has still not joined: the timer may have fired
// just before join stopped it.
func (c *conn) late() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connectTimer != nil
}

// push queues the frames, with no others between them, and sends what the client can
// take now.
func (c *conn) push(frames ...*Frame) error {
	bytes := 0
	for _, f := range frames {
		bytes += f.Size()
	}
	c.mu.Lock()
	switch {
	case c.closed:
		c.mu.Unlock()
		return ErrClosed
	case len(c.queue)+len(frames) > c.server.config.QueuePackets, c.queueBytes+bytes > c.server.config.QueueBytes:
		c.mu.Unlock()
		c.session.Close(QueueOverflow)
		return ErrClosed
	}
	if !c.session.Hold(bytes) {
		c.mu.Unlock()
		c.session.Close(engineio.Overloaded)
		return ErrClosed
	}
	c.queue = append(c.queue, frames...)
	c.queueBytes += bytes
	c.mu.Unlock()
	c.session.Wake()
	return nil
}

// Next returns the frames of the queue first, then those of the streams in turn.
func (c *conn) Next() *Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) > 0 {
		f := c.queue[0]
		c.queueBytes -= f.Size()
		c.session.Release(f.Size())
		if c.queue = c.queue[1:]; len(c.queue) == 0 {
			c.queue = nil // frees the memory of an idle client
		}
		return f
	}
	for st := c.ready.pop(); st != nil; st = c.ready.pop() {
		c.mu.Unlock()
		f := st.source.Next()
		c.mu.Lock()
		if f != nil {
			c.ready.push(st) // it may have another frame
			return f
		}
	}
	return nil
}

// Closed ends all sockets of the client.
func (c *conn) Closed(reason Reason) {
	c.mu.Lock()
	c.closed = true
	sockets, holds := c.sockets, c.queueBytes+c.partBytes
	c.sockets, c.queue, c.ready, c.queueBytes, c.partBytes = nil, nil, streamQueue{}, 0, 0
	if c.connectTimer != nil {
		c.connectTimer.Stop()
	}
	c.mu.Unlock()
	c.session.Release(holds)
	for _, s := range sockets {
		s.ended(reason)
	}
}
