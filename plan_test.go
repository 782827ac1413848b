package buildcast

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"
)

func plan(tasks ...Task) Plan { return Plan{Name: "p", Tasks: tasks} }

func TestPlanValidate(t *testing.T) {
	run := func(name string, needs ...string) Task { return Task{Name: name, Needs: needs, Run: "true"} }
	file := func(path string) Plan {
		return plan(Task{Name: "a", Files: map[string]File{path: {Content: []byte("x")}}})
	}
	tests := []struct {
		name string
		plan Plan
		at   string // "" : valid
	}{
		{"tasks", plan(run("a"), run("b", "a"), run("c", "a", "b")), ""},
		{"needs may point ahead", plan(run("a", "b"), run("b")), ""},
		{"only a build command", Plan{Name: "p", Build: "make"}, ""},
		{"a file in a directory", file("src/index.html"), ""},
		{"dots in a name", file("a..b/.c"), ""},
		{"no name", Plan{Build: "make"}, "name"},
		{"nothing to do", Plan{Name: "p"}, "tasks"},
		{"too many tasks", plan(make([]Task, MaxTasks+1)...), "tasks"},
		{"a task without a name", plan(run(" ")), "tasks[0].name"},
		{"a task that does nothing", plan(Task{Name: "a"}), "tasks[0]"},
		{"the same name twice", plan(run("a"), run("a")), "tasks[1].name"},
		{"an unknown need", plan(run("a"), run("b", "a", "x")), "tasks[1].needs[1]"},
		{"needs itself", plan(run("a", "a")), "tasks[0].needs"},
		{"a cycle", plan(run("a"), run("b", "c"), run("c", "b")), "tasks[1].needs"},
		{"too many retries", plan(Task{Name: "a", Run: "true", Retries: 11}), "tasks[0].retries"},
		{"timeout too long", plan(Task{Name: "a", Run: "true", Timeout: Duration(25 * time.Hour)}), "tasks[0].timeout"},
		{"parent directory", file("../x"), "tasks[0].files"},
		{"parent in the middle", file("a/../../x"), "tasks[0].files"},
		{"absolute", file("/etc/passwd"), "tasks[0].files"},
		{"backslash", file(`a\..\x`), "tasks[0].files"},
		{"zero byte", file("a\x00"), "tasks[0].files"},
		{"not in shortest form", file("./a"), "tasks[0].files"},
		{"output outside", Plan{Name: "p", Build: "make", Output: "../dist"}, "output"},
		{"unknown target", Plan{Name: "p", Build: "make", Deploy: "moon"}, "deploy"},
		{"zero byte in a command", Plan{Name: "p", Build: "a\x00b"}, "build"},
		{"command too long", Plan{Name: "p", Install: strings.Repeat("x", 64<<10+1)}, "install"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.plan.Validate()
			if tt.at == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if e, ok := errors.AsType[*Error](err); !ok || e.Field != tt.at {
				t.Fatalf("error %v, want one at %q", err, tt.at)
			}
		})
	}
}

// One error lists several mistakes, each with its field; the error's own field is that
// of the first.
func TestPlanTellsAllMistakes(t *testing.T) {
	p := Plan{Output: "../x", Deploy: "moon", Tasks: []Task{{Name: "a", Retries: 11}, {Name: "a", Run: "x", Needs: []string{"y"}}}}
	err := p.Validate()
	var fields []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		field, _, _ := strings.Cut(line, ": ")
		fields = append(fields, field)
	}
	want := "name output deploy tasks[0] tasks[0].retries tasks[1].name tasks[1].needs[0]"
	if got := strings.Join(fields, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if e, _ := errors.AsType[*Error](err); e.Field != "name" || e.Code != InvalidArgument {
		t.Errorf("%+v", e)
	}
	many := plan(make([]Task, 100)...)
	lines := strings.Split(many.Validate().Error(), "\n")
	if len(lines) != MaxProblems+1 || lines[MaxProblems] != "and 180 more" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
}

// The error names a cycle from task to task, without other tasks that wait for it.
func TestCycleIsNamed(t *testing.T) {
	run := func(name string, needs ...string) Task { return Task{Name: name, Needs: needs, Run: "true"} }
	chain := []Task{run("0", "99")}
	for i := 1; i < 100; i++ {
		chain = append(chain, run(strconv.Itoa(i), strconv.Itoa(i-1)))
	}
	for want, p := range map[string]Plan{
		`"a" -> "b" -> "a"`:                              plan(run("a", "b"), run("b", "a")),
		`"b" -> "d" -> "c" -> "b"`:                       plan(run("a", "x", "c"), run("b", "d"), run("c", "b"), run("d", "x", "c"), run("x")),
		`"a" -> "a": remove` + "|" + `"b" -> "c" -> "b"`: plan(run("a", "a"), run("b", "c"), run("c", "b", "a")),
		`"0" -> "99" -> "98" -> "97" -> "96" -> "95" -> "94" -> "93" -> "92" -> (91 more) -> "0": remove`: plan(chain...),
	} {
		err := p.Validate()
		for part := range strings.SplitSeq(want, "|") {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%v, want %s", err, part)
			}
		}
	}
}

func TestFileJSON(t *testing.T) {
	for _, f := range []File{{Content: []byte("text é")}, {Content: []byte{0xff, 0, 1}}, {From: "a.css"}, {Content: []byte{}}} {
		b, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		var back File
		if err := json.Unmarshal(b, &back); err != nil || string(back.Content) != string(f.Content) || back.From != f.From {
			t.Errorf("%s -> %+v, %v", b, back, err)
		}
	}
	var f File
	if err := json.Unmarshal([]byte("7"), &f); err == nil {
		t.Error("a number was accepted as a file")
	}
}
