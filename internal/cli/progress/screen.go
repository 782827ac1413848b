package progress

import (
	"io"
	"slices"
	"strings"
)

// Screen keeps a frame at the bottom of a terminal, and rows that stay above it.
// Each change is one write inside the terminal's synchronized-output marks, so
// nothing flickers. It belongs to one goroutine.
//
// A terminal that gets narrower wraps the rows it shows, and some (tmux) report
// the new width only a quarter of a second later; frames are drawn meanwhile. So
// the frame is drawn without automatic wrapping: each of its rows takes one line
// of a terminal of any width. A frame that is drawn late then covers the last
// lines of the wrapped one, and both together have as many lines as the wrapped
// one had, which is what the next draw replaces.
type Screen struct {
	out     io.Writer
	frame   []string // as drawn last
	columns int      // of the terminal then
	widths  []int    // of the frame's rows, in columns
	hidden  bool     // whether the cursor is hidden
}

// NewScreen returns a screen on out, a terminal.
func NewScreen(out io.Writer) *Screen { return &Screen{out: out} }

const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	beginSync  = "\x1b[?2026h"
	endSync    = "\x1b[?2026l"
	clearLine  = "\x1b[2K"
	clearBelow = "\x1b[J"
	noWrap     = "\x1b[?7l"
	wrap       = "\x1b[?7h"
)

// Draw prints rows above the frame and replaces the frame. columns is the
// terminal's width now.
func (s *Screen) Draw(rows, frame []string, columns int) error {
	if len(rows) == 0 && columns == s.columns && slices.Equal(frame, s.frame) {
		return nil
	}
	var b strings.Builder
	b.WriteString(beginSync)
	if !s.hidden {
		b.WriteString(hideCursor)
		s.hidden = true
	}
	s.toTop(&b, columns)
	writeRows(&b, rows)
	b.WriteString(noWrap)
	writeRows(&b, frame)
	b.WriteString(wrap + clearBelow + endSync)
	s.remember(frame)
	s.columns = columns
	_, err := io.WriteString(s.out, b.String())
	return err
}

// Close replaces the frame with the rows and shows the cursor again. A screen
// that never drew prints only the rows.
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

// writeRows writes each row on a line that is cleared first: a terminal remembers
// that it wrapped a line, and would join what is only written over it with the
// next line when it gets wider.
func writeRows(b *strings.Builder, rows []string) {
	for _, row := range rows {
		b.WriteString(clearLine + row + "\r\n")
	}
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
