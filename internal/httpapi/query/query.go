// Package query reads the query parameters of requests. A parameter is read and
// described in one place, so that the OpenAPI document cannot say something else than
// the server does.
package query

import (
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
)

// Param is one parameter.
type Param interface {
	describe() *huma.Param
}

// Int is a whole number from Min to Max; Default if it is absent.
type Int struct {
	Name              string
	Min, Max, Default int64
	Doc               string
}

// Read reads the parameter.
func (p Int) Read(q url.Values) (int64, error) {
	s := q.Get(p.Name)
	if s == "" {
		return p.Default, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < p.Min || n > p.Max {
		return 0, buildcast.Errorf(buildcast.InvalidArgument, "%s is %s: use a whole number from %d to %d", p.Name, problem.Quote(s), p.Min, p.Max).At(p.Name)
	}
	return n, nil
}

func (p Int) describe() *huma.Param {
	low, high := float64(p.Min), float64(p.Max)
	s := &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &low}
	if p.Default >= p.Min { // else its absence means something of its own
		s.Default = p.Default
	}
	if p.Max < math.MaxInt64 { // which the format says already, and no float64 does
		s.Maximum = &high
	}
	return &huma.Param{Name: p.Name, In: "query", Description: p.Doc, Schema: s}
}

// Duration is 25s, 1m or a plain number of seconds, from 0 to Max; 0 if it is absent.
type Duration struct {
	Name string
	Max  time.Duration
	Doc  string
}

// Read reads the parameter.
func (p Duration) Read(q url.Values) (time.Duration, error) {
	s := q.Get(p.Name)
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		d, err = time.ParseDuration(s + "s")
	}
	if err != nil || d < 0 || d > p.Max {
		return 0, buildcast.Errorf(buildcast.InvalidArgument, "%s is %s: use a duration such as 25s or a number of seconds, at most %v", p.Name, problem.Quote(s), p.Max).At(p.Name)
	}
	return d, nil
}

func (p Duration) describe() *huma.Param {
	return &huma.Param{Name: p.Name, In: "query", Description: p.Doc, Schema: &huma.Schema{Type: huma.TypeString, Examples: []any{"25s"}}}
}

// String is text of at most Max bytes, one of Enum if that is set.
type String struct {
	Name string
	Max  int
	Enum []string
	Doc  string
}

// Read reads the parameter.
func (p String) Read(q url.Values) (string, error) {
	s := q.Get(p.Name)
	if s == "" {
		return "", nil
	}
	if len(p.Enum) > 0 {
		for _, v := range p.Enum {
			if s == v {
				return s, nil
			}
		}
		return "", buildcast.Errorf(buildcast.InvalidArgument, "%s is %s: use one of %s", p.Name, problem.Quote(s), strings.Join(p.Enum, ", ")).At(p.Name)
	}
	return s, ValidateText(s, p.Max, p.Name)
}

func (p String) describe() *huma.Param {
	s := &huma.Schema{Type: huma.TypeString}
	for _, v := range p.Enum {
		s.Enum = append(s.Enum, v)
	}
	if p.Max > 0 {
		s.MaxLength = &p.Max
	}
	return &huma.Param{Name: p.Name, In: "query", Description: p.Doc, Schema: s}
}

// Describe describes the parameters for the OpenAPI document.
func Describe(params ...Param) []*huma.Param {
	all := make([]*huma.Param, len(params))
	for i, p := range params {
		all[i] = p.describe()
	}
	return all
}

// OnlyKnown returns a check that refuses query parameters which the operation's
// description lacks: a misspelt filter that is passed over in silence answers another
// question. So would the first of two cursors. Aliases are second spellings, by the
// name that is described.
func OnlyKnown(op *huma.Operation, aliases map[string]string) func(*http.Request) error {
	var known, lists []string
	for _, p := range op.Parameters {
		if p.In == "query" {
			known = append(known, p.Name)
		}
		if p.Schema.Type == huma.TypeArray {
			lists = append(lists, p.Name)
		}
		if alias := aliases[p.Name]; alias != "" {
			known = append(known, alias)
		}
	}
	return func(r *http.Request) error {
		r.Form = nil
		q, err := Of(r)
		if err != nil {
			return err
		}
		r.Form = q // it is read once
		var unknown []string
		for name, values := range q {
			switch {
			case !slices.Contains(known, name):
				unknown = append(unknown, name)
			case len(values) > 1 && !slices.Contains(lists, name):
				return buildcast.Errorf(buildcast.InvalidArgument, "the query has %s %d times: send it once", name, len(values)).At(name)
			}
		}
		slices.Sort(unknown)
		switch {
		case len(unknown) == 0:
			return nil
		case len(known) == 0:
			return buildcast.Errorf(buildcast.InvalidArgument, "the query has %s, and this takes no query parameters: leave it out", problem.Quote(unknown[0])).At(clip(unknown[0]))
		}
		return buildcast.Errorf(buildcast.InvalidArgument, "the query has %s, which is not known here: use %s", problem.Quote(unknown[0]), strings.Join(known, ", ")).At(clip(unknown[0]))
	}
}

// clip bounds a name that a client made up.
func clip(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), problem.MaxQuoted)], "")
}

// Of reads the URL's query. One that cannot be read is an error: a cursor
// that is passed over in silence would replay a whole log.
func Of(r *http.Request) (url.Values, error) {
	if r.URL.RawQuery == "" || r.Form != nil {
		return r.Form, nil
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, buildcast.Errorf(buildcast.InvalidArgument, "the URL's query cannot be read: percent-encode what is special in it").Because(err)
	}
	return q, nil
}

// ValidateText checks what people write: at most limit bytes of printable UTF-8.
func ValidateText(s string, limit int, field string) error {
	printable := utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }) < 0
	if len(s) > limit || !printable {
		return buildcast.Errorf(buildcast.InvalidArgument, "%s is %d bytes: use at most %d bytes of UTF-8 without control characters", field, len(s), limit).At(field)
	}
	return nil
}
