package progress

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// terminal is a small one: lines of cells, a cursor, and the few sequences that
// Screen uses. Anything else fails the test. It wraps what it shows when it gets
// narrower, and joins it again when it gets wider.
type terminal struct {
	t       *testing.T
	columns int
	rows    []string
	wraps   []bool // whether the row goes on in the next one
	x, y    int
	hidden  bool
	noWrap  bool
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
			v.row()
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
	case "[?25l", "[?25h":
		v.hidden = seq == "[?25l"
	case "[?7l", "[?7h":
		v.noWrap = seq == "[?7l"
	case "[?2026h", "[?2026l", "[0m", "[1m", "[2m", "[31m", "[32m", "[33m", "[36m":
	case "[2K":
		v.row()
		v.rows[v.y], v.wraps[v.y] = "", false
	case "[J":
		row := v.row()
		v.rows[v.y], v.wraps[v.y] = string(row[:min(v.x, len(row))]), false
		v.rows, v.wraps = v.rows[:v.y+1], v.wraps[:v.y+1]
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
		v.rows, v.wraps = append(v.rows, ""), append(v.wraps, false)
	}
	return []rune(v.rows[v.y])
}

func (v *terminal) put(r rune) {
	if v.x == v.columns && v.noWrap {
		v.x--
	}
	if v.x == v.columns {
		v.wraps[v.y] = true
		v.x, v.y = 0, v.y+1
	}
	row := v.row()
	for len(row) <= v.x {
		row = append(row, ' ')
	}
	row[v.x] = r
	v.rows[v.y] = string(row) // a wrapped line stays one until it is cleared
	v.x++
}

// resize changes the width. The cursor stays on its line.
func (v *terminal) resize(columns int) {
	rows, wraps, below := v.rows, v.wraps, len(v.rows)-v.y
	v.columns, v.rows, v.wraps = columns, nil, nil
	for i := 0; i < len(rows); i++ {
		line := rows[i]
		for ; wraps[i]; i++ {
			line += rows[i+1]
		}
		cells := []rune(line)
		for ; len(cells) > columns; cells = cells[columns:] {
			v.rows, v.wraps = append(v.rows, string(cells[:columns])), append(v.wraps, true)
		}
		v.rows, v.wraps = append(v.rows, string(cells)), append(v.wraps, false)
	}
	v.x, v.y = 0, len(v.rows)-below
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

// A narrower window wraps the rows of the old frame: all of them are replaced,
// also if frames were drawn before the new width was known.
func TestScreenAfterAResize(t *testing.T) {
	wide, narrow := Look{Width: 60, Height: 24}, Look{Width: 25, Height: 24}
	for _, late := range []int{0, 1, 5} {
		for _, looks := range [][2]Look{{wide, narrow}, {narrow, wide}} {
			from, to := looks[0], looks[1]
			t.Run(fmt.Sprintf("%d to %d columns, known after %d frames", from.Width, to.Width, late), func(t *testing.T) {
				v := &terminal{t: t, columns: from.Width}
				screen := NewScreen(v)
				var s State
				for i, step := range reference[:6] {
					s.Apply(step.event(i + 1))
				}
				draw := func(at time.Duration, k Look, rows ...string) []string {
					frame := s.Frame(k, start.Add(at))
					if err := screen.Draw(rows, frame, k.Width); err != nil {
						t.Fatal(err)
					}
					return frame
				}
				draw(time.Second, from, "a row that stays")
				v.resize(to.Width)
				for i := range late {
					draw(2*time.Second+time.Duration(i)*redrawn, from)
				}
				draw(2900*time.Millisecond, to)
				v.resize(to.Width / 2) // back before anything is drawn
				v.resize(to.Width)
				frame := draw(3*time.Second, to)
				want := strings.Join(append([]string{"a row that stays"}, frame...), "\n")
				if got := v.text(); got != want {
					t.Errorf("got:\n%s\nwant:\n%s", got, want)
				}
			})
		}
	}
}

// redrawn is the time between two frames.
const redrawn = 100 * time.Millisecond

// The same frame is written again if the terminal may have lost it.
func TestScreenIsDrawnAgainAfterAResize(t *testing.T) {
	v := &terminal{t: t, columns: 40}
	s := NewScreen(v)
	_ = s.Draw(nil, []string{"bar"}, 40)
	if _ = s.Draw(nil, []string{"bar"}, 30); v.writes != 2 {
		t.Errorf("%d writes", v.writes)
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
