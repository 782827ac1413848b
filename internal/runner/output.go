package runner

import (
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Bounds of a command's output, in bytes as JSON has them.
const (
	maxLine   = 4 << 10  // a longer line is wrapped
	maxBatch  = 16 << 10 // of one call of Spec.Output
	maxOutput = 1 << 20  // of one command; later output is left out
	maxTail   = 4 << 10  // kept for a failure
)

// flushEvery is the shortest time between two calls of Spec.Output.
const flushEvery = 100 * time.Millisecond

// cutNote replaces the output that is left out.
const cutNote = "[the output is cut here: 1 MiB of a command's output is kept]"

// Output splits a command's output into lines that fit an event: valid UTF-8
// without control characters other than tab and escape. Lines are passed on at
// once if flushEvery has passed since the last ones, and otherwise together when
// it has. A carriage return begins the line again: if a progress meter redraws a
// line several times between two calls, only the last state is passed on.
type Output struct {
	emit func(lines []string)

	mu       sync.Mutex
	raw      []byte   // the line that is not ended yet
	pending  []string // lines that are not passed on yet
	redraw   bool     // the last line was ended by a carriage return
	used     int      // of maxOutput
	cut      bool
	last     []byte // the end of the whole output, up to twice maxTail
	flushed  time.Time
	timer    *time.Timer // runs while lines are pending
	finished bool
}

func newOutput(emit func([]string)) *Output {
	if emit == nil {
		emit = func([]string) {}
	}
	return &Output{emit: emit}
}

// readAll copies the output of a command. An error ends it: the pipe's deadline, or its
// end.
func readAll(to io.Writer, from io.Reader) {
	_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 16<<10))
}

// Write adds output. It never fails and never blocks.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keepTail(b)
	for _, c := range b {
		if o.cut {
			break
		}
		o.add(c)
	}
	o.schedule()
	return len(b), nil
}

func (o *Output) add(c byte) {
	switch {
	case c == '\n' && o.redraw && len(o.raw) == 0:
		o.redraw = false // \r\n is one line end
	case c == '\n':
		o.endLine()
		o.redraw = false
	case c == '\r':
		if len(o.raw) > 0 {
			o.endLine()
			o.redraw = true
		}
	default:
		if o.raw = append(o.raw, c); len(o.raw) >= maxLine {
			o.wrap()
		}
	}
}

// wrap ends a line that is too long, at the start of a character.
func (o *Output) wrap() {
	at := len(o.raw)
	for i := 1; i < utf8.UTFMax; i++ {
		if utf8.RuneStart(o.raw[at-i]) {
			if !utf8.FullRune(o.raw[at-i:]) {
				at -= i
			}
			break
		}
	}
	rest := string(o.raw[at:])
	o.raw = o.raw[:at]
	o.endLine()
	o.redraw = false
	o.raw = append(o.raw, rest...)
}

// endLine turns the bytes of the current line into pending lines.
func (o *Output) endLine() {
	if o.redraw && len(o.pending) > 0 {
		last := len(o.pending) - 1
		o.used -= cost(o.pending[last])
		o.pending = o.pending[:last]
	}
	for _, line := range clean(o.raw) {
		if o.used += cost(line); o.used > maxOutput {
			o.cut = true
			o.pending = append(o.pending, cutNote)
			break
		}
		o.pending = append(o.pending, line)
	}
	o.raw = o.raw[:0]
}

// schedule passes pending lines on, now or after flushEvery.
func (o *Output) schedule() {
	if len(o.pending) == 0 || o.timer != nil {
		return
	}
	if wait := flushEvery - time.Since(o.flushed); wait > 0 {
		o.timer = time.AfterFunc(wait, o.flushLater)
		return
	}
	o.flush()
}

func (o *Output) flushLater() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.timer = nil; !o.finished {
		o.flush()
	}
}

// flush passes pending lines on, in as many calls as their size needs. The caller
// holds mu, which keeps the calls in order.
func (o *Output) flush() {
	for len(o.pending) > 0 {
		n, bytes := 0, 0
		for n < len(o.pending) {
			if bytes += cost(o.pending[n]); bytes > maxBatch && n > 0 {
				break
			}
			n++
		}
		o.emit(o.pending[:n:n])
		o.pending = o.pending[n:]
	}
	o.pending = nil
	o.flushed = time.Now()
}

// Close passes the rest on. Nothing is passed on after it.
func (o *Output) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.timer != nil {
		o.timer.Stop()
	}
	if len(o.raw) > 0 && !o.cut {
		o.endLine()
	}
	o.flush()
	o.finished = true
}

func (o *Output) keepTail(b []byte) {
	if len(b) > maxTail {
		b = b[len(b)-maxTail:]
	}
	if o.last = append(o.last, b...); len(o.last) > 2*maxTail {
		o.last = append(o.last[:0], o.last[len(o.last)-maxTail:]...)
	}
}

// tail returns the end of the whole output, including output that was left out.
func (o *Output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.last[max(0, len(o.last)-maxTail):]
	for len(b) > 0 && len(b) < len(o.last) && !utf8.RuneStart(b[0]) {
		b = b[1:]
	}
	var lines []string
	for line := range strings.SplitSeq(string(b), "\n") {
		line = strings.TrimSuffix(line, "\r")
		lines = append(lines, clean([]byte(line))...)
	}
	text := strings.TrimRight(strings.Join(lines, "\n"), "\n")
	for over := cost(text) - maxTail; over > 0; {
		r, n := utf8.DecodeRuneInString(text)
		text, over = text[n:], over-runeCost(r)
	}
	return text
}

// Clean turns the text into one line that fits an event, at most 4 KiB as JSON. It
// replaces invalid UTF-8 and control characters other than tab and escape.
func Clean(text string) string {
	lines := clean([]byte(text[:min(len(text), 2*maxLine)]))
	if len(lines) > 1 || len(text) > 2*maxLine {
		return lines[0] + "…"
	}
	return lines[0]
}

// clean splits one line into valid lines of at most maxLine each.
func clean(raw []byte) []string {
	var lines []string
	var line strings.Builder
	room := maxLine
	for len(raw) > 0 {
		r, n := utf8.DecodeRune(raw)
		raw = raw[n:]
		if r < ' ' && r != '\t' && r != '\x1b' || r == 0x7f {
			r = utf8.RuneError
		}
		c := runeCost(r)
		if c > room {
			lines = append(lines, line.String())
			line.Reset()
			room = maxLine
		}
		room -= c
		line.WriteRune(r)
	}
	return append(lines, line.String())
}

// cost returns how many bytes the text takes in a JSON array.
func cost(text string) (n int) {
	for _, r := range text {
		n += runeCost(r)
	}
	return n + len(`"",`)
}

func runeCost(r rune) int {
	switch {
	case r == '"', r == '\\', r == '\t', r == '\n':
		return 2
	case r < ' ', r == '\u2028', r == '\u2029':
		return len(`\u2028`)
	}
	return utf8.RuneLen(r)
}
