package buildcast

import (
	"encoding/json"
	"errors"
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
		t.Error("a number was taken for a file")
	}
}
