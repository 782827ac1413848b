package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/buildcast/buildcast/internal/cli/progress"
)

// print is a line of the result.
func (s *session) print(format string, args ...any) { fmt.Fprintf(s.stdout, format+"\n", args...) }

// printJSON prints each value as one line.
func (s *session) printJSON(values ...any) error {
	e := json.NewEncoder(s.stdout)
	e.SetEscapeHTML(false)
	for _, v := range values {
		if err := e.Encode(v); err != nil {
			return err
		}
	}
	return nil
}

// table prints rows in aligned columns, the first being their names. On a
// terminal a row is cut to its width.
func (s *session) table(rows [][]string) {
	k := look(s.stdout)
	for i, text := range align(rows) {
		line := progress.Line{Left: []progress.Span{{Style: progress.Plain, Text: text}}}
		if i == 0 {
			line.Left[0].Style = progress.Dim
		}
		if isTerminal(s.stdout) {
			s.print("%s", k.Render(line))
		} else {
			s.print("%s", k.Whole(line))
		}
	}
}

// align pads the cells of each column to the same width.
func align(rows [][]string) (lines []string) {
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

// ago gives a time in the past as people say it.
func ago(d time.Duration) string {
	switch {
	case d < 2*time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", d/time.Hour)
	}
	return fmt.Sprintf("%dd ago", d/(24*time.Hour))
}
