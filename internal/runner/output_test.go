package runner

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
)

// linesOf writes the chunks, and returns the lines of each call of Output.
func linesOf(chunks ...string) (calls [][]string, o *Output) {
	o = newOutput(func(lines []string) { calls = append(calls, slices.Clone(lines)) })
	for _, c := range chunks {
		fmt.Fprint(o, c)
	}
	o.Close()
	return calls, o
}

func TestLines(t *testing.T) {
	long := strings.Repeat("a", maxLine)
	for name, tc := range map[string]struct {
		chunks []string
		want   []string
	}{
		"nothing":                  {nil, nil},
		"last line without an end": {[]string{"a\nb"}, []string{"a", "b"}},
		"a line in pieces":         {[]string{"a", "b", "\n"}, []string{"ab"}},
		"empty lines":              {[]string{"a\n\nb\n"}, []string{"a", "", "b"}},
		"windows line ends":        {[]string{"a\r\nb\r\n"}, []string{"a", "b"}},
		"a meter's last drawing":   {[]string{"1%\r2%\r3%\rdone\n"}, []string{"done"}},
		"a meter that is cut off":  {[]string{"1%\r2%"}, []string{"2%"}},
		"a zero byte":              {[]string{"a\x00b\n"}, []string{"a\ufffdb"}},
		"invalid UTF-8":            {[]string{"a\xff\xfeb\n"}, []string{"a\ufffd\ufffdb"}},
		"a character in pieces":    {[]string{"\xc3", "\xa9\n"}, []string{"é"}},
		"tab and colour stay":      {[]string{"\t\x1b[32mok\x1b[0m\n"}, []string{"\t\x1b[32mok\x1b[0m"}},
		"other controls":           {[]string{"a\bb\x7f\n"}, []string{"a\ufffdb\ufffd"}},
		"a long line is wrapped":   {[]string{long + "b\n"}, []string{long, "b"}},
		"not inside a character":   {[]string{long[1:] + "éb\n"}, []string{long[1:], "éb"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Lines of one write are passed on in one call, except those of the first chunk.
				var got []string
				o := newOutput(func(lines []string) { got = append(got, lines...) })
				o.flushed = time.Now()
				for _, c := range tc.chunks {
					fmt.Fprint(o, c)
				}
				o.Close()
				if d := cmp.Diff(tc.want, got); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

// The first line goes out at once; then at most one call in 100 ms.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		var lines int
		o := newOutput(func(l []string) {
			at = append(at, time.Since(start))
			lines += len(l)
		})
		for range 35 { // one line each 10 ms
			fmt.Fprintln(o, "x")
			time.Sleep(10 * time.Millisecond) //nolint:forbidigo // the bubble's time
		}
		o.Close()
		ms := time.Millisecond
		if d := cmp.Diff([]time.Duration{0, 100 * ms, 200 * ms, 300 * ms, 350 * ms}, at); d != "" || lines != 35 {
			t.Errorf("%d lines, calls at %s", lines, d)
		}
	})
}

// A line waits no longer than the throttle, also if no line follows it.
func TestLineIsNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		o := newOutput(func(l []string) { got = append(got, l...) })
		fmt.Fprintln(o, "first")
		fmt.Fprintln(o, "second")
		time.Sleep(flushEvery) //nolint:forbidigo // the bubble's time
		synctest.Wait()
		if d := cmp.Diff([]string{"first", "second"}, got); d != "" {
			t.Error(d)
		}
		o.Close()
	})
}

func TestFloodIsBounded(t *testing.T) {
	for name, chunk := range map[string]string{
		"text":        strings.Repeat("0123456789abcdef\n", 1000),
		"empty lines": strings.Repeat("\n", 20_000),
		"no lines":    strings.Repeat("x", 20_000),
		"escapes":     strings.Repeat("\x1b", 20_000),
		"not UTF-8":   strings.Repeat("\xff", 20_000),
	} {
		t.Run(name, func(t *testing.T) {
			chunks := slices.Repeat([]string{chunk}, 600) // about 10 MB
			calls, o := linesOf(chunks...)
			total, notes := 0, 0
			for _, lines := range calls {
				b, _ := json.Marshal(lines)
				total += len(b)
				for _, l := range lines {
					if l == cutNote {
						notes++
					}
				}
			}
			if total > maxOutput+maxBatch {
				t.Errorf("%d bytes were passed on", total)
			}
			last := calls[len(calls)-1]
			if notes != 1 || last[len(last)-1] != cutNote {
				t.Errorf("the note that output was cut: %d times, last line %.80q", notes, last[len(last)-1])
			}
			if len(o.last) > 2*maxTail || cap(o.raw) > 4*maxLine {
				t.Errorf("memory: %d, %d", len(o.last), cap(o.raw))
			}
		})
	}
}

func TestTailIsTheEnd(t *testing.T) {
	_, o := linesOf(strings.Repeat("é", maxTail), "\r\n", "the\x00 reason\n")
	tail := o.tail()
	if !strings.HasSuffix(tail, "é\nthe\ufffd reason") || len(tail) > maxTail || !utf8.ValidString(tail) {
		t.Errorf("%d bytes: %.40q … %q", len(tail), tail, tail[len(tail)-40:])
	}
}

// FuzzOutput: any output, in any pieces, fits an event that the log accepts. Only
// control characters, and the sequences that they begin, are changed.
func FuzzOutput(f *testing.F) {
	f.Add([]byte("a\nb\r\nc\rd"), 2)
	f.Add([]byte("\x00\xff\xc3"), 1)
	f.Add([]byte(strings.Repeat("\"\\\x1b\u2028", 3000)), 1000)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		size = max(size, 1)
		var lines []string
		o := newOutput(func(l []string) {
			data, err := json.Marshal(map[string]any{"lines": l})
			if err != nil {
				t.Fatal(err)
			}
			e := buildcast.NewEvent{Type: buildcast.BuildLog, Data: data}
			if err := e.Validate(); err != nil {
				t.Errorf("%v: %.200q", err, l)
			}
			bytes := 0
			for _, line := range l {
				bytes += cost(line)
				if cost(line) > maxLine+3 || strings.ContainsAny(line, "\n\r\x00") {
					t.Errorf("line %.100q", line)
				}
			}
			if bytes > maxBatch {
				t.Errorf("%d bytes in one call", bytes)
			}
			lines = append(lines, l...)
		})
		for chunk := range slices.Chunk(b, size) {
			if n, err := o.Write(chunk); n != len(chunk) || err != nil {
				t.Fatal(n, err)
			}
		}
		o.Close()
		if !slices.ContainsFunc(b, func(c byte) bool { return c == '\r' }) && utf8.Valid(b) && len(b) < maxOutput/8 {
			want := strings.Map(func(r rune) rune {
				if r == '\n' {
					return -1
				}
				if r < ' ' && r != '\t' && r != '\x1b' || r == 0x7f {
					return utf8.RuneError
				}
				return r
			}, string(b))
			if got := strings.Join(lines, ""); got != want {
				t.Errorf("got %.200q, want %.200q", got, want)
			}
		}
	})
}
