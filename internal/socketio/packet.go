package socketio

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
)

// packetType is the first character of a packet.
type packetType byte

const (
	typeConnect      packetType = '0'
	typeDisconnect   packetType = '1'
	typeEvent        packetType = '2'
	typeAck          packetType = '3'
	typeConnectError packetType = '4'
	typeBinaryEvent  packetType = '5'
	typeBinaryAck    packetType = '6'
)

// maxAttachments is how many binary attachments one packet may have by the protocol.
const maxAttachments = 10

// The ways in which a packet can be invalid. Each closes the connection.
var (
	errType        = errors.New("socketio: a packet's type is not a digit from 0 to 6")
	errAttachments = errors.New("socketio: a packet's number of attachments is missing, or is more than this server accepts")
	errAckID       = errors.New("socketio: an acknowledgement's id is missing or too large")
	errPayload     = errors.New("socketio: a packet's payload is not valid for its type")
	errReserved    = errors.New("socketio: an event has a reserved name")
	errPlaceholder = errors.New("socketio: a placeholder names an attachment that does not exist")
	errPacketSize  = errors.New("socketio: a packet with its attachments is longer than the limit")
	errSequence    = errors.New("socketio: attachments are missing, or came without their packet")
)

// packet is one packet as received.
type packet struct {
	kind        packetType
	attachments int // the number of attachments that follow
	namespace   string
	ackID       uint64
	hasAckID    bool
	payload     json.RawMessage // of CONNECT and CONNECT_ERROR
	event       string          // the name, of events
	args        []json.RawMessage
}

// decode reads a packet's text:
//
//	<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]
//
// decode returns a packet of a binary type as its plain type, with the number of
// attachments that follow. That number is at most attachments.
func decode(b []byte, attachments int) (p packet, err error) {
	if len(b) == 0 || b[0] < byte(typeConnect) || b[0] > byte(typeBinaryAck) {
		return p, errType
	}
	p.kind, b = packetType(b[0]), b[1:]
	if p.kind == typeBinaryEvent || p.kind == typeBinaryAck {
		if p.attachments, b, err = cutAttachments(b, attachments); err != nil {
			return p, err
		}
	}
	p.namespace, b = cutNamespace(b)
	if p.ackID, p.hasAckID, b, err = cutAckID(b); err != nil {
		return p, err
	}
	switch p.kind {
	case typeConnect, typeConnectError:
		err = p.setObject(b)
	case typeDisconnect:
		if len(b) > 0 {
			err = errPayload
		}
	case typeEvent, typeBinaryEvent:
		p.kind = typeEvent
		err = p.setEvent(b)
	case typeAck, typeBinaryAck:
		p.kind = typeAck
		err = p.setArgs(b)
	}
	return p, err
}

func cutAttachments(b []byte, most int) (n int, rest []byte, err error) {
	digits, rest, found := bytes.Cut(b, []byte{'-'})
	if !found || len(digits) == 0 || len(digits) > 2 || countDigits(digits) != len(digits) {
		return 0, nil, errAttachments
	}
	n, _ = strconv.Atoi(string(digits))
	if n > most {
		return 0, nil, errAttachments
	}
	return n, rest, nil
}

// cutNamespace reads a namespace, which ends with a comma or with the packet.
func cutNamespace(b []byte) (namespace string, rest []byte) {
	if len(b) == 0 || b[0] != '/' {
		return "/", b
	}
	name, rest, _ := bytes.Cut(b, []byte{','})
	return string(name), rest
}

func cutAckID(b []byte) (id uint64, has bool, rest []byte, err error) {
	n := countDigits(b)
	if n == 0 {
		return 0, false, b, nil
	}
	if id, err = strconv.ParseUint(string(b[:n]), 10, 64); err != nil {
		return 0, false, nil, errAckID
	}
	return id, true, b[n:], nil
}

func countDigits(b []byte) int {
	if n := slices.IndexFunc(b, func(c byte) bool { return c < '0' || c > '9' }); n >= 0 {
		return n
	}
	return len(b)
}

// setObject sets the payload of CONNECT: an object, or nothing.
func (p *packet) setObject(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if b = bytes.TrimSpace(b); len(b) == 0 || b[0] != '{' || !json.Valid(b) {
		return errPayload
	}
	p.payload = b
	return nil
}

func (p *packet) setArgs(b []byte) error {
	if len(b) == 0 || b[0] != '[' || json.Unmarshal(b, &p.args) != nil {
		return errPayload
	}
	return nil
}

// setEvent sets an event's payload: an array that begins with the name, a string or
// a number. If it is a number, the name is its text as it was sent.
func (p *packet) setEvent(b []byte) error {
	if err := p.setArgs(b); err != nil {
		return err
	}
	if len(p.args) == 0 {
		return errPayload
	}
	name := p.args[0]
	switch {
	case name[0] == '"':
		if json.Unmarshal(name, &p.event) != nil {
			return errPayload
		}
	case name[0] == '-' || name[0] >= '0' && name[0] <= '9':
		p.event = string(name)
	default:
		return errPayload
	}
	p.args = p.args[1:]
	if isReserved(p.event) {
		return errReserved
	}
	return nil
}

// isReserved reports whether Socket.IO libraries use the name themselves.
func isReserved(event string) bool {
	switch event {
	case "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener":
		return true
	}
	return false
}

// checkPlaceholders checks that each placeholder in the arguments names one of
// n attachments.
func checkPlaceholders(args []json.RawMessage, n int) error {
	for _, arg := range args {
		var value any
		if json.Unmarshal(arg, &value) != nil {
			return errPayload
		}
		if !placeholdersValid(value, n) {
			return errPlaceholder
		}
	}
	return nil
}

func placeholdersValid(value any, n int) bool {
	switch v := value.(type) {
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !placeholdersValid(e, n) })
	case map[string]any:
		if v["_placeholder"] == true {
			num, ok := v["num"].(float64)
			return ok && num >= 0 && num < float64(n) && num == float64(int(num))
		}
		for _, e := range v {
			if !placeholdersValid(e, n) {
				return false
			}
		}
	}
	return true
}

// appendHead appends a packet's type, number of attachments and namespace.
func appendHead(b []byte, kind packetType, attachments int, namespace string) []byte {
	if attachments > 0 {
		switch kind {
		case typeEvent:
			kind = typeBinaryEvent
		case typeAck:
			kind = typeBinaryAck
		}
	}
	b = append(b, byte(kind))
	if attachments > 0 {
		b = strconv.AppendInt(b, int64(attachments), 10)
		b = append(b, '-')
	}
	if namespace != "/" {
		b = append(append(b, namespace...), ',')
	}
	return b
}

// appendEvent appends the payload of an event: its name, then its arguments.
func appendEvent(b []byte, event string, args []json.RawMessage) []byte {
	b = appendString(append(b, '['), event)
	for _, arg := range args {
		b = append(append(b, ','), arg...)
	}
	return append(b, ']')
}

// appendArgs appends the payload of an acknowledgement.
func appendArgs(b []byte, args []json.RawMessage) []byte {
	b = append(b, '[')
	for i, arg := range args {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, arg...)
	}
	return append(b, ']')
}

func appendString(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string
	}
	return append(b, quoted...)
}
