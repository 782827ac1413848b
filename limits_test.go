package buildcast

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestWhatIDsAndTypesAreMadeOf(t *testing.T) {
	const small, digits = "abcdefghijklmnopqrstuvwxyz", "0123456789"
	for b := range 256 {
		c := string([]byte{byte(b)})
		for _, test := range []struct {
			what    string
			err     error
			allowed string
		}{
			{"a build id", ValidateBuildID(c), small + strings.ToUpper(small) + digits + "_-"},
			{"the begin of a type", ValidateEventType(c), small},
			{"a type", ValidateEventType("a" + c), small + digits + "_.-"},
		} {
			if (test.err == nil) != strings.Contains(test.allowed, c) {
				t.Errorf("%q in %s: %v", c, test.what, test.err)
			}
		}
		key := NewEvent{Type: "a", Key: "a" + string(rune(b)) + "z"}
		if (key.Validate() == nil) != (b >= 0x20 && b != 0x7f) {
			t.Errorf("%q in a key: %v", key.Key, key.Validate())
		}
	}
}

// A value at its limit is accepted, and a value one beyond the limit is not.
func TestLimitsAreExact(t *testing.T) {
	data := func(text string) error {
		e := NewEvent{Type: "a", Data: json.RawMessage(text)}
		return e.Validate()
	}
	key := func(n int) error {
		e := NewEvent{Type: "a", Key: strings.Repeat("k", n)}
		return e.Validate()
	}
	withTask := func(change func(*Task)) error {
		p := plan(Task{Name: "a", Run: "true"})
		change(&p.Tasks[0])
		return p.Validate()
	}
	files := func(n int) error {
		p := plan(Task{Name: "a", Files: map[string]File{}}, Task{Name: "b", Files: map[string]File{"one": {}}}, Task{Name: "c", Files: map[string]File{"two": {}}})
		for i := range n - 2 {
			p.Tasks[0].Files[fmt.Sprint(i)] = File{}
		}
		return p.Validate()
	}
	tasks := func(n int) error {
		p := plan()
		for i := range n {
			p.Tasks = append(p.Tasks, Task{Name: fmt.Sprint(i), Run: "true"})
		}
		return p.Validate()
	}
	for name, test := range map[string]struct {
		check func(n int) error
		limit int
		field string
	}{
		"build id":   {func(n int) error { return ValidateBuildID(strings.Repeat("a", n)) }, MaxBuildID, "buildId"},
		"event type": {func(n int) error { return ValidateEventType(strings.Repeat("a", n)) }, MaxEventType, "type"},
		"key":        {key, MaxEventKey, "key"},
		"data":       {func(n int) error { return data(`"` + strings.Repeat("x", n-2) + `"`) }, MaxEventData, "data"},
		"digits":     {func(n int) error { return data("-1." + strings.Repeat("0", n-1)) }, maxDigits, "data"},
		"depth":      {func(n int) error { return data(strings.Repeat("[", n) + strings.Repeat("]", n)) }, maxDataDepth, "data"},
		"tasks":      {tasks, MaxTasks, "tasks"},
		"files":      {files, MaxFiles, "tasks[2].files"},
		"name":       {func(n int) error { return withTask(func(t *Task) { t.Name = strings.Repeat("n", n) }) }, maxName, "tasks[0].name"},
		"retries":    {func(n int) error { return withTask(func(t *Task) { t.Retries = n }) }, MaxRetries, "tasks[0].retries"},
		"command":    {func(n int) error { return withTask(func(t *Task) { t.Run = strings.Repeat("x", n) }) }, maxCommand, "tasks[0].run"},
		"timeout":    {func(n int) error { return withTask(func(t *Task) { t.Timeout = Duration(n) }) }, int(MaxTimeout), "tasks[0].timeout"},
		"timeout of the plan": {func(n int) error {
			p := Plan{Name: "p", Build: "make", Timeout: Duration(n)}
			return p.Validate()
		}, int(MaxTimeout), "timeout"},
	} {
		if err := test.check(test.limit); err != nil {
			t.Errorf("%s: %d is refused: %v", name, test.limit, err)
		}
		err := test.check(test.limit + 1)
		if e, ok := errors.AsType[*Error](err); !ok || e.Field != test.field {
			t.Errorf("%s: %d: error %v, want one at %s", name, test.limit+1, err, test.field)
		}
	}
}

// Arrays and objects that are closed, and digits in strings, do not count; the
// surrogates are D800 to DFFF.
func TestDataIsReadToItsEnd(t *testing.T) {
	for data, valid := range map[string]bool{
		"[" + strings.Repeat("[],", 200) + "{}]":  true,
		"[" + strings.Repeat("[1],", 200) + "{}]": true,
		"12": true,
		`[1,"` + strings.Repeat("9", 2000) + `"]`: true,
		`"\ud800\udc00"`:       true,
		`"\uDBFF\uDFFF"`:       true,
		`"\ud7ff"`:             true,
		`"\ue000"`:             true,
		`"\ud800"`:             false,
		`"\udbff"`:             false,
		`"\udc00"`:             false,
		`"\udfff"`:             false,
		`"\ud800\ud800\udc00"`: false,
	} {
		e := NewEvent{Type: "a", Data: json.RawMessage(data)}
		if err := e.Validate(); (err == nil) != valid {
			t.Errorf("%.40s: %v", data, err)
		}
	}
}

func TestReservedKeys(t *testing.T) {
	for key, valid := range map[string]bool{"": true, "buildcast": true, "my:buildcast:": true, "buildcast:": false, "buildcast:cancelled": false} {
		if err := ValidateUserKey(key); (err == nil) != valid {
			t.Errorf("%q: %v", key, err)
		}
	}
}

// An error names all tasks of a cycle, up to the maximum of tasks.
func TestLongestCycleIsToldWhole(t *testing.T) {
	p := plan()
	want := ""
	for i := range maxCycle {
		p.Tasks = append(p.Tasks, Task{Name: fmt.Sprint(i), Run: "true", Needs: []string{fmt.Sprint((i + 1) % maxCycle)}})
		want += fmt.Sprintf("%q -> ", fmt.Sprint(i))
	}
	if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want+`"0"`) {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestATaskThatIsTriedAgainStartsOnce(t *testing.T) {
	s := NewStatus("b", "", start)
	for i, data := range []string{`{}`, `{"attempt":1}`, `{"attempt":2}`, `{"attempt":3}`} {
		s.Apply(&Event{ID: int64(i + 1), Type: TaskStarted, Data: json.RawMessage(data), Timestamp: start})
	}
	if s.Tasks.Started != 2 {
		t.Errorf("%d tasks have started, want 2", s.Tasks.Started)
	}
}

func TestClip(t *testing.T) {
	for _, test := range []struct {
		in   string
		n    int
		want string
	}{
		{"abc", 4, "abc"}, {"abc", 3, "abc"}, {"abc", 2, "ab…"}, {"aéé", 3, "aé…"}, {"aéé", 2, "a…"}, {"", 0, ""}, {"\x80\x80", 1, "…"},
	} {
		if got := clip(test.in, test.n); got != test.want {
			t.Errorf("%q cut to %d bytes is %q, want %q", test.in, test.n, got, test.want)
		}
	}
}

func TestDurationText(t *testing.T) {
	for text, want := range map[string]time.Duration{"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "0s": 0, "-1s": -1, "soon": -1} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); (err == nil) != (want >= 0) || err == nil && time.Duration(d) != want {
			t.Errorf("%s: %v, %v", text, time.Duration(d), err)
		}
	}
	if Duration(0).Or(time.Minute) != time.Minute || Duration(time.Second).Or(time.Minute) != time.Second {
		t.Error("Or")
	}
}
