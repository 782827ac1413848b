package planfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v4"

	"github.com/buildcast/buildcast"
)

// isJSON reports whether the file is read as JSON. A YAML parser reads most JSON,
// but it refuses escaped surrogate pairs, which many encoders write, and it
// turns some line breaks within strings into spaces.
func isJSON(name string, data []byte) bool {
	return strings.EqualFold(filepath.Ext(name), ".json") || json.Valid(data)
}

// parseJSON returns the same nodes that the YAML parser would.
func (r *reader) parseJSON(data []byte) *yaml.Node {
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		at := position{}
		if e, ok := errors.AsType[*json.SyntaxError](err); ok {
			at = positionIn(data, max(0, int(e.Offset)-1))
		}
		r.report(at, buildcast.InvalidArgument, "", "not valid JSON: %v", err)
		return nil
	}
	// encoding/json replaces halves of surrogate pairs: two names would become one.
	err := jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true)).SkipValue()
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		r.report(positionIn(data, int(e.ByteOffset)), buildcast.InvalidArgument, "", "not valid Unicode: %v", e.Err)
		return nil
	}
	j := &jsonNodes{data: data, dec: json.NewDecoder(bytes.NewReader(data)), at: position{1, 1}}
	j.dec.UseNumber()
	return j.next()
}

// jsonNodes makes nodes of valid JSON.
type jsonNodes struct {
	data []byte
	dec  *json.Decoder
	seen int // offset of the place at
	at   position
}

// next returns the next value, or nil at the end of a list or an object. It cannot
// fail: encoding/json has checked the data as a whole, including its bound of 10,000
// nested levels.
func (j *jsonNodes) next() *yaml.Node {
	start := int(j.dec.InputOffset())
	token, err := j.dec.Token()
	if err != nil {
		return nil
	}
	at := j.advance(start)
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: at.line, Column: at.column}
	switch v := token.(type) {
	case string:
		n.Tag, n.Value, n.Style = "!!str", v, yaml.DoubleQuotedStyle
	case json.Number:
		n.Tag, n.Value = "!!int", v.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", map[bool]string{true: "true", false: "false"}[v]
	case nil:
		n.Tag, n.Value = "!!null", "null"
	case json.Delim:
		if v == '}' || v == ']' {
			return nil
		}
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		if v == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		for c := j.next(); c != nil; c = j.next() {
			n.Content = append(n.Content, c)
		}
	}
	return n
}

// advance returns the place of the token that follows offset start, past the
// white space and punctuation before it. It counts lines and columns from the
// previous place, so that a file is scanned once.
func (j *jsonNodes) advance(start int) position {
	for start < len(j.data) && strings.IndexByte(" \t\r\n,:", j.data[start]) >= 0 {
		start++
	}
	for _, c := range string(j.data[j.seen:start]) {
		if c == '\n' {
			j.at = position{j.at.line + 1, 1}
		} else {
			j.at.column++
		}
	}
	j.seen = start
	return j.at
}
