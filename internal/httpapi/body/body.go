// Package body reads the bodies of requests: their types, their bounds, and JSON
// objects whose fields are all known. It sends the whole bodies of answers.
package body

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventjson"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
)

const (
	MaxBytes = 4 << 20 // bytes of a JSON body

	// Timeout bounds the arrival of a whole JSON body.
	Timeout = time.Minute

	// MaxArriving bounds all JSON bodies that are arriving. The first Small bytes
	// of each do not count, so ordinary requests are never refused for others' sake.
	MaxArriving = 32 << 20
	Small       = 64 << 10
)

// The body types that are understood.
const (
	JSON   = "application/json"
	NDJSON = "application/x-ndjson"
)

// TypeOf returns the type of the request's body; empty if there is no body.
func TypeOf(r *http.Request) (string, error) {
	if r.ContentLength == 0 {
		return "", nil
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return "", buildcast.Errorf(problem.UnsupportedMediaType, "the body is encoded as %s: send it as it is, without Content-Encoding", problem.Quote(coding))
	}
	given := r.Header.Get("Content-Type")
	if given == JSON { // the way of nearly all
		return JSON, nil
	}
	media, _, err := mime.ParseMediaType(given)
	switch {
	case err == nil && (media == JSON || strings.HasSuffix(media, "+json")):
		return JSON, nil
	case err == nil && (media == NDJSON || media == "application/ndjson"):
		return NDJSON, nil
	}
	return "", buildcast.Errorf(problem.UnsupportedMediaType, "the body's type is %s: send application/json, or a stream of events as application/x-ndjson", problem.Quote(given))
}

// Bodies counts the bytes of the bodies that are arriving.
type Bodies struct{ bytes atomic.Int64 }

// limited is a body whose bytes count as arriving until it is closed.
type limited struct {
	io.Reader
	all        *Bodies
	read, held int64
}

func (l *limited) Read(b []byte) (int, error) {
	n, err := l.Reader.Read(b)
	if l.read += int64(n); l.read > Small {
		more := l.read - Small - l.held
		l.held += more
		if l.all.bytes.Add(more) > MaxArriving {
			return n, buildcast.Errorf(buildcast.Overloaded, "large bodies are arriving from many clients: try again shortly, or send less at once").After(time.Second)
		}
	}
	return n, err
}

func (l *limited) close() { l.all.bytes.Add(-l.held) }

// Read reads a body of at most MaxBytes bytes. The memory is the caller's:
// events keep parts of it, so it is not taken from a pool.
func (b *Bodies) Read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > MaxBytes {
		return nil, tooLarge()
	}
	// Where the writer knows no deadlines (tests), a silent body is the caller's affair.
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(Timeout))
	// A length is only claimed: memory follows what arrives.
	size := 4 << 10
	if r.ContentLength >= 0 {
		size = int(min(r.ContentLength, Small)) + bytes.MinRead // room to see the end without growing
	}
	buf := bytes.NewBuffer(make([]byte, 0, size))
	body := &limited{Reader: io.LimitReader(r.Body, MaxBytes+1), all: b}
	defer body.close()
	_, err := buf.ReadFrom(body)
	switch {
	case err != nil:
		return nil, Stopped(err)
	case buf.Len() > MaxBytes:
		return nil, tooLarge()
	}
	// It was the body's: net/http reads on, to notice a client that leaves, and
	// would take the deadline for one.
	_ = conn.SetReadDeadline(time.Time{})
	return buf.Bytes(), nil
}

func tooLarge() error {
	return buildcast.Errorf(buildcast.TooLarge, "the body is larger than %d MiB: send less at once; events may be sent as a stream of any length as application/x-ndjson", MaxBytes>>20)
}

// Stopped returns why a body stopped arriving.
func Stopped(err error) error {
	if _, ok := errors.AsType[*buildcast.Error](err); ok {
		return err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return buildcast.Errorf(problem.TimedOut, "the body stopped arriving: send it again, faster; a stream stays open while lines, or blank lines, come").Because(err)
	}
	return buildcast.Errorf(buildcast.InvalidArgument, "the body ended early: send it again").Because(err)
}

// Decode reads a JSON object into v; an absent body leaves v as it is.
// Unknown fields are refused: a misspelt one would be lost in silence.
func (b *Bodies) Decode(w http.ResponseWriter, r *http.Request, v any) error {
	kind, err := TypeOf(r)
	if err != nil || kind == "" {
		return err
	}
	if kind != JSON {
		return buildcast.Errorf(problem.UnsupportedMediaType, "this takes one JSON object: send it as application/json")
	}
	text, err := b.Read(w, r)
	if err != nil || len(text) == 0 {
		return err
	}
	// encoding/json replaces what is not valid Unicode: two names would become one.
	if err := eventjson.Check(text); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return jsonError(err)
	}
	return nil
}

// jsonError describes what encoding/json found wrong in a body that is JSON.
func jsonError(err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Field == "":
		return buildcast.Errorf(buildcast.InvalidArgument, "the body is a JSON %s: send an object", wrong.Value)
	case errors.As(err, &wrong):
		return buildcast.Errorf(buildcast.InvalidArgument, "%s is a JSON %s: send %s", wrong.Field, wrong.Value, kindOf(wrong)).At(wrong.Field)
	}
	// encoding/json has no type for this one.
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if field, unquoteErr := strconv.Unquote(name); unquoteErr == nil {
			return buildcast.Errorf(buildcast.InvalidArgument, "%s is not a known field: take it out, or check how it is spelt", problem.Quote(field)).At(field[:min(len(field), 60)])
		}
	}
	// The rest comes from the nouns' own decoders, which speak to people.
	return buildcast.Errorf(buildcast.InvalidArgument, "the body cannot be read: %v", err)
}

func kindOf(e *json.UnmarshalTypeError) string {
	switch e.Type.Kind().String() {
	case "string":
		return "text"
	case "int", "int64", "float64":
		return "a number"
	case "slice":
		return "an array"
	case "bool":
		return "true or false"
	}
	return "an object"
}
