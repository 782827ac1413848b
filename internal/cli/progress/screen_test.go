package progress

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// terminal is a small one: rows of cells, a cursor, and the few sequences that
// Screen uses. Anything else fails the test.
type terminal struct {
	t       *testing.T
	columns int
	rows    []string
	x, y    int
	hidden  bool
	writes  int
}

func (v *terminal) Write(b []byte) (int, error) {
	v.writes++
	for s := string(b); s != ""; {
		switch s[0] {
		case '\r':
			v.x, s = 0, s[1:]
		case '\n':
			v.y, s = v.y+1, s[1:]
		case 0x1b:
			n := escapeLength(s)
			v.escape(s[1:n])
			s = s[n:]
		default:
			r := []rune(s)[0]
			v.put(r)
			s = s[len(string(r)):]
		}
	}
	return len(b), nil
}

func (v *terminal) escape(seq string) {
	up := 0
	switch seq {
	case "[?25l":
		v.hidden = true
	case "[?25h":
		v.hidden = false
	case "[?2026h", "[?2026l", "[0m", "[1m", "[2m", "[31m", "[32m", "[36m":
	case "[K":
		row := v.row()
		v.rows[v.y] = string(row[:min(v.x, len(row))])
	case "[J":
		v.row()
		v.rows[v.y] = string([]rune(v.rows[v.y])[:min(v.x, len([]rune(v.rows[v.y])))])
		v.rows = v.rows[:v.y+1]
	default:
		if _, err := fmt.Sscanf(seq, "[%dA", &up); err != nil || up == 0 {
			v.t.Errorf("unexpected escape sequence %q", seq)
		}
		if v.y -= up; v.y < 0 {
			v.t.Errorf("the cursor went above what was drawn")
			v.y = 0
		}
	}
}

func (v *terminal) row() []rune {
	for len(v.rows) <= v.y {
		v.rows = append(v.rows, "")
	}
	return []rune(v.rows[v.y])
}

func (v *terminal) put(r rune) {
	if v.x == v.columns { // wraps
		v.x, v.y = 0, v.y+1
	}
	row := v.row()
	for len(row) <= v.x {
		row = append(row, ' ')
	}
	row[v.x] = r
	v.rows[v.y] = string(row)
	v.x++
}

func (v *terminal) text() string { return strings.TrimRight(strings.Join(v.rows, "\n"), "\n") }

func TestScreen(t *testing.T) {
	v := &terminal{t: t, columns: 40}
	s := NewScreen(v)
	steps := []struct {
		rows, frame []string
		want        string
	}{
		{nil, []string{"running a", "bar 10%"}, "running a\nbar 10%"},
		{[]string{"done a"}, []string{"bar 50%"}, "done a\nbar 50%"},
		{[]string{"done b", "done c"}, []string{"\x1b[36mrunning d\x1b[0m", "running e", "bar 70%"}, "done a\ndone b\ndone c\nrunning d\nrunning e\nbar 70%"},
		{nil, []string{"r", "bar 80%"}, "done a\ndone b\ndone c\nr\nbar 80%"},
	}
	for i, step := range steps {
		if err := s.Draw(step.rows, step.frame, v.columns); err != nil {
			t.Fatal(err)
		}
		if got := v.text(); got != step.want || !v.hidden || v.writes != i+1 {
			t.Fatalf("step %d, %d writes, cursor hidden %v:\n%s\nwant:\n%s", i, v.writes, v.hidden, got, step.want)
		}
	}
	if _ = s.Draw(nil, []string{"r", "bar 80%"}, v.columns); v.writes != len(steps) {
		t.Error("a frame that is there already was written again")
	}
	if err := s.Close([]string{"", "result"}, v.columns); err != nil {
		t.Fatal(err)
	}
	if got := v.text(); got != "done a\ndone b\ndone c\n\nresult" || v.hidden {
		t.Errorf("at the end, cursor hidden %v:\n%s", v.hidden, got)
	}
}

// A narrower window wraps the rows of the old frame: all of them are replaced.
func TestScreenAfterTheWindowShrinks(t *testing.T) {
	v := &terminal{t: t, columns: 20}
	s := NewScreen(v)
	_ = s.Draw(nil, []string{strings.Repeat("x", 20), "bar"}, 20)
	v.columns = 8 // what a terminal does then: 8 + 8 + 4
	v.rows = []string{"xxxxxxxx", "xxxxxxxx", "xxxx", "bar", ""}
	v.y, v.x = 4, 0
	_ = s.Draw([]string{"done"}, []string{"xxx", "bar"}, 8)
	if got := v.text(); got != "done\nxxx\nbar" {
		t.Errorf("got:\n%s", got)
	}
}

func TestScreenThatNeverDrew(t *testing.T) {
	v := &terminal{t: t, columns: 20}
	if err := NewScreen(v).Close(nil, 20); err != nil || v.writes != 0 {
		t.Errorf("%d writes, %v", v.writes, err)
	}
}

// Whole builds on the small terminal: what is left at the end reads like a log.
func TestScreenShowsABuild(t *testing.T) {
	v := &terminal{t: t, columns: 60}
	screen, k := NewScreen(v), Look{Width: 60, Height: 24, Color: true}
	var s State
	for i, step := range reference {
		var rows []string
		for _, row := range s.Apply(step.event(i + 1)) {
			rows = append(rows, k.Render(row))
		}
		_ = screen.Draw(rows, s.Frame(k, start.Add(time.Duration(step.at)*time.Millisecond)), k.Width)
	}
	var result []string
	for _, row := range s.Result() {
		result = append(result, k.Whole(row))
	}
	_ = screen.Close(result, k.Width)
	golden(t, "screen", v.text()+"\n")
}

func TestWidthAndCut(t *testing.T) {
	tests := []struct {
		in    string
		room  int
		want  string
		width int
	}{
		{"plain", 10, "plain", 5},
		{"plain", 5, "plain", 5},
		{"plain", 4, "pla…", 5},
		{"plain", 1, "…", 5},
		{"plain", 0, "", 5},
		{"日本語", 6, "日本語", 6},
		{"日本語", 5, "日本…", 6},
		{"日本語", 4, "日…", 6},
		{"e\u0301te\u0301", 3, "e\u0301te\u0301", 3},
		{"é", 1, "é", 1},
	}
	for _, tt := range tests {
		if got := cut(tt.in, tt.room); got != tt.want || Width(tt.in) != tt.width {
			t.Errorf("cut(%q, %d) = %q, want %q; width %d, want %d", tt.in, tt.room, got, tt.want, Width(tt.in), tt.width)
		}
	}
}

func TestDuration(t *testing.T) {
	for in, want := range map[time.Duration]string{
		-time.Second: "0.0s", 0: "0.0s", 349 * time.Millisecond: "0.3s", 59*time.Second + 990*time.Millisecond: "59.9s",
		time.Minute: "1m00s", 65 * time.Second: "1m05s", 59*time.Minute + 59*time.Second: "59m59s", 3725 * time.Second: "1h02m", 49 * time.Hour: "49h00m",
	} {
		if got := Duration(in); got != want {
			t.Errorf("Duration(%v) = %s, want %s", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"plain", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07x", "\x1b", "\x1b[", "\x1bP1\x1b\\x", "a\tb\r\n\x00\xff", "\u202ertl", "\u009b31m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if strings.ContainsFunc(got, unsafeRune) {
			t.Errorf("Clean(%q) = %q", s, got)
		}
		if Clean(got) != got {
			t.Errorf("cleaning %q again changes it", got)
		}
	})
}
