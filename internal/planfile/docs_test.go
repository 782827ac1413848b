package planfile

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/buildcast/buildcast"
)

const docs = "../../docs"

// block is a code block of plan.md.
type block struct {
	language, text string
	line           int
}

func blocks(t *testing.T) []block {
	t.Helper()
	var all []block
	var open *block
	for i, line := range strings.Split(read(t, filepath.Join(docs, "plan.md")), "\n") {
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open == nil:
			open = &block{language: language, line: i + 1}
		case fence:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	return all
}

// TestPlanDocs parses each block of plan.md. A text block is the error of the block
// before it.
func TestPlanDocs(t *testing.T) {
	files := fstest.MapFS{"assets/style.css": {Data: []byte("x")}, "site/index.html": {Data: []byte("x")}, "assets/images/a.png": {Data: []byte("x")}}
	all := blocks(t)
	if len(all) < 8 {
		t.Fatalf("%d code blocks were found", len(all))
	}
	for i, b := range all {
		if b.language == "text" {
			continue
		}
		_, err := Parse([]byte(b.text), "plan."+b.language, files)
		if i+1 < len(all) && all[i+1].language == "text" {
			if want := strings.TrimSpace(all[i+1].text); err == nil || err.Error() != want {
				t.Errorf("line %d: got\n%v\nwant\n%s", b.line, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("line %d: %v", b.line, err)
		}
	}
}

// TestPlanDocsNameEveryField keeps the tables of plan.md complete.
func TestPlanDocsNameEveryField(t *testing.T) {
	text := read(t, filepath.Join(docs, "plan.md"))
	for section, typ := range map[string]reflect.Type{"## Fields of a plan": reflect.TypeFor[buildcast.Plan](), "## Fields of a task": reflect.TypeFor[buildcast.Task]()} {
		_, after, _ := strings.Cut(text, section)
		table, _, _ := strings.Cut(strings.TrimSpace(after), "\n\n")
		var named []string
		for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+)`").FindAllStringSubmatch(table, -1) {
			named = append(named, row[1])
		}
		if want := fieldsOf(typ); !slices.Equal(slices.Sorted(slices.Values(named)), want) {
			t.Errorf("%s names %q, the fields are %q", section, named, want)
		}
	}
}

// fieldsOf are the names that the type's fields have in JSON, sorted.
func fieldsOf(typ reflect.Type) []string {
	var names []string
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func readSchema(t *testing.T) schema {
	t.Helper()
	var s schema
	if err := json.Unmarshal([]byte(read(t, filepath.Join(docs, "plan.schema.json"))), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchemaHasTheFieldsOfThePlan(t *testing.T) {
	s := readSchema(t)
	for at, typ := range map[string]reflect.Type{"": reflect.TypeFor[buildcast.Plan](), "$defs/task": reflect.TypeFor[buildcast.Task]()} {
		have := slices.Sorted(maps.Keys(s.get(at + "/properties")))
		if want := fieldsOf(typ); !slices.Equal(have, want) {
			t.Errorf("%q has %q, the fields are %q", at, have, want)
		}
	}
	for name, field := range s.get("properties") {
		if field.(map[string]any)["description"] == "" {
			t.Errorf("%s has no description", name)
		}
	}
}

func TestSchemaHasTheLimitsOfThePlan(t *testing.T) {
	s := readSchema(t)
	for at, want := range map[string]any{
		"properties/tasks/maxItems":                 float64(buildcast.MaxTasks),
		"$defs/task/properties/files/maxProperties": float64(buildcast.MaxFiles),
		"$defs/task/properties/retries/maximum":     float64(buildcast.MaxRetries),
		"properties/deploy/enum":                    []any{"", buildcast.DeployLocal, buildcast.DeployCloudflare, buildcast.DeployCommand, buildcast.DeployNone},
		"$defs/task/properties/prompt/maxLength":    float64(buildcast.MaxPrompt),
	} {
		if got := s.value(at); !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, want %v", at, got, want)
		}
	}
	hours := fmt.Sprintf("%dh", buildcast.MaxTimeout/time.Hour)
	minutes := fmt.Sprintf("%dm", buildcast.DefaultTimeout/time.Minute)
	for _, at := range []string{"properties/timeout", "$defs/task/properties/timeout"} {
		if text := s.get(at)["description"].(string); !strings.Contains(text, hours) || !strings.Contains(text, minutes) {
			t.Errorf("%s says %q; the limit is %s, the default %s", at, text, hours, minutes)
		}
	}
	if text := s.value("$defs/file/anyOf/1/properties/from/description").(string); !strings.Contains(text, fmt.Sprintf("%d MiB", MaxFromSize>>20)) {
		t.Errorf("from says %q", text)
	}
	// The limits that the plan keeps to itself are found by what it takes.
	for at, plan := range map[string]func(n int) buildcast.Plan{
		"$defs/name/maxLength":    func(n int) buildcast.Plan { return buildcast.Plan{Name: strings.Repeat("x", n), Build: "x"} },
		"$defs/command/maxLength": func(n int) buildcast.Plan { return buildcast.Plan{Name: "p", Build: strings.Repeat("x", n)} },
		"$defs/path/maxLength": func(n int) buildcast.Plan {
			return buildcast.Plan{Name: "p", Build: "x", Output: strings.Repeat("x", n)}
		},
	} {
		limit := int(s.value(at).(float64))
		within, beyond := plan(limit), plan(limit+1)
		if within.Validate() != nil || beyond.Validate() == nil {
			t.Errorf("%s is %d: %v, and one more: %v", at, limit, within.Validate(), beyond.Validate())
		}
	}
}

// TestSchemaPathsAreThePlansPaths compares the pattern with the plan's own check.
func TestSchemaPathsAreThePlansPaths(t *testing.T) {
	s := readSchema(t)
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.OneOf(rapid.StringMatching(`[a./\\ ]{0,8}`), rapid.StringMatching(`(\.{0,3}|[a-z]{1,2})(/(\.{0,3}|[a-z]{1,2})){0,3}`), rapid.String()).Draw(t, "path")
		p := buildcast.Plan{Name: "p", Tasks: []buildcast.Task{{Name: "a", Files: map[string]buildcast.File{path: {}}}}}
		bySchema, byPlan := s.check(s.get("$defs/path"), path), p.Validate()
		if (bySchema == nil) != (byPlan == nil) {
			t.Fatalf("%q: schema: %v, plan: %v", path, bySchema, byPlan)
		}
	})
}

func TestSchemaDurationsAreThePlansDurations(t *testing.T) {
	s := readSchema(t)
	pattern := s.value("$defs/duration/pattern").(string)
	rapid.Check(t, func(t *rapid.T) {
		own, _ := buildcast.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "own")).MarshalText()
		if err := s.check(s.get("$defs/duration"), string(own)); err != nil {
			t.Fatal(err)
		}
		var d buildcast.Duration
		text := rapid.StringMatching(strings.ReplaceAll(pattern, "+", "{1,3}")).Draw(t, "text")
		if err := d.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSchemaTakesEveryPlan(t *testing.T) {
	s := readSchema(t)
	rapid.Check(t, func(t *rapid.T) {
		p := anyPlan(t)
		if p.Tasks == nil {
			p.Tasks = []buildcast.Task{}
		}
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.checkJSON(data); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
	})
	for _, name := range []string{"hello-site", "docs-site"} {
		data, err := json.Marshal(readExample(t, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.checkJSON(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := readSchema(t)
	for _, text := range []string{
		`[]`, `{"build":"x"}`, `{"name":"p"}`, `{"name":"","build":"x"}`, `{"name":"  ","build":"x"}`, `{"name":7,"build":"x"}`,
		`{"name":"p","build":"x","nam":1}`, `{"name":"p","build":"x","timeout":"90"}`, `{"name":"p","build":"x","timeout":90}`,
		`{"name":"p","build":"x","deploy":"moon"}`, `{"name":"p","build":"x","output":"../x"}`, `{"name":"p","tasks":[{"name":"a"}]}`,
		`{"name":"p","tasks":[{"run":"x"}]}`, `{"name":"p","tasks":[{"name":"a","run":"x","retries":11}]}`,
		`{"name":"p","tasks":[{"name":"a","run":"x","retries":0.5}]}`, `{"name":"p","tasks":[{"name":"a","run":"x","needs":"b"}]}`,
		`{"name":"p","tasks":[{"name":"a","files":{"/x":""}}]}`, `{"name":"p","tasks":[{"name":"a","files":{"x":7}}]}`,
		`{"name":"p","tasks":[{"name":"a","files":{"x":{}}}]}`, `{"name":"p","tasks":[{"name":"a","files":{"x":{"content":"","from":"b"}}}]}`,
	} {
		if err := s.checkJSON([]byte(text)); err == nil {
			t.Errorf("the schema takes %s", text)
		}
		if _, err := Parse([]byte(text), "plan.json", nil); err == nil {
			t.Errorf("Parse takes %s", text)
		}
	}
}

// schema checks values by the keywords that plan.schema.json uses, and refuses
// to go on at any other, so that nothing in it goes unchecked.
type schema map[string]any

// value is what is at a path such as properties/name.
func (s schema) value(at string) any {
	var v any = map[string]any(s)
	for name := range strings.SplitSeq(strings.Trim(at, "/"), "/") {
		switch c := v.(type) {
		case map[string]any:
			v = c[name]
		case []any:
			v = c[int(name[0]-'0')]
		}
	}
	return v
}

func (s schema) get(at string) map[string]any { m, _ := s.value(at).(map[string]any); return m }

func (s schema) checkJSON(data []byte) error {
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	return s.check(s, v)
}

func (s schema) check(sub map[string]any, v any) error {
	for keyword, want := range sub {
		if ok := s.keyword(sub, keyword, want, v); !ok {
			return fmt.Errorf("%.100v is against %s %.100v", v, keyword, want)
		}
	}
	return nil
}

func (s schema) keyword(sub map[string]any, keyword string, want, v any) bool {
	text, isText := v.(string)
	object, isObject := v.(map[string]any)
	list, isList := v.([]any)
	number, isNumber := v.(float64)
	limit, _ := want.(float64)
	switch keyword {
	case "$schema", "$id", "$defs", "title", "description", "examples", "default":
		return true
	case "$ref":
		return s.check(s.get(strings.TrimPrefix(want.(string), "#/")), v) == nil
	case "anyOf":
		return slices.ContainsFunc(want.([]any), func(one any) bool { return s.check(one.(map[string]any), v) == nil })
	case "enum":
		return slices.Contains(want.([]any), v)
	case "const":
		return v == want
	case "type":
		return map[string]bool{"string": isText, "object": isObject, "array": isList, "integer": isNumber && number == math.Trunc(number), "boolean": v == true || v == false}[want.(string)]
	case "required":
		return !isObject || !slices.ContainsFunc(want.([]any), func(name any) bool { return object[name.(string)] == nil })
	case "properties", "additionalProperties", "propertyNames":
		return s.members(sub, keyword, want, object)
	case "items":
		return !slices.ContainsFunc(list, func(one any) bool { return s.check(want.(map[string]any), one) != nil })
	case "minimum":
		return number >= limit
	case "maximum":
		return number <= limit
	case "minLength":
		return !isText || utf8.RuneCountInString(text) >= int(limit)
	case "maxLength":
		return !isText || utf8.RuneCountInString(text) <= int(limit)
	case "maxItems":
		return len(list) <= int(limit)
	case "minProperties":
		return !isObject || len(object) >= int(limit)
	case "maxProperties":
		return len(object) <= int(limit)
	case "pattern":
		// The schema's \u0000 is Go's \x{0000}.
		pattern := regexp.MustCompile(`\\u([0-9a-f]{4})`).ReplaceAllString(want.(string), `\x{$1}`)
		return !isText || regexp.MustCompile(pattern).MatchString(text)
	case "contentEncoding":
		_, err := base64.StdEncoding.DecodeString(text)
		return err == nil
	}
	panic("the schema uses " + keyword + ", which this test does not know")
}

func (s schema) members(sub map[string]any, keyword string, want any, object map[string]any) bool {
	properties, _ := sub["properties"].(map[string]any)
	for name, v := range object {
		own, known := properties[name].(map[string]any)
		switch keyword {
		case "properties":
			if known && s.check(own, v) != nil {
				return false
			}
		case "propertyNames":
			if s.check(want.(map[string]any), name) != nil {
				return false
			}
		case "additionalProperties":
			if other, ok := want.(map[string]any); !known && (!ok || s.check(other, v) != nil) {
				return false
			}
		}
	}
	return true
}
