package planner

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
)

func TestReadPlan(t *testing.T) {
	p, err := ReadPlan(json.RawMessage(`{"name":"x","tasks":[{"name":"a","prompt":"write"},{"name":"b","needs":["a"],"run":"true","retries":2,"timeout":"90s","files":[{"path":"a/b.txt","content":"é"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if !p.Detect || p.Network || len(p.Secrets) > 0 || p.Deploy != "" || p.Production {
		t.Errorf("%+v", p)
	}
	if b := p.Tasks[1]; string(b.Files["a/b.txt"].Content) != "é" || b.Retries != 2 || b.Timeout.Or(0).Seconds() != 90 || b.Needs[0] != "a" {
		t.Errorf("%+v", b)
	}
	if p, err := ReadPlan(json.RawMessage(`{"name":"x","tasks":[],"build":"make"}`)); err != nil || p.Detect {
		t.Error(p, err)
	}
}

// What a planner may not have, and what is malformed: refused, with a reason that a
// model can act on.
func TestReadPlanRefuses(t *testing.T) {
	for body, want := range map[string]string{
		`{"name":"x","tasks":[{"name":"a","run":"true","secrets":["TOKEN"]}]}`:                                   `unknown field "secrets"`,
		`{"name":"x","tasks":[{"name":"a","run":"true","network":true}]}`:                                        `unknown field "network"`,
		`{"name":"x","tasks":[{"name":"a","run":"true"}],"production":true}`:                                     `unknown field "production"`,
		`{"name":"x","tasks":[{"name":"a","run":"true"}],"deploy":"cloudflare"}`:                                 `unknown field "deploy"`,
		`{"name":"x","tasks":[{"name":"a","run":"true"}],"env":{"LD_PRELOAD":"x"}}`:                              `unknown field "env"`,
		`{"name":"x","tasks":[{"name":"a","files":[{"path":"p","from":"/etc/passwd"}]}]}`:                        `unknown field "from"`,
		`{"name":"x","tasks":[{"name":"a","files":[{"path":"../evil","content":""}]}]}`:                          `path "../evil" is not allowed`,
		`{"name":"x","tasks":[{"name":"a","files":[{"path":"p","content":""},{"path":"p","content":""}]}]}`:      `the path "p" is there twice`,
		`{"name":"x","tasks":[{"name":"a","run":"true","needs":["b"]},{"name":"b","run":"true","needs":["a"]}]}`: `tasks wait for each other`,
		`{"name":"x","tasks":[]}`: `the plan does nothing`,
		`{"name":"x","tasks":{}}`: `cannot unmarshal object`,
		`{}{}`:                    `more than one value`,
		`null`:                    `name is 0 bytes`,
		`[`:                       `does not follow the schema`,
		`{"name":"x","tasks":[{"name":"a","prompt":"` + strings.Repeat("x", buildcast.MaxPrompt+1) + `"}]}`: `the prompt is 32769 bytes, the limit is 32768`,
	} {
		if _, err := ReadPlan(json.RawMessage(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: %v, want %s", body, err, want)
		}
	}
	for body, want := range map[string]string{
		`{"files":[]}`: "at least one file",
		`{"files":[{"path":"/etc/passwd","content":""}]}`: "is not allowed",
		`{"files":[{"path":"","content":""}]}`:            "is not allowed",
	} {
		if _, err := ReadFiles(json.RawMessage(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

// Whatever a planner answers, what is taken passes the check of plans.
func FuzzReadPlan(f *testing.F) {
	f.Add([]byte(goodPlan))
	f.Add([]byte(badPlan))
	f.Add([]byte(`{"name":"x","tasks":[{"name":"a","needs":["a"]}],"install":"i","output":"../x"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if p, err := ReadPlan(body); err == nil && p.Validate() != nil {
			t.Error(p.Validate())
		}
		if files, err := ReadFiles(body); err == nil && len(files) == 0 {
			t.Error("no files")
		}
	})
}

// namesOf reads the names in pieces of n bytes.
func namesOf(text string, n int) []string {
	var names Names
	for piece := range slices.Chunk([]byte(text), max(n, 1)) {
		_, _ = names.Write(piece)
	}
	return names.Tasks
}

func TestNamesInHalfAPlan(t *testing.T) {
	text := `{"name":"not me","tasks":[{"files":[{"name":"nor me","path":"tasks"}],"name":"one \"1\" é"},{"name":"tw\u006f","needs":["one"]},{"name":"thr`
	want := []string{`one "1" é`, "two"}
	for n := 1; n < len(text); n++ {
		if got := namesOf(text, n); !slices.Equal(got, want) {
			t.Fatalf("in pieces of %d: %q", n, got)
		}
	}
}

// Of a whole plan, all names are found, in whatever pieces it comes; of anything else,
// nothing breaks.
func FuzzNames(f *testing.F) {
	f.Add([]byte(goodPlan), 3)
	f.Add([]byte(`{"tasks":[{"name":"a"},{"name":`), 1)
	f.Add([]byte(`]]]}}}{"tasks":[[{"name":"x"}]]"\`), 2)
	f.Fuzz(func(t *testing.T, text []byte, n int) {
		got := namesOf(string(text), n)
		if whole := namesOf(string(text), len(text)); !slices.Equal(got, whole) {
			t.Errorf("%q in pieces, %q as a whole", got, whole)
		}
		p, err := ReadPlan(text)
		if err != nil || !strings.Contains(string(text), `"tasks":[{"name":`) {
			return
		}
		for i, task := range p.Tasks[:min(len(p.Tasks), 1000)] {
			if strings.Count(string(text), `"name"`) == len(p.Tasks)+1 && (i >= len(got) || got[i] != task.Name) {
				t.Errorf("task %d is %q, found %q", i, task.Name, got)
			}
		}
	})
}

// The schemas name the fields that are read, and no others.
func TestSchemasNameTheFields(t *testing.T) {
	var plan struct {
		Properties map[string]struct {
			Items struct {
				Properties map[string]any `json:"properties"`
			} `json:"items"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(PlanSchema, &plan); err != nil {
		t.Fatal(err)
	}
	full := `{"name":"x","tasks":[{"name":"a","needs":[],"prompt":"p","files":[],"run":"r","retries":1,"timeout":"1s"}],"install":"i","build":"b","output":"o"}`
	var fields map[string]json.RawMessage
	if _, err := ReadPlan(json.RawMessage(full)); err != nil || json.Unmarshal([]byte(full), &fields) != nil {
		t.Fatal(err)
	}
	if len(fields) != len(plan.Properties) || len(plan.Properties["tasks"].Items.Properties) != 7 {
		t.Errorf("%d fields, %d in the schema", len(fields), len(plan.Properties))
	}
	for name := range fields {
		if _, ok := plan.Properties[name]; !ok {
			t.Errorf("the schema has no %s", name)
		}
	}
}

var fence = regexp.MustCompile("(?s)```json schema=([a-z.]+)\n(.*?)```")

// The schemas in docs/planner.md are those of the code.
func TestDocsHaveTheSchemas(t *testing.T) {
	text, err := os.ReadFile("../../docs/planner.md")
	if err != nil {
		t.Fatal(err)
	}
	code := map[string]json.RawMessage{"request": RequestSchema, "plan": PlanSchema, "files": FilesSchema}
	for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
		if strings.TrimSpace(m[2]) != strings.TrimSpace(string(code[m[1]])) {
			t.Errorf("docs/planner.md: the schema of %s differs from internal/planner/%[1]s.schema.json", m[1])
		}
		delete(code, m[1])
	}
	for name := range code {
		t.Errorf("docs/planner.md lacks the schema of %s: write it after ```json schema=%[1]s", name)
	}
}

var example = regexp.MustCompile("(?s)```json answer=([a-z]+)\n(.*?)```")

// The answers in docs/planner.md are taken.
func TestDocsExamplesAreTaken(t *testing.T) {
	text, err := os.ReadFile("../../docs/planner.md")
	if err != nil {
		t.Fatal(err)
	}
	found := example.FindAllStringSubmatch(string(text), -1)
	for _, m := range found {
		var err error
		if m[1] == string(ForPlan) {
			_, err = ReadPlan(json.RawMessage(m[2]))
		} else {
			_, err = ReadFiles(json.RawMessage(m[2]))
		}
		if err != nil {
			t.Error(fmt.Errorf("%s: %w", m[1], err))
		}
	}
	if len(found) < 2 {
		t.Errorf("%d examples", len(found))
	}
}
