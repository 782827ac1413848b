package progress

import (
	"io"
	"strings"
)

// Screen keeps a frame at the bottom of a terminal, and rows that stay above it.
// Each change is one write, inside the terminal's synchronized-output marks, and
// rows are overwritten rather than cleared first, so nothing flickers. It belongs
// to one goroutine.
type Screen struct {
	out    io.Writer
	frame  []string // as drawn last
	widths []int    // columns of the frame's rows
	hidden bool     // the cursor is
}

// NewScreen draws on out, a terminal.
func NewScreen(out io.Writer) *Screen { return &Screen{out: out} }

const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	beginSync  = "\x1b[?2026h"
	endSync    = "\x1b[?2026l"
	clearLine  = "\x1b[K"
	clearBelow = "\x1b[J"
)

// Draw prints rows above the frame and replaces the frame. columns is the
// terminal's width now: a row of the old frame may have been wrapped since.
func (s *Screen) Draw(rows, frame []string, columns int) error {
	if len(rows) == 0 && equal(frame, s.frame) {
		return nil
	}
	var b strings.Builder
	b.WriteString(beginSync)
	if !s.hidden {
		b.WriteString(hideCursor)
		s.hidden = true
	}
	s.toTop(&b, columns)
	for _, row := range rows {
		b.WriteString(row + clearLine + "\r\n")
	}
	for _, row := range frame {
		b.WriteString(row + clearLine + "\r\n")
	}
	b.WriteString(clearBelow + endSync)
	s.remember(frame)
	_, err := io.WriteString(s.out, b.String())
	return err
}

// Close takes the frame away, prints the rows in its place and gives the cursor
// back. A screen that never drew prints only the rows.
func (s *Screen) Close(rows []string, columns int) error {
	var b strings.Builder
	s.toTop(&b, columns)
	if s.hidden {
		b.WriteString(clearBelow)
	}
	for _, row := range rows {
		b.WriteString(row + "\r\n")
	}
	if s.hidden {
		b.WriteString(showCursor)
		s.hidden = false
	}
	s.remember(nil)
	if b.Len() == 0 {
		return nil
	}
	_, err := io.WriteString(s.out, b.String())
	return err
}

// toTop moves the cursor to the frame's first row.
func (s *Screen) toTop(b *strings.Builder, columns int) {
	up := 0
	for _, w := range s.widths {
		up += max(1, (w+columns-1)/max(columns, 1))
	}
	if up > 0 {
		b.WriteString("\r\x1b[" + itoa(up) + "A")
	}
}

func (s *Screen) remember(frame []string) {
	s.frame = frame
	s.widths = s.widths[:0]
	for _, row := range frame {
		s.widths = append(s.widths, Width(Clean(row)))
	}
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
