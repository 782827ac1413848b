package engineio

import (
	"encoding/base64"
	"encoding/binary"
	"sync"

	"github.com/gobwas/ws"
)

// Frame is one packet in all the forms that the transports send. Each form is
// encoded at most once and shared by every session that sends it. A Frame is
// immutable and safe for concurrent use.
type Frame struct {
	opcode ws.OpCode
	plain  []byte // the WebSocket frame: its header, then the packet
	start  int    // where the packet begins in plain

	once    sync.Once
	deflate []byte // the compressed WebSocket frame; nil if it would not be shorter
}

// maxHeader is the longest header of an unmasked WebSocket frame.
const maxHeader = 10

// The packets without data, or with data that never changes.
var (
	closeFrame = newFrame(typeClose, nil)
	pingFrame  = newFrame(typePing, nil)
	probeFrame = newFrame(typePong, []byte(probe))
	noopFrame  = newFrame(typeNoop, nil)
)

// NewFrame returns the frame of a text message that consists of the parts. It
// copies them.
func NewFrame(parts ...[]byte) *Frame { return newFrame(typeMessage, parts...) }

// NewBinaryFrame returns the frame of a binary message. It copies data.
func NewBinaryFrame(data []byte) *Frame {
	b := make([]byte, maxHeader, maxHeader+len(data))
	return finishFrame(ws.OpBinary, append(b, data...))
}

func newFrame(kind packetType, parts ...[]byte) *Frame {
	n := maxHeader + 1
	for _, p := range parts {
		n += len(p)
	}
	b := append(make([]byte, maxHeader, n), byte(kind))
	for _, p := range parts {
		b = append(b, p...)
	}
	return finishFrame(ws.OpText, b)
}

// finishFrame writes the header into the room before the packet, so that the
// WebSocket frame and the packet share their bytes.
func finishFrame(op ws.OpCode, b []byte) *Frame {
	header := appendHeader(make([]byte, 0, maxHeader), op, false, len(b)-maxHeader)
	at := maxHeader - len(header)
	copy(b[at:], header)
	return &Frame{opcode: op, plain: b[at:], start: len(header)}
}

// appendHeader appends the header of a whole, unmasked WebSocket message of n bytes.
func appendHeader(b []byte, op ws.OpCode, compressed bool, n int) []byte {
	first := 0x80 | byte(op)
	if compressed {
		first |= 0x40
	}
	switch {
	case n < 126:
		return append(b, first, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, first, 126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, first, 127), uint64(n))
	}
}

// Size returns the length of the packet in bytes, uncompressed.
func (f *Frame) Size() int { return len(f.plain) - f.start }

// packet returns the packet as a WebSocket message carries it.
func (f *Frame) packet() []byte { return f.plain[f.start:] }

// webSocket returns the bytes to send over a WebSocket. They are compressed if the
// session has agreed to it and the packet is at least threshold bytes long.
func (f *Frame) webSocket(compress bool, threshold int) []byte {
	if !compress || f.Size() < threshold {
		return f.plain
	}
	f.once.Do(func() {
		data := deflate(f.packet())
		if len(data) < f.Size() {
			f.deflate = append(appendHeader(make([]byte, 0, maxHeader+len(data)), f.opcode, true, len(data)), data...)
		}
	})
	if f.deflate == nil {
		return f.plain
	}
	return f.deflate
}

// polling returns the packet as a part of a polling payload.
func (f *Frame) polling() []byte {
	if f.opcode != ws.OpBinary {
		return f.packet()
	}
	b := append(make([]byte, 0, f.pollingSize()), binaryPrefix)
	return base64.StdEncoding.AppendEncode(b, f.packet())
}

// pollingSize returns the length of the packet in a polling payload, in bytes.
func (f *Frame) pollingSize() int {
	if f.opcode != ws.OpBinary {
		return f.Size()
	}
	return 1 + base64.StdEncoding.EncodedLen(f.Size())
}
