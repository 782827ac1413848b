package planfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/buildcast/buildcast"
)

func TestParse(t *testing.T) {
	const text = `
name: site
tasks:
  - name: write
    files:
      index.html: |
        <h1>Hello</h1>
      logo.bin: {base64: AP8B}
      empty.txt: ""
      style.css: {from: ./assets/style.css}
      copied: {content: "x\ty"}
    retries: 2
    timeout: 1m30s
  - name: check
    needs: [write]
    run: |
      test -f index.html
install: npm ci
build: npm run build
timeout: 5m
output: dist
deploy: none
`
	want := &buildcast.Plan{
		Name: "site",
		Tasks: []buildcast.Task{{
			Name: "write",
			Files: map[string]buildcast.File{
				"index.html": {Content: []byte("<h1>Hello</h1>\n")},
				"logo.bin":   {Content: []byte{0, 255, 1}},
				"empty.txt":  {Content: []byte{}},
				"style.css":  {Content: []byte("h1{}")},
				"copied":     {Content: []byte("x\ty")},
			},
			Retries: 2,
			Timeout: buildcast.Duration(90 * time.Second),
		}, {
			Name: "check", Needs: []string{"write"}, Run: "test -f index.html\n",
		}},
		Install: "npm ci", Build: "npm run build", Timeout: buildcast.Duration(5 * time.Minute), Output: "dist", Deploy: "none",
	}
	got, err := Parse([]byte(text), "plan.yaml", fstest.MapFS{"assets/style.css": {Data: []byte("h1{}")}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// task is a plan with one task, which begins in line 3 and has its fields in column 5.
func task(fields string) string {
	return "name: p\ntasks:\n  - name: a\n    " + strings.ReplaceAll(fields, "\n", "\n    ")
}

func TestParseErrors(t *testing.T) {
	tests := []struct {
		name, text string
		want       string // all of the error; * stands for anything
	}{
		{"a need that is no task", task("run: x\nneeds:\n  - a\n  - b"), `plan.yaml:6:7: tasks[0].needs: tasks wait for each other: "a" -> "a": remove one of these needs` + "\n" + `plan.yaml:7:9: tasks[0].needs[1]: task "a" needs "b", which is not a task of this plan`},
		{"unknown field", "nam: p\nbuild: make", `plan.yaml:1:1: unknown field "nam": did you mean "name"?*`},
		{"unknown field of a task", task("Run: x"), `plan.yaml:4:5: tasks[0]: unknown field "Run": did you mean "run"?`},
		{"a field as other tools call it", task("run: x\ndepends_on: [b]"), `plan.yaml:5:5: tasks[0]: unknown field "depends_on": did you mean "needs"?`},
		{"a field like no other", task("run: x\nsomething: 1"), `plan.yaml:5:5: tasks[0]: unknown field "something": use env, files, inputs, name, needs, network, outputs, prompt, retries, run, secrets, timeout`},
		{"a field twice", "name: p\nbuild: a\nbuild: b", `plan.yaml:3:1: "build" is given twice, first in line 2`},
		{"a file twice", task("files:\n  a: x\n  a: y"), `plan.yaml:6:7: tasks[0].files: "a" is given twice, first in line 5`},
		{"the same task twice", "name: p\ntasks:\n- {name: a, run: x}\n- {name: a, run: x}", `plan.yaml:4:10: tasks[1].name: two tasks are called "a"*`},
		{"no name", "build: make", `plan.yaml:1:1: name: name is 0 bytes*`},
		{"a number for a name", "name: 27\nbuild: make", `plan.yaml:1:7: name: want text, got the number 27: write it in quotes, "27"`},
		{"a boolean for a command", task("run: true"), `plan.yaml:4:10: tasks[0].run: want text, got the boolean true: write it in quotes, "true"`},
		{"a list for a command", task("run: [a, b]"), `plan.yaml:4:10: tasks[0].run: want text, got a list`},
		{"text for a list", task("run: x\nneeds: b"), `plan.yaml:5:12: tasks[0].needs: want a list, got the text "b"`},
		{"a list for the plan", "- a", `plan.yaml:1:1: want an object with fields, got a list`},
		{"text for a task", "name: p\ntasks: [a]", `plan.yaml:2:9: tasks[0]: want an object with fields, got the text "a"`},
		{"an object as a key", "name: p\n? {a: b}\n: c", `plan.yaml:2:3: want a name before the colon, got an object`},
		{"text for a number", task("run: x\nretries: many"), `plan.yaml:5:14: tasks[0].retries: want a whole number, got the text "many"`},
		{"half a retry", task("run: x\nretries: 0.5"), `plan.yaml:5:14: tasks[0].retries: want a whole number, got the number 0.5`},
		{"too many retries", task("run: x\nretries: 11"), `plan.yaml:5:14: tasks[0].retries: retries is 11: use 0 to 10`},
		{"a duration without a unit", "name: p\nbuild: x\ntimeout: 90", `plan.yaml:3:10: timeout: "90" is not a duration: write a number and a unit*`},
		{"a list for a duration", "name: p\nbuild: x\ntimeout: [1s]", `plan.yaml:3:10: timeout: want a duration such as 90s or 5m, got a list`},
		{"timeout too long", "name: p\nbuild: x\ntimeout: 25h", `plan.yaml:3:10: timeout: timeout is 25h0m0s, the limit is 24h0m0s`},
		{"a path that leads out", task("files:\n  ../x: y"), `plan.yaml:5:7: tasks[0].files: path "../x" is not allowed*`},
		{"a task that does nothing", "name: p\ntasks:\n  - name: a", `plan.yaml:3:5: tasks[0]: task "a" does nothing*`},
		{"a command without a value", "name: p\nbuild:", `plan.yaml:1:1: tasks: the plan does nothing*`},
		{"unknown target", "name: p\nbuild: x\ndeploy: moon", `plan.yaml:3:9: deploy: deploy target "moon" is not known*`},
		{"nothing for a file", task("files:\n  a:"), `plan.yaml:5:9: tasks[0].files.a: want text, got nothing: write "" if it is meant to be empty`},
		{"a date for a file", task("files:\n  a: 2026-01-01"), `plan.yaml:5:10: tasks[0].files.a: want text, got the date 2026-01-01: write it in quotes, "2026-01-01"`},
		{"a file without content", task("files:\n  a: {}"), `plan.yaml:5:10: tasks[0].files.a: give the file as its content, or with one of*`},
		{"a file with two contents", task("files:\n  a: {content: x, base64: eA==}"), `plan.yaml:5:10: tasks[0].files.a: give the file as its content*`},
		{"not base64", task("files:\n  a: {base64: '!'}"), `plan.yaml:5:19: tasks[0].files.a.base64: not valid base64*`},
		{"an unknown tag", "name: !thing p\nbuild: x", `plan.yaml:1:7: name: want text, got the tag !thing`},
		{"an alias", "name: &n p\nbuild: *n", `plan.yaml:2:8: build: want text, got the alias *n: plans have no aliases, write the value out`},
		{"a merge key", "x: &x {build: b}\n<<: *x", `plan.yaml:1:1: unknown field "x"*` + "\n" + `plan.yaml:2:1: unknown field "<<"*`},
		{"several documents", "name: p\nbuild: x\n---\nname: q", `plan.yaml:3:1: a second document begins here: a plan file holds one plan`},
		{"a second document that is broken", "name: p\nbuild: x\n---\n{", `plan.yaml:*: not valid YAML: *`},
		{"nothing", "", `plan.yaml: the plan file is empty`},
		{"only comments", "# a plan\n", `plan.yaml: the plan file is empty`},
		{"null", "null", `plan.yaml:1:1: want an object with fields, got nothing`},
		{"not YAML", "name: a: b", `plan.yaml:1:8: not valid YAML: mapping values are not allowed in this context: quote the value of name with ' '*`},
		{"a command with a colon", task(`run: echo "a: b" && echo c: d`), "plan.yaml:4:17: not valid YAML: *: quote the value of run with ' ', or write `run: |` and the value in the lines below"},
		{"a command that begins with a quote", task(`run: "a" && b`), "plan.yaml:4:14: not valid YAML: *: quote the value of run with ' '*"},
		{"read and checked", "name: 7\ntimeout: 25h\ntasks:\n  - name: a\n    command: x\n  - name: b\n    run: x\n    needs: [c]\n    retries: 99\ndeploy: moon", "plan.yaml:1:7: name: want text*\nplan.yaml:2:10: timeout: timeout is 25h*\nplan.yaml:5:5: tasks[0]: unknown field \"command\"*\nplan.yaml:9:14: tasks[1].retries: *\nplan.yaml:10:9: deploy: *"},
		{"a tab", "name: p\ntasks:\n\t- name: a", `plan.yaml:3:1: not valid YAML: *: indent with spaces, not tabs`},
		{"an unknown anchor", "name: *n", `plan.yaml:1:7: not valid YAML: unknown anchor 'n' referenced: quote the value of name*`},
		{"a control character", "name: p\nbuild: a\x01", `plan.yaml:2:9: not valid YAML: control characters are not allowed*`},
		{"not UTF-8", "name: p\nbuild: é\xff", `plan.yaml:2:9: not valid UTF-8: save the file as UTF-8*`},
		{"UTF-16", "\xff\xfen\x00a\x00", `plan.yaml:1:1: not valid UTF-8*`},
		{"a zero byte in a command", task(`run: "a\0b"`), `plan.yaml:4:10: tasks[0].run: the command must be UTF-8 without zero bytes`},
		{"two mistakes", "nam: p\nbuild: 1", "plan.yaml:1:1: unknown field*\nplan.yaml:2:8: build: want text*"},
		{"from without a file", task("files:\n  a: {from: b}"), `plan.yaml:5:17: tasks[0].files.a.from: only the plan file itself was sent*`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.text), "plan.yaml", nil)
			if err == nil {
				t.Fatal("no error")
			}
			if !matches(tt.want, err.Error()) {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
			if code := buildcast.CodeOf(err); code != buildcast.InvalidArgument {
				t.Errorf("code %s", code)
			}
		})
	}
}

// matches reports whether text is pattern, in which * stands for anything.
// Aliases have a star of their own, which stands for itself as well.
func matches(pattern, text string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !strings.HasPrefix(text, first) {
		return false
	}
	text = text[len(first):]
	if !star {
		return text == ""
	}
	for i := range len(text) + 1 {
		if matches(rest, text[i:]) {
			return true
		}
	}
	return false
}

func TestErrorNamesTheFirstField(t *testing.T) {
	_, err := Parse([]byte(task("run: 1\nneeds: 2")), "plan.yaml", nil)
	e, ok := errors.AsType[*buildcast.Error](err)
	if !ok || e.Field != "tasks[0].run" {
		t.Errorf("error %#v", err)
	}
}

func TestErrorsAreBounded(t *testing.T) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "field%d: 1\n", i)
	}
	_, err := Parse([]byte(text.String()), "plan.yaml", nil)
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != buildcast.MaxProblems+1 || lines[buildcast.MaxProblems] != "plan.yaml: and 980 more" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
}

func TestParseTooLarge(t *testing.T) {
	base := "name: p\nbuild: x\n#"
	if _, err := Parse([]byte(base+strings.Repeat("x", MaxSize-len(base))), "plan.yaml", nil); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	_, err := Parse([]byte(base+strings.Repeat("x", MaxSize)), "plan.yaml", nil)
	if buildcast.CodeOf(err) != buildcast.TooLarge || !strings.Contains(err.Error(), "1048576") {
		t.Errorf("error %v", err)
	}
}

// TestAliasesAreNotExpanded would take all memory if they were.
func TestAliasesAreNotExpanded(t *testing.T) {
	text := "name: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'z'; c++ {
		text += fmt.Sprintf("%c: &%c [%s*%c]\n", c, c, strings.Repeat(fmt.Sprintf("*%c, ", c-1), 8), c-1)
	}
	if _, err := Parse([]byte(text), "plan.yaml", nil); err == nil || !strings.Contains(err.Error(), `unknown field "b"`) {
		t.Errorf("error %v", err)
	}
	if _, err := Parse([]byte("&a [*a]"), "plan.yaml", nil); err == nil {
		t.Error("a list that holds itself was taken")
	}
}

func TestDeepNesting(t *testing.T) {
	for _, name := range []string{"plan.yaml", "plan.json"} {
		if _, err := Parse([]byte(strings.Repeat("[", 200_000)), name, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
		deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
		if _, err := Parse([]byte(`{"name": `+deep+`}`), name, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestParseJSON(t *testing.T) {
	p, err := Parse([]byte("\ufeff{\n\t\"name\": \"\\ud83d\\ude00\u0085\\u2028\",\n\t\"build\": \"a\\/b\", \"tasks\": null, \"output\": null}"), "plan.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.Build != "a/b" || p.Name != "😀\u0085\u2028" {
		t.Errorf("plan %+v", p)
	}
	for _, tt := range []struct{ text, want string }{
		{`{"name": "p",` + "\n" + ` "build": [1]}`, `plan.json:2:11: build: want text, got a list`},
		{`{"name": "é", "build": 7}`, `plan.json:1:24: build: want text, got the number 7*`},
		{`{"name": "p", "build": false}`, `plan.json:1:24: build: want text, got the boolean false*`},
		{`{"name": "p", "name": "q"}`, `plan.json:1:15: "name" is given twice, first in line 1`},
		{`{"name": "p", "build": "x", "timeout": "soon"}`, `plan.json:1:40: timeout: "soon" is not a duration*`},
		{`{"name": "p\ud83d"}`, `plan.json:1:12: not valid Unicode: *surrogate*`},
		{`{"name": "p", "tasks": [{"name": "t\udc00"}]}`, `plan.json:1:36: not valid Unicode: *surrogate*`},
		{`{"name": "p",}`, `plan.json:1:14: not valid JSON: *`},
		{`{"name": "p"} {}`, `plan.json:1:15: not valid JSON: *`},
		{"name: p", `plan.json:1:2: not valid JSON: *`},
		{``, `plan.json:*: not valid JSON: *`},
	} {
		if _, err := Parse([]byte(tt.text), "plan.json", nil); err == nil || !matches(tt.want, err.Error()) {
			t.Errorf("%s\ngot  %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

// TestYAMLAndJSONGiveTheSame reads plans that are both.
func TestYAMLAndJSONGiveTheSame(t *testing.T) {
	const text = `{"name": "p", "tasks": [{"name": "a", "files": {"x": "y", "z": {"base64": "AA=="}}, "retries": 3, "timeout": "1s"}], "build": "b"}`
	fromJSON, err := Parse([]byte(text), "plan.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	fromYAML, err := Parse([]byte("# not JSON\n"+text), "plan.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromJSON, fromYAML); diff != "" {
		t.Error(diff)
	}
}

func anyPlan(t *rapid.T) *buildcast.Plan {
	name := rapid.StringMatching(`[^\pZ\pC][^\pC]{0,20}`)
	path := rapid.StringMatching(`[a-zé"' :#&*-]{1,8}(/[a-z0-9._-]{1,5}x){0,3}`)
	command := rapid.Map(rapid.String(), func(s string) string { return strings.ReplaceAll(s, "\x00", "") })
	timeout := rapid.Map(rapid.Int64Range(0, int64(buildcast.MaxTimeout)), func(d int64) buildcast.Duration { return buildcast.Duration(d) })
	content := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }))
	p := &buildcast.Plan{
		Name: name.Draw(t, "name"), Install: command.Draw(t, "install"), Build: "true", Timeout: timeout.Draw(t, "timeout"),
		Output: rapid.OneOf(rapid.Just(""), rapid.Just("."), path).Draw(t, "output"),
		Deploy: rapid.SampledFrom([]string{"", "local", "cloudflare", "none"}).Draw(t, "deploy"), Production: rapid.Bool().Draw(t, "production"),
	}
	for _, n := range rapid.SliceOfNDistinct(name, 0, 6, rapid.ID[string]).Draw(t, "tasks") {
		task := buildcast.Task{Name: n, Run: "x" + command.Draw(t, "run"), Retries: rapid.IntRange(0, buildcast.MaxRetries).Draw(t, "retries"), Timeout: timeout.Draw(t, "timeout")}
		for _, other := range p.Tasks {
			if rapid.Bool().Draw(t, "needs") {
				task.Needs = append(task.Needs, other.Name)
			}
		}
		for _, name := range rapid.SliceOfNDistinct(path, 0, 4, rapid.ID[string]).Draw(t, "files") {
			if task.Files == nil {
				task.Files = make(map[string]buildcast.File)
			}
			task.Files[name] = buildcast.File{Content: content.Draw(t, "content")}
		}
		p.Tasks = append(p.Tasks, task)
	}
	return p
}

// TestRoundTrip keeps a field that is new in the plan from being forgotten here.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyPlan(t)
		if err := want.Validate(); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(data, "plan.json", nil)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParse(f *testing.F) {
	outside := filepath.Join(f.TempDir(), "secret.txt")
	const secret = "what is outside"
	put(f, outside, []byte(secret))
	dir := filepath.Join(filepath.Dir(outside), "plans")
	put(f, filepath.Join(dir, "inside.txt"), []byte("inside"))
	if err := os.Symlink(outside, filepath.Join(dir, "link.txt")); err != nil {
		f.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { root.Close() })

	f.Add([]byte("name: p\nbuild: make\n"))
	f.Add([]byte(task("files:\n  a: {from: inside.txt}\n  b: {from: link.txt}\n  c: {from: ../secret.txt}\n  d: {from: .}")))
	f.Add([]byte(task("needs: [b]\nrun: |\n  x\nretries: 1\ntimeout: 5m")))
	f.Add([]byte(`{"name":"p","tasks":[{"name":"a","files":{"x":{"base64":"AA=="}}}],"build":"x"}`))
	f.Add([]byte("a: &a [*a]\n---\n? {}\n: !!binary x"))
	f.Add([]byte("\ufeffname: \"\\ud83d\\ude00\""))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data, "plan.yaml", root.FS())
		if err != nil {
			if e, ok := errors.AsType[*buildcast.Error](err); !ok || e.Message == "" {
				t.Errorf("error %#v", err)
			}
			return
		}
		if err := p.Validate(); err != nil {
			t.Errorf("a plan that is not valid was taken: %v", err)
		}
		for _, task := range p.Tasks {
			for name, f := range task.Files {
				if f.From != "" || strings.Contains(string(f.Content), secret) {
					t.Errorf("file %q is %+v", name, f)
				}
			}
		}
	})
}
