package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/buildcast/buildcast"
)

// maxEvents is how many events one JSON array may hold.
const maxEvents = 1000

// malformed is JSON that cannot be read, and where.
type malformed struct {
	offset int
	what   string
}

func (m *malformed) Error() string { return m.what }

// at says where in the body it is, in lines and columns from 1.
func (m *malformed) at(body []byte) *buildcast.Error {
	before := body[:min(m.offset, len(body))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - (bytes.LastIndexByte(before, '\n') + 1) + 1
	return buildcast.Errorf(buildcast.InvalidArgument, "the JSON cannot be read at line %d, column %d: %s", line, column, m.what)
}

// decodeEvents reads a body that is one event or an array of them, and
// validates them. The events share the body's memory.
func decodeEvents(body []byte) ([]buildcast.NewEvent, error) {
	s := scanner{b: body}
	events, err := s.events()
	if m, ok := errors.AsType[*malformed](err); ok {
		return nil, m.at(body)
	}
	return events, err
}

// decodeEvent reads one line of a stream, as decodeEvents does.
func decodeEvent(line []byte) (buildcast.NewEvent, error) {
	s := scanner{b: line}
	e, err := s.event()
	if err == nil {
		err = s.end()
	}
	if err == nil {
		err = s.validate(&e)
	}
	if m, ok := errors.AsType[*malformed](err); ok {
		return e, buildcast.Errorf(buildcast.InvalidArgument, "the JSON cannot be read at column %d: %s", min(m.offset, len(line))+1, m.what)
	}
	return e, err
}

// scanner reads events without encoding/json: four times as fast, and strict
// where that is lenient (unknown, doubled and differently cased names). Data is
// only skipped over here; NewEvent.Validate checks it.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) events() ([]buildcast.NewEvent, error) {
	if s.peek() != '[' {
		e, err := s.event()
		if err == nil {
			err = s.end()
		}
		if err == nil {
			err = s.validate(&e)
		}
		return []buildcast.NewEvent{e}, err
	}
	s.i++
	var events []buildcast.NewEvent
	for first := true; ; first = false {
		switch c := s.peek(); {
		case c == ']' && first:
			return nil, buildcast.Errorf(buildcast.InvalidArgument, "the array is empty: send at least one event")
		case c == ']':
			s.i++
			return events, s.end()
		case c == ',' && !first:
			s.i++
		case !first:
			return nil, s.fail("expected , or ] after an event")
		}
		if len(events) == maxEvents {
			return nil, buildcast.Errorf(buildcast.TooLarge, "the array has more than %d events: send several arrays, or a stream as application/x-ndjson", maxEvents)
		}
		e, err := s.event()
		if err == nil {
			err = s.validate(&e)
		}
		if err != nil {
			return nil, inArray(err, len(events))
		}
		events = append(events, e)
	}
}

// inArray puts the event's index before the field that the error names.
func inArray(err error, i int) error {
	return at(err, fmt.Sprintf("[%d].%s", i, fieldOf(err)))
}

// event reads one object.
func (s *scanner) event() (e buildcast.NewEvent, err error) {
	if s.peek() != '{' {
		return e, s.fail(`expected an event such as {"type": "task_started", "data": {"taskName": "compile"}}`)
	}
	s.i++
	if s.peek() == '}' {
		s.i++
		return e, nil
	}
	var seen fields
	for {
		name, err := s.text()
		if err != nil {
			return e, err
		}
		if s.peek() != ':' {
			return e, s.fail("expected : after a field's name")
		}
		s.i++
		if err := s.field(&e, name, &seen); err != nil {
			return e, err
		}
		switch s.peek() {
		case ',':
			s.i++
		case '}':
			s.i++
			return e, nil
		default:
			return e, s.fail("expected , or } after a field")
		}
	}
}

// fields are those of an event that were read already.
type fields uint8

// field reads the value of the named field into the event.
func (s *scanner) field(e *buildcast.NewEvent, name []byte, seen *fields) error {
	var bit fields
	switch string(name) {
	case "type":
		bit = 1
	case "data":
		bit = 2
	case "key":
		bit = 4
	case "timestamp":
		bit = 8
	default:
		return buildcast.Errorf(buildcast.InvalidArgument, "%s is not a field of an event: use type, data, key and timestamp, and put the rest into data", quote(string(name))).At(string(name[:min(len(name), 60)]))
	}
	if *seen&bit != 0 {
		return buildcast.Errorf(buildcast.InvalidArgument, "%s is there twice: send it once", name).At(string(name))
	}
	*seen |= bit
	if bit == 2 {
		data, err := s.value()
		e.Data = data
		return err
	}
	switch s.peek() {
	case '"':
	case 'n': // null counts as absent
		return s.null()
	case 0:
		return s.fail("expected a value")
	default:
		return buildcast.Errorf(buildcast.InvalidArgument, "%s must be text in quotes", name).At(string(name))
	}
	text, err := s.text()
	if err != nil {
		return err
	}
	switch bit {
	case 1:
		e.Type = typeName(text)
	case 4:
		e.Key = string(text)
	case 8:
		if err := e.Timestamp.UnmarshalText(text); err != nil {
			return buildcast.Errorf(buildcast.InvalidArgument, "timestamp: %v", err).At("timestamp")
		}
	}
	return nil
}

// validate checks the event; data that is no JSON is told with its place.
func (s *scanner) validate(e *buildcast.NewEvent) error {
	err := e.Validate()
	if err == nil {
		err = buildcast.ValidateUserKey(e.Key)
	}
	if err == nil {
		return nil
	}
	var syntax *json.SyntaxError
	if errors.As(json.Unmarshal(s.b, new(json.RawMessage)), &syntax) {
		return &malformed{int(syntax.Offset) - 1, syntax.Error()}
	}
	return err
}

// text reads a string. What it gives may be part of the body.
func (s *scanner) text() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.fail("expected text in quotes")
	}
	start := s.i
	plain, err := s.skipText()
	if err != nil {
		return nil, err
	}
	raw := s.b[start:s.i]
	if plain {
		return raw[1 : len(raw)-1], nil
	}
	var text string
	if !utf8.Valid(raw) || json.Unmarshal(raw, &text) != nil {
		return nil, &malformed{start, "the text is not valid"}
	}
	return []byte(text), nil
}

// skipText passes over a string. plain: it has no escapes and no control characters.
func (s *scanner) skipText() (plain bool, err error) {
	plain = true
	for i := s.i + 1; i < len(s.b); i++ {
		switch c := s.b[i]; {
		case c == '"':
			s.i = i + 1
			return plain, nil
		case c == '\\':
			plain = false
			i++
		case c < 0x20:
			plain = false
		}
	}
	s.i = len(s.b)
	return false, s.fail("the text does not end")
}

// value passes over any value and gives its bytes, which need not be valid JSON.
func (s *scanner) value() (json.RawMessage, error) {
	s.peek()
	start := s.i
	depth := 0
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			if _, err := s.skipText(); err != nil {
				return nil, err
			}
			if depth == 0 {
				return s.b[start:s.i:s.i], nil
			}
			continue
		case c == '{' || c == '[':
			depth++
		case depth == 0 && (c == ',' || c == '}' || c == ']' || isSpace(c)):
			return s.scalar(start)
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				s.i++
				return s.b[start:s.i:s.i], nil
			}
		}
		s.i++
	}
	if depth > 0 {
		return nil, s.fail("the value does not end")
	}
	return s.scalar(start)
}

func (s *scanner) scalar(start int) (json.RawMessage, error) {
	if s.i == start {
		return nil, s.fail("expected a value")
	}
	return s.b[start:s.i:s.i], nil
}

func (s *scanner) null() error {
	start := s.i
	v, err := s.value()
	if err == nil && string(v) != "null" {
		return &malformed{start, "expected null or text in quotes"}
	}
	return err
}

// end checks that nothing follows.
func (s *scanner) end() error {
	if s.peek(); s.i < len(s.b) {
		return s.fail("there is more after the value; send several events as an array or as application/x-ndjson")
	}
	return nil
}

// peek passes over white space and gives the byte there; 0 at the end.
func (s *scanner) peek() byte {
	for s.i < len(s.b) && isSpace(s.b[s.i]) {
		s.i++
	}
	if s.i == len(s.b) {
		return 0
	}
	return s.b[s.i]
}

func (s *scanner) fail(what string) error {
	if s.i >= len(s.b) {
		what += "; the body ends here"
	}
	return &malformed{s.i, what}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// typeName gives the event type without making a new string for those that
// most events have.
func typeName(b []byte) string {
	if name, ok := commonTypes[string(b)]; ok {
		return name
	}
	return string(b)
}

var commonTypes = func() map[string]string {
	m := make(map[string]string)
	for _, t := range []string{
		buildcast.TaskStarted, buildcast.TaskCompleted, buildcast.TaskFailed, buildcast.BuildLog,
		buildcast.BuildProgress, buildcast.DeployProgress,
	} {
		m[t] = t
	}
	return m
}()
