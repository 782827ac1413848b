package eventjson

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/buildcast/buildcast"
)

// maxName bounds what is repeated of a field's name in an error.
const maxName = 60

// Malformed is the error of JSON that cannot be read, at an offset of the text.
func Malformed(text []byte, offset int, what string) *buildcast.Error {
	before := text[:min(max(offset, 0), len(text))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - (bytes.LastIndexByte(before, '\n') + 1) + 1
	return buildcast.Errorf(buildcast.InvalidArgument, "the JSON cannot be read at line %d, column %d: %s", line, column, what)
}

// malformed is Malformed for the decoder's text. The line of a stream is known to
// whoever reads it.
func (d *decoder) malformed(offset int, what string) *buildcast.Error {
	if d.line {
		return buildcast.Errorf(buildcast.InvalidArgument, "the JSON cannot be read at column %d: %s", min(offset, len(d.text))+1, what)
	}
	return Malformed(d.text, offset, what)
}

// syntax makes the error of what jsontext found.
func (d *decoder) syntax(err error) error {
	found, ok := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case errors.Is(err, io.EOF):
		return d.malformed(len(d.text), endsHere)
	case !ok:
		return buildcast.Errorf(buildcast.Internal, "the JSON cannot be read").Because(err)
	case errors.Is(found.Err, io.ErrUnexpectedEOF):
		return d.malformed(len(d.text), endsHere)
	}
	// jsontext has no variables for its errors.
	switch what := found.Err.Error(); {
	case strings.HasPrefix(what, "invalid surrogate pair"):
		return d.malformed(int(found.ByteOffset), "half of a surrogate pair: send valid Unicode").At(field(found.JSONPointer))
	case strings.HasPrefix(what, "invalid UTF-8"), what == "exceeded max depth":
		return d.malformed(int(found.ByteOffset), what).At(field(found.JSONPointer))
	default: // it is the text's error, not a field's
		return d.malformed(int(found.ByteOffset), what)
	}
}

const endsHere = "the text ends here, in the middle of a value"

// field is the name of what a pointer leads to: [1].data for /1/data/x.
func field(p jsontext.Pointer) string {
	var name strings.Builder
	for token := range p.Tokens() {
		if _, err := strconv.Atoi(token); err == nil && name.Len() == 0 {
			fmt.Fprintf(&name, "[%s].", token)
			continue
		}
		name.WriteString(clip(token))
		return name.String()
	}
	return strings.TrimSuffix(name.String(), ".")
}

func clip(text string) string { return text[:min(len(text), maxName)] }

// inArray puts an event's index before the field that the error names.
func inArray(err error, i int) error {
	e, ok := errors.AsType[*buildcast.Error](err)
	if !ok || e.Field == "" || strings.HasPrefix(e.Field, "[") {
		return err
	}
	moved := *e // the error may be shared
	return moved.At(fmt.Sprintf("[%d].%s", i, e.Field))
}
