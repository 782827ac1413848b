// Package planfile reads plan files: YAML or JSON into a [buildcast.Plan].
//
// A plan file is written by people, so an error names the place and the field,
// one line for each problem:
//
//	plan.yaml:12:7: tasks[2].needs[0]: task "x" needs "y", which is not a task of this plan
//
// Files that a plan names with from: are read here, from the plan file's own
// directory and never from outside it, and become content of the plan: a server
// that receives the plan needs no other files.
package planfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/buildcast/buildcast"
)

// Limits of a plan file.
const (
	MaxSize     = 1 << 20 // bytes of the plan file itself
	MaxFromSize = 4 << 20 // bytes of all files that it names with from:
)

// Read reads the plan file at path, and the files it names with from:.
// Errors are *buildcast.Error, with InvalidArgument or TooLarge.
func Read(path string) (*buildcast.Plan, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer dir.Close()
	return Parse(data, path, dir.FS())
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	// Read one byte more than the limit, to distinguish a file that is too large from one
	// that just fits.
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	return data, nil
}

func unreadable(path string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err // the message names the path already
	}
	return buildcast.Errorf(buildcast.InvalidArgument, "%s: cannot read the plan file", path).Because(err)
}

// Parse reads a plan from data. Errors call the file name. from: paths are read from
// the file system from, which must keep paths inside, as [os.Root.FS] does; if it is
// nil, they are refused.
func Parse(data []byte, name string, from fs.FS) (*buildcast.Plan, error) {
	r := &reader{file: name, from: from, budget: MaxFromSize, at: make(map[string]position)}
	root := r.parse(data)
	if root == nil {
		return nil, r.err()
	}
	p := r.plan(root)
	r.validate(p)
	if err := r.err(); err != nil {
		return nil, err
	}
	return p, nil
}

// parse returns the value of the file's one document, or nil and a problem.
func (r *reader) parse(data []byte) *yaml.Node {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	switch {
	case len(data) > MaxSize:
		r.report(position{}, buildcast.TooLarge, "", "the plan file is larger than %d bytes: put large content in files of its own and name them with from:", MaxSize)
	case !utf8.Valid(data):
		r.report(positionIn(data, invalidUTF8(data)), buildcast.InvalidArgument, "", "not valid UTF-8: save the file as UTF-8, and give binary content with from: or base64:")
	case isJSON(r.file, data):
		return r.parseJSON(data)
	default:
		return r.parseYAML(data)
	}
	return nil
}

func (r *reader) parseYAML(data []byte) *yaml.Node {
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		r.report(position{}, buildcast.InvalidArgument, "", "not valid YAML: %v", err)
		return nil
	}
	var first, second yaml.Node
	if err := loader.Load(&first); errors.Is(err, io.EOF) {
		r.report(position{}, buildcast.InvalidArgument, "", "the plan file is empty")
		return nil
	} else if err != nil {
		r.reportSyntax(data, err)
		return nil
	}
	if err := loader.Load(&second); err == nil {
		r.report(place(&second), buildcast.InvalidArgument, "", "a second document begins here: a plan file holds one plan")
		return nil
	} else if !errors.Is(err, io.EOF) {
		r.reportSyntax(data, err)
		return nil
	}
	if first.Kind == yaml.DocumentNode && len(first.Content) == 1 {
		return first.Content[0]
	}
	return &first
}

// reportSyntax reports the error of the YAML parser, in this package's form.
func (r *reader) reportSyntax(data []byte, err error) {
	at, message := position{}, err.Error()
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		at, message = position{e.Mark.Line, e.Mark.Column}, e.Message
		if e.ContextMsg != "" {
			message += " " + e.ContextMsg
		}
		if at.line == 0 { // its reader knows no lines: it refuses control characters
			at = positionIn(data, max(0, bytes.IndexFunc(data, notYAML)))
		}
	}
	hint := ""
	if at.line > 0 {
		hint = syntaxHint(lineOf(data, at.line))
	}
	r.report(at, buildcast.InvalidArgument, "", "not valid YAML: %s%s", message, hint)
}

// syntaxHint names the fix of the two most frequent mistakes: tabs, and a command that
// YAML does not read as text.
func syntaxHint(line string) string {
	if strings.HasPrefix(line, "\t") {
		return ": indent with spaces, not tabs"
	}
	key, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "- "), ": ")
	value = strings.TrimSpace(value)
	if !ok || value == "" || strings.ContainsAny(key, " \t") {
		return ""
	}
	if strings.Contains(value, ": ") || strings.ContainsAny(value[:1], "\"'[{@%*&!`") {
		return fmt.Sprintf(": quote the value of %s with ' ', or write `%s: |` and the value in the lines below", clip(key), clip(key))
	}
	return ""
}

// notYAML reports whether YAML allows the character only in its escaped form.
func notYAML(c rune) bool {
	return c < 0x20 && c != '\t' && c != '\n' && c != '\r' || c > 0x7e && c < 0xa0 && c != 0x85 || c == 0xfffe || c == 0xffff
}

// validate reports the errors of the plan's own check, at the places of the fields. It
// leaves out errors that follow from a problem that is already reported.
func (r *reader) validate(p *buildcast.Plan) {
	unread := r.problems
	for _, e := range p.Problems() {
		if !slices.ContainsFunc(unread, func(u problem) bool { return follows(e.Field, u.field) }) {
			r.report(r.nearest(e.Field), e.Code, e.Field, "%s", e.Message)
		}
	}
	slices.SortStableFunc(r.problems, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.column, b.at.column))
	})
}

// follows reports whether a problem of the field may be a consequence of another
// field's problem:
//   - a plan seems to do nothing because what it does could not be read;
//   - it has no name because another field is in its place;
//   - a need is of a task whose name is not known;
//   - or one of the fields encloses the other.
func follows(field, unread string) bool {
	within := func(a, b string) bool {
		rest, ok := strings.CutPrefix(a, b)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	}
	switch {
	case field == "tasks":
		return true
	case unread == "":
		return field == "name"
	case strings.Contains(field, ".needs") && strings.HasPrefix(unread, "tasks"):
		return true
	}
	return within(field, unread) || within(unread, field)
}

// position is a place in the file; both count from 1, and 0 is unknown.
type position struct{ line, column int }

func place(n *yaml.Node) position { return position{n.Line, n.Column} }

func (p position) String() string {
	switch {
	case p.line == 0:
		return ""
	case p.column == 0:
		return fmt.Sprintf(":%d", p.line)
	}
	return fmt.Sprintf(":%d:%d", p.line, p.column)
}

// positionIn is the place of the byte at offset.
func positionIn(data []byte, offset int) position {
	before := data[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return position{bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(before[start:]) + 1}
}

func lineOf(data []byte, line int) string {
	for range line - 1 {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	text, _, _ := bytes.Cut(data, []byte("\n"))
	return string(text)
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		c, size := utf8.DecodeRune(data[i:])
		if c == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(data)
}
