package socketio

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/buildcast/buildcast/internal/engineio"
)

// Frame is an event encoded once, for any number of sockets.
type Frame = engineio.Frame

// NewFrame returns the frame of an event without attachments. args are JSON.
func NewFrame(namespace, event string, args ...json.RawMessage) *Frame {
	n := len(namespace) + len(event) + 16
	for _, arg := range args {
		n += len(arg) + 1
	}
	b := appendHead(make([]byte, 0, n), typeEvent, 0, namespace)
	return engineio.NewFrame(appendEvent(b, event, args))
}

// Payload holds the arguments of an event or of an acknowledgement. In Args, an
// object {"_placeholder":true,"num":i} is a reference to Attachments[i].
type Payload struct {
	Args        []json.RawMessage
	Attachments [][]byte
}

// Bind decodes the i-th argument into v. A missing argument leaves v as it is:
// clients leave out optional arguments.
func (p *Payload) Bind(i int, v any) error {
	if i >= len(p.Args) {
		return nil
	}
	return json.Unmarshal(p.Args[i], v)
}

// NewPayload encodes the arguments: a []byte as an attachment, a
// json.RawMessage as it is, anything else by encoding/json.
func NewPayload(args ...any) (Payload, error) {
	p := Payload{Args: make([]json.RawMessage, len(args))}
	for i, arg := range args {
		if data, ok := arg.([]byte); ok {
			p.Args[i] = append(strconv.AppendInt([]byte(`{"_placeholder":true,"num":`), int64(len(p.Attachments)), 10), '}')
			p.Attachments = append(p.Attachments, data)
			continue
		}
		b, err := json.Marshal(arg)
		if err != nil {
			return Payload{}, fmt.Errorf("argument %d: %w", i, err)
		}
		p.Args[i] = b
	}
	return p, nil
}

// event returns the frames of an event: the packet, then its attachments.
func (p *Payload) event(namespace, event string) []*Frame {
	b := appendHead(nil, typeEvent, len(p.Attachments), namespace)
	return p.frames(appendEvent(b, event, p.Args))
}

// ack returns the frames of an acknowledgement.
func (p *Payload) ack(namespace string, id uint64) []*Frame {
	b := appendHead(nil, typeAck, len(p.Attachments), namespace)
	return p.frames(appendArgs(strconv.AppendUint(b, id, 10), p.Args))
}

func (p *Payload) frames(packet []byte) []*Frame {
	frames := make([]*Frame, 1, 1+len(p.Attachments))
	frames[0] = engineio.NewFrame(packet)
	for _, data := range p.Attachments {
		frames = append(frames, engineio.NewBinaryFrame(data))
	}
	return frames
}
