package client

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// parse feeds the stream in pieces of so many bytes.
func parse(stream string, size int) (messages []message, p *parser, err error) {
	p = new(parser)
	for len(stream) > 0 && err == nil {
		n := min(size, len(stream))
		var some []message
		some, err = p.feed([]byte(stream[:n]))
		messages, stream = append(messages, some...), stream[n:]
	}
	return messages, p, err
}

func TestParser(t *testing.T) {
	for name, test := range map[string]struct {
		stream string
		want   string // event=data, with | between them
	}{
		"as the server sends it": {"retry: 1500\n\nid: 1\ndata: {\"id\":1}\n\n:\n\nevent: end\ndata: {}\n\n", `={"id":1}|end={}`},
		"CR LF":                  {"data: a\r\n\r\ndata: b\r\n\r\n", "=a|=b"},
		"CR":                     {"data: a\r\rdata: b\r\r", "=a|=b"},
		"mixed line ends":        {"data: a\n\r\ndata: b\r\ndata: c\r\n\n", "=a|=b\nc"},
		"several lines of data":  {"data: a\ndata:\ndata: b\n\n", "=a\n\nb"},
		"empty data":             {"data\n\ndata:\n\n", "=|="},
		"no data":                {"event: x\n\ndata: a\n\n", "=a"},
		"one space goes":         {"data:a\n\ndata:  a\n\n", "=a|= a"},
		"a mark at the start":    {"\ufeffdata: a\n\n\ufeffdata: b\n\n", "=a"},
		"the last event's type":  {"event: x\nevent: y\ndata: a\n\ndata: b\n\n", "y=a|=b"},
		"other fields":           {"id: 7\nfoo: bar\ndatas: x\ndata : y\n: data: z\ndata: a\n\n", "=a"},
		"cut off":                {"data: a\n\ndata: b\n", "=a"},
		"nothing":                {"", ""},
	} {
		for size := 1; size <= len(test.stream)+1; size++ {
			messages, _, err := parse(test.stream, size)
			var got []string
			for _, m := range messages {
				got = append(got, m.event+"="+string(m.data))
			}
			if s := strings.Join(got, "|"); s != test.want || err != nil {
				t.Errorf("%s in pieces of %d: %q, %v", name, size, s, err)
			}
		}
	}
}

func TestRetryOfAStream(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"1500": 1500 * time.Millisecond, "0": 0, "": 0, "-1": 0, "+5": 0, "1.5": 0, "soon": 0, "99999999999999999999": 0,
	} {
		if _, p, err := parse("retry: "+value+"\n\n", 100); p.retry != want || err != nil {
			t.Errorf("%q: %v, %v", value, p.retry, err)
		}
	}
}

func TestStreamsAreBounded(t *testing.T) {
	line := "data: " + strings.Repeat("x", 1<<10) + "\n"
	for name, endless := range map[string]string{"a line": strings.Repeat("x", 1<<10), "a message": line} {
		p, fed := new(parser), 0
		var err error
		for err == nil && fed < 4<<20 {
			_, err = p.feed([]byte(endless))
			fed += len(endless)
		}
		if !errors.Is(err, errTooLong) || fed > 1<<20+1<<16 {
			t.Errorf("%s: %v after %d bytes", name, err, fed)
		}
	}
	if m, _, err := parse("data: a\n\n"+strings.Repeat("x", maxLine+1), 8<<20); len(m) != 1 || !errors.Is(err, errDefect) {
		t.Errorf("%d messages before the error %v", len(m), err)
	}
}

// However a stream is cut into pieces, it means the same, and what it keeps is bounded.
func FuzzParser(f *testing.F) {
	f.Add("retry: 5\n\nid: 1\ndata: {}\n\n:\n\nevent: end\ndata: {}\n\n", 3)
	f.Add("\ufeffdata: a\r\n\rdata\n\n\n", 1)
	f.Add("data:a\rdata:b\r\n\r\n", 2)
	f.Fuzz(func(t *testing.T, stream string, size int) {
		whole, a, errA := parse(stream, len(stream))
		pieces, b, errB := parse(stream, max(size, 1))
		if !reflect.DeepEqual(whole, pieces) || a.retry != b.retry || !errors.Is(errA, errB) {
			t.Errorf("%q, %v and %q, %v", whole, errA, pieces, errB)
		}
		for _, m := range whole {
			if strings.ContainsAny(m.event, "\r\n") || strings.Contains(string(m.data), "\r") {
				t.Errorf("a line end in %q", m)
			}
		}
		if len(a.line) > maxLine || len(a.data) > maxMessage {
			t.Errorf("keeps %d and %d bytes", len(a.line), len(a.data))
		}
	})
}
