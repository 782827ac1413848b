package eventjson

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/buildcast/buildcast"
)

// MaxEvents is how many events one array may hold.
const MaxEvents = 1000

const example = `expected an event such as {"type": "task_started", "data": {"taskName": "compile"}}`

// Decode reads a text that is one event or an array of them, and validates them.
func Decode(text []byte) ([]buildcast.NewEvent, error) {
	d := newDecoder(text)
	defer d.free()
	if d.json.PeekKind() == '[' {
		return d.array()
	}
	e, err := d.single()
	return []buildcast.NewEvent{e}, err
}

// DecodeLine reads a line that is one event, and validates it.
func DecodeLine(line []byte) (buildcast.NewEvent, error) {
	d := newDecoder(line)
	defer d.free()
	d.line = true
	return d.single()
}

// Check returns an error unless the text is one JSON value in valid Unicode. For a
// text that encoding/json reads afterwards: it replaces what is not valid.
func Check(text []byte) error {
	d := newDecoder(text)
	defer d.free()
	if err := d.json.SkipValue(); err != nil {
		return d.syntax(err)
	}
	return d.end("there is more after the value")
}

// decoder reads one text.
type decoder struct {
	text   []byte
	line   bool // the text is a line of a stream
	json   *jsontext.Decoder
	buffer bytes.Buffer // around the text, which jsontext then does not copy
}

// In data a name may come twice: it is stored as it was sent.
var options = jsontext.AllowDuplicateNames(true)

var decoders = sync.Pool{New: func() any {
	d := &decoder{}
	d.json = jsontext.NewDecoder(&d.buffer, options)
	return d
}}

func newDecoder(text []byte) *decoder {
	d := decoders.Get().(*decoder)
	d.text, d.line, d.buffer = text, false, *bytes.NewBuffer(text)
	d.json.Reset(&d.buffer, options)
	return d
}

// free lets go of the text.
func (d *decoder) free() {
	d.text, d.buffer = nil, bytes.Buffer{}
	d.json.Reset(&d.buffer, options)
	decoders.Put(d)
}

// single reads one event and the end of the text.
func (d *decoder) single() (buildcast.NewEvent, error) {
	e, err := d.event()
	if err == nil {
		err = d.end("there is more after the event; send several events as an array or as application/x-ndjson")
	}
	if err == nil {
		err = validate(&e)
	}
	return e, err
}

// array reads an array of events and the end of the text.
func (d *decoder) array() ([]buildcast.NewEvent, error) {
	if _, err := d.json.ReadToken(); err != nil {
		return nil, d.syntax(err)
	}
	var events []buildcast.NewEvent
	for d.json.PeekKind() != ']' {
		if len(events) == MaxEvents {
			return nil, buildcast.Errorf(buildcast.TooLarge, "the array has more than %d events: send several arrays, or a stream as application/x-ndjson", MaxEvents)
		}
		e, err := d.event()
		if err == nil {
			err = validate(&e)
		}
		if err != nil {
			return nil, inArray(err, len(events))
		}
		events = append(events, e)
	}
	if _, err := d.json.ReadToken(); err != nil {
		return nil, d.syntax(err)
	}
	if len(events) == 0 {
		return nil, buildcast.Errorf(buildcast.InvalidArgument, "the array is empty: send at least one event")
	}
	return events, d.end("there is more after the array")
}

// end reads the end of the text.
func (d *decoder) end(otherwise string) error {
	at := int(d.json.InputOffset())
	if _, err := d.json.ReadToken(); errors.Is(err, io.EOF) {
		return nil
	}
	rest := d.text[at:]
	return d.malformed(at+len(rest)-len(bytes.TrimLeft(rest, " \n\t\r")), otherwise)
}

// The fields of an event.
const (
	fieldType = 1 << iota
	fieldData
	fieldKey
	fieldTimestamp
)

// event reads one object.
func (d *decoder) event() (e buildcast.NewEvent, err error) {
	switch kind := d.json.PeekKind(); kind {
	case '{':
	case 0: // ReadToken knows why
	default:
		at := int(d.json.InputOffset())
		return e, d.malformed(at, example)
	}
	if _, err := d.json.ReadToken(); err != nil {
		if errors.Is(err, io.EOF) {
			return e, d.malformed(len(d.text), example+"; the text ends here")
		}
		return e, d.syntax(err)
	}
	seen := 0
	for d.json.PeekKind() != '}' {
		if err := d.field(&e, &seen); err != nil {
			return e, err
		}
	}
	if _, err := d.json.ReadToken(); err != nil {
		return e, d.syntax(err)
	}
	return e, nil
}

// field reads a name and its value into the event.
func (d *decoder) field(e *buildcast.NewEvent, seen *int) error {
	token, err := d.json.ReadToken()
	if err != nil {
		return d.syntax(err)
	}
	name := token.String()
	bit := 0
	switch name {
	case "type":
		bit = fieldType
	case "data":
		bit = fieldData
	case "key":
		bit = fieldKey
	case "timestamp":
		bit = fieldTimestamp
	default:
		return buildcast.Errorf(buildcast.InvalidArgument, "%s is not a field of an event: use type, data, key and timestamp, and put the rest into data",
			strconv.QuoteToASCII(clip(name))).At(clip(name))
	}
	if *seen&bit != 0 {
		return buildcast.Errorf(buildcast.InvalidArgument, "%s is there twice: send it once", name).At(name)
	}
	*seen |= bit
	if bit == fieldData {
		e.Data, err = d.value()
		return err
	}
	if token, err = d.json.ReadToken(); err != nil {
		return d.syntax(err)
	}
	switch token.Kind() {
	case '"':
		return set(e, bit, token.String())
	case 'n': // null counts as absent
		return nil
	}
	return buildcast.Errorf(buildcast.InvalidArgument, "%s must be text in quotes", name).At(name)
}

// set sets a field that is text.
func set(e *buildcast.NewEvent, bit int, text string) error {
	switch bit {
	case fieldType:
		e.Type = text
	case fieldKey:
		e.Key = text
	case fieldTimestamp:
		if err := e.Timestamp.UnmarshalText([]byte(text)); err != nil {
			return buildcast.Errorf(buildcast.InvalidArgument, "timestamp: %v", err).At("timestamp")
		}
	}
	return nil
}

// value reads any value and returns its part of the text.
func (d *decoder) value() ([]byte, error) {
	v, err := d.json.ReadValue()
	if err != nil {
		return nil, d.syntax(err)
	}
	end := int(d.json.InputOffset())
	return d.text[end-len(v) : end : end], nil
}

// validate checks an event that somebody else than buildcast reports.
func validate(e *buildcast.NewEvent) error {
	if err := e.Validate(); err != nil {
		return err
	}
	return buildcast.ValidateUserKey(e.Key)
}
