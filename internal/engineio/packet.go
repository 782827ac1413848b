package engineio

import (
	"bytes"
	"encoding/base64"
	"errors"
	"iter"
	"unicode/utf8"
)

// packetType is the first character of a packet's text form.
type packetType byte

const (
	typeOpen    packetType = '0'
	typeClose   packetType = '1'
	typePing    packetType = '2'
	typePong    packetType = '3'
	typeMessage packetType = '4'
	typeUpgrade packetType = '5'
	typeNoop    packetType = '6'
)

const (
	separator    = 0x1e // between the packets of a polling payload
	binaryPrefix = 'b'  // a binary message in a polling payload: b, then base64
)

var (
	errEmptyPacket = errors.New("engineio: a packet is empty")
	errPacketType  = errors.New("engineio: a packet's type is not a digit from 0 to 6")
	errBase64      = errors.New("engineio: a binary packet is not valid base64")
	errUTF8        = errors.New("engineio: a text packet is not valid UTF-8")
)

// packet is one packet as received.
type packet struct {
	kind   packetType
	binary bool
	data   []byte
}

// decodeText reads a packet's text form: a text frame of a WebSocket, or a part of
// a polling payload that does not begin with b. The data is a part of b.
func decodeText(b []byte) (packet, error) {
	switch {
	case len(b) == 0:
		return packet{}, errEmptyPacket
	case b[0] < byte(typeOpen) || b[0] > byte(typeNoop):
		return packet{}, errPacketType
	case !utf8.Valid(b):
		return packet{}, errUTF8
	}
	return packet{kind: packetType(b[0]), data: b[1:]}, nil
}

// decodePart reads one part of a polling payload.
func decodePart(b []byte) (packet, error) {
	if len(b) == 0 || b[0] != binaryPrefix {
		return decodeText(b)
	}
	data, err := base64.StdEncoding.AppendDecode(nil, b[1:])
	if err != nil {
		return packet{}, errBase64
	}
	return packet{kind: typeMessage, binary: true, data: data}, nil
}

// payload returns the packets of a POST's body in order. It ends at the first error.
func payload(body []byte) iter.Seq2[packet, error] {
	return func(yield func(packet, error) bool) {
		for more := true; more; {
			var part []byte
			part, body, more = bytes.Cut(body, []byte{separator})
			p, err := decodePart(part)
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}
