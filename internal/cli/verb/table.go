package verb

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/buildcast/buildcast/internal/cli/progress"
)

// Table prints rows in aligned columns; the first row holds the columns' names.
// On a terminal each row is cut to the terminal's width.
func (s *Session) Table(rows [][]string) {
	k := Look(s.Stdout)
	for i, text := range align(rows) {
		line := progress.Line{Left: []progress.Span{{Style: progress.Plain, Text: text}}}
		if i == 0 {
			line.Left[0].Style = progress.Dim
		}
		if IsTerminal(s.Stdout) {
			s.Print("%s", k.Render(line))
		} else {
			s.Print("%s", k.Whole(line))
		}
	}
}

// Fields prints names and values in two columns, without those that have no value.
func (s *Session) Fields(rows [][]string) {
	kept := rows[:0:0]
	for _, row := range rows {
		if row[1] != "" && row[1] != "-" {
			kept = append(kept, row)
		}
	}
	for _, line := range align(kept) {
		s.Print("%s", line)
	}
}

// align pads the cells of each column to the same width.
func align(rows [][]string) (lines []string) {
	if len(rows) == 0 {
		return nil
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], progress.Width(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for j, cell := range row {
			b.WriteString(cell)
			if j < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[j]-progress.Width(cell)+2))
			}
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return lines
}

// Ago describes a time in the past.
func Ago(d time.Duration) string {
	if text := largestUnit(d); d >= 2*time.Second {
		return text + " ago"
	}
	return "now"
}

// In describes a time to come.
func In(d time.Duration) string {
	if d < time.Second {
		return "now"
	}
	return "in " + largestUnit(d)
}

func largestUnit(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// Dash returns the text, made safe to print, or a dash if there is none.
func Dash(s string) string {
	if s == "" {
		return "-"
	}
	return progress.Clean(s)
}

// IsTerminal reports whether the file is a terminal that can move its cursor.
func IsTerminal(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// Look returns what the terminal can show now; its window may have changed.
func Look(f *os.File) progress.Look {
	k := progress.Look{Width: 80, Color: IsTerminal(f) && os.Getenv("NO_COLOR") == "", ASCII: !utf8Locale()}
	if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
		k.Width, k.Height = w, h
	}
	return k
}

// utf8Locale reports whether the terminal shows UTF-8. Without any locale it is
// assumed to: containers have none, and the terminal outside of them does.
func utf8Locale() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(os.Getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return true
}
