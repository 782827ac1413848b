package progress

import (
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// Style is how a piece of a line looks.
type Style int

// The styles. No meaning depends on them alone: glyphs and words express it too.
const (
	Plain Style = iota
	Bold
	Dim
	Good
	Bad
	Warn
	Accent
)

var escapes = map[Style]string{Bold: "\x1b[1m", Dim: "\x1b[2m", Good: "\x1b[32m", Bad: "\x1b[31m", Warn: "\x1b[33m", Accent: "\x1b[36m"}

// Span is text in one style.
type Span struct {
	Style Style
	Text  string
}

// Line is one row: Left begins at the margin, Right ends at the right edge. If they do
// not fit together, Left is cut.
type Line struct {
	Left  []Span
	Right []Span
}

// Look describes what the output can show.
type Look struct {
	Width  int  // columns
	Height int  // rows; 0: not bounded
	Color  bool // false: no escape sequences for colours
	ASCII  bool // true: the terminal's locale is not UTF-8
}

// maxWidth keeps timers near their tasks on a wide terminal.
const maxWidth = 100

// Render returns the line in at most Width columns, without a line break.
func (k Look) Render(l Line) string {
	columns := max(k.Width, 1)
	if len(l.Right) > 0 {
		columns = min(columns, maxWidth)
	}
	right := 0
	for _, s := range l.Right {
		right += Width(k.text(s))
	}
	if right > 0 && right+8 > columns { // too narrow for both: the left part matters more
		l.Right, right = nil, 0
	}
	var b strings.Builder
	room := columns - right
	if right > 0 {
		room-- // at least one space between
	}
	used := k.write(&b, l.Left, room)
	if right > 0 {
		b.WriteString(strings.Repeat(" ", columns-right-used))
		k.write(&b, l.Right, right)
	}
	return b.String()
}

// Whole returns the line uncut, for text that people copy, such as a URL.
func (k Look) Whole(l Line) string {
	var b strings.Builder
	k.write(&b, append(l.Left[:len(l.Left):len(l.Left)], l.Right...), math.MaxInt)
	return b.String()
}

func (k Look) write(b *strings.Builder, spans []Span, room int) (used int) {
	for _, s := range spans {
		text := cut(k.text(s), room-used)
		if text == "" {
			continue
		}
		used += Width(text)
		if escape := escapes[s.Style]; k.Color && escape != "" {
			text = escape + text + "\x1b[0m"
		}
		b.WriteString(text)
	}
	return used
}

func (k Look) text(s Span) string {
	if !k.ASCII {
		return s.Text
	}
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf {
			return r
		}
		if a, ok := ascii[r]; ok {
			return a
		}
		return '?'
	}, s.Text)
}

var ascii = map[rune]rune{'✓': '+', '✗': 'x', '●': '*', '○': 'o', '━': '#', '─': '-', '│': '|', '·': '-', '…': '.', '⊘': 'x', '↻': '~'}

// Width returns how many columns of a terminal the text takes.
func Width(s string) (n int) {
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	if r < 0x7f {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// cut shortens s to the room. A shortened text ends with an ellipsis.
func cut(s string, room int) string {
	if Width(s) <= room {
		return s
	}
	if room <= 0 {
		return ""
	}
	used, end := 0, 0
	for i, r := range s {
		w := runeWidth(r)
		if used+w > room-1 {
			break
		}
		used += w
		end = i + utf8.RuneLen(r)
	}
	return s[:end] + "…"
}

// Clean makes other people's text safe to print on a terminal. It removes escape
// sequences and control characters, which could move the cursor, change the title or
// hide text, and replaces tabs by spaces.
func Clean(s string) string {
	if !strings.ContainsFunc(s, unsafeRune) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == 0x1b:
			n = escapeLength(s[i:])
		case r == '\t':
			b.WriteString("    ")
		case r == utf8.RuneError && n == 1, unsafeRune(r):
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

func unsafeRune(r rune) bool {
	// Directional overrides change the order in which text is shown.
	return unicode.IsControl(r) || r == utf8.RuneError || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// escapeLength returns the length of the escape sequence that s begins with.
func escapeLength(s string) int {
	if len(s) < 2 {
		return len(s)
	}
	switch s[1] {
	case '[': // CSI: parameters, then one final byte
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
			if s[i] < 0x20 || s[i] > 0x7e {
				return i
			}
		}
		return len(s)
	case ']', 'P', '_', '^', 'X': // strings, up to BEL or ESC \
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return i + 1
			}
			if s[i] == 0x1b {
				return min(i+2, len(s))
			}
		}
		return len(s)
	}
	return 2
}

// Duration formats a duration as 0.3s, 12.4s, 1m05s or 1h02m.
func Duration(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		tenths := d / (100 * time.Millisecond)
		return itoa(int(tenths/10)) + "." + itoa(int(tenths%10)) + "s"
	case d < time.Hour:
		return itoa(int(d/time.Minute)) + "m" + pad(int(d%time.Minute/time.Second)) + "s"
	}
	return itoa(int(d/time.Hour)) + "h" + pad(int(d%time.Hour/time.Minute)) + "m"
}
