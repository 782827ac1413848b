package httpapi

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

// A param is a query parameter that is read and described in one place, so that
// the OpenAPI document cannot say something else than the server does.
type param interface {
	describe() *huma.Param
}

// intParam is a whole number from min to max; def where it is absent.
type intParam struct {
	name          string
	min, max, def int64
	doc           string
}

func (p intParam) read(q url.Values) (int64, error) {
	s := q.Get(p.name)
	if s == "" {
		return p.def, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < p.min || n > p.max {
		return 0, buildcast.Errorf(buildcast.InvalidArgument, "%s is %s: use a whole number from %d to %d", p.name, problem.Quote(s), p.min, p.max).At(p.name)
	}
	return n, nil
}

func (p intParam) describe() *huma.Param {
	low, high := float64(p.min), float64(p.max)
	s := &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &low}
	if p.def >= p.min { // else its absence means something of its own
		s.Default = p.def
	}
	if p.max < math.MaxInt64 { // which the format says already, and no float64 does
		s.Maximum = &high
	}
	return &huma.Param{Name: p.name, In: "query", Description: p.doc, Schema: s}
}

// durationParam is 25s, 1m or a plain number of seconds, from 0 to max; 0 where it is absent.
type durationParam struct {
	name string
	max  time.Duration
	doc  string
}

func (p durationParam) read(q url.Values) (time.Duration, error) {
	s := q.Get(p.name)
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		d, err = time.ParseDuration(s + "s")
	}
	if err != nil || d < 0 || d > p.max {
		return 0, buildcast.Errorf(buildcast.InvalidArgument, "%s is %s: use a duration such as 25s or a number of seconds, at most %v", p.name, problem.Quote(s), p.max).At(p.name)
	}
	return d, nil
}

func (p durationParam) describe() *huma.Param {
	return &huma.Param{Name: p.name, In: "query", Description: p.doc, Schema: &huma.Schema{Type: huma.TypeString, Examples: []any{"25s"}}}
}

// stringParam is text of at most max bytes, one of enum where that is set.
type stringParam struct {
	name string
	max  int
	enum []string
	doc  string
}

func (p stringParam) read(q url.Values) (string, error) {
	s := q.Get(p.name)
	if s == "" {
		return "", nil
	}
	if len(p.enum) > 0 {
		for _, v := range p.enum {
			if s == v {
				return s, nil
			}
		}
		return "", buildcast.Errorf(buildcast.InvalidArgument, "%s is %s: use one of %s", p.name, problem.Quote(s), strings.Join(p.enum, ", ")).At(p.name)
	}
	return s, validateText(s, p.max, p.name)
}

func (p stringParam) describe() *huma.Param {
	s := &huma.Schema{Type: huma.TypeString}
	for _, v := range p.enum {
		s.Enum = append(s.Enum, v)
	}
	if p.max > 0 {
		s.MaxLength = &p.max
	}
	return &huma.Param{Name: p.name, In: "query", Description: p.doc, Schema: s}
}

func describeParams(params ...param) []*huma.Param {
	all := make([]*huma.Param, len(params))
	for i, p := range params {
		all[i] = p.describe()
	}
	return all
}

// onlyKnown refuses query parameters that the operation's description lacks: a
// misspelt filter that is passed over in silence answers another question. So would
// the first of two cursors.
func onlyKnown(op *huma.Operation, serve handlerFunc) handlerFunc {
	var known, lists []string
	for _, p := range op.Parameters {
		if p.In == "query" {
			known = append(known, p.Name)
		}
		if p.Schema.Type == huma.TypeArray {
			lists = append(lists, p.Name)
		}
		if p.Name == cursorParam.name {
			known = append(known, cursorAlias.name)
		}
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		r.Form = nil
		q, err := query(r)
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
			return serve(w, r)
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

// query reads the URL's query. One that cannot be read is an error: a cursor
// that is passed over in silence would replay a whole log.
func query(r *http.Request) (url.Values, error) {
	if r.URL.RawQuery == "" || r.Form != nil {
		return r.Form, nil
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, buildcast.Errorf(buildcast.InvalidArgument, "the URL's query cannot be read: percent-encode what is special in it").Because(err)
	}
	return q, nil
}

// buildID is the valid build id in the request's path, of a build with which
// the request may do what it asks for.
func (a *api) buildID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if err := buildcast.ValidateBuildID(id); err != nil {
		return "", err
	}
	return id, a.mayUse(r, id)
}

// mayUse keeps buildcast's own log from being written, and from being read by
// everyone: it names the receivers of webhooks.
func (a *api) mayUse(r *http.Request, id string) error {
	if id != buildcast.OperationsBuild {
		return nil
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return reserved("buildId")
	}
	return a.checkPrivate(r)
}

func reserved(field string) error {
	return buildcast.Errorf(buildcast.PermissionDenied, "%s is buildcast's own log of its webhooks, which only buildcast writes: use another build id", buildcast.OperationsBuild).At(field)
}

// validateText checks what people write: at most limit bytes of printable UTF-8.
func validateText(s string, limit int, field string) error {
	printable := utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }) < 0
	if len(s) > limit || !printable {
		return buildcast.Errorf(buildcast.InvalidArgument, "%s is %d bytes: use at most %d bytes of UTF-8 without control characters", field, len(s), limit).At(field)
	}
	return nil
}
