package eventjson

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
)

// Texts that a lenient decoder makes equal are refused, wherever they are.
func TestHalfASurrogatePairIsRefused(t *testing.T) {
	for name, tt := range map[string]struct{ text, field string }{
		"a high half in a key":          {`{"type":"x","key":"job-\ud83d"}`, "key"},
		"another in a key":              {`{"type":"x","key":"job-\ud83e"}`, "key"},
		"a low half in a key":           {`{"type":"x","key":"job-\ude00"}`, "key"},
		"two high halves":               {`{"type":"x","key":"\ud83d\ud83d"}`, "key"},
		"in the type":                   {`{"type":"x\ud83d"}`, "type"},
		"in the timestamp":              {`{"type":"x","timestamp":"2026-11-23T07:14:31Z\ud83d"}`, "timestamp"},
		"in the name of a field":        {`{"type\ud83d":"x"}`, ""},
		"in data":                       {`{"type":"x","data":{"a":["\ud83d"]}}`, "data"},
		"in a name within data":         {`{"type":"x","data":{"\ud83d":1}}`, "data"},
		"bytes of one in a key":         {"{\"type\":\"x\",\"key\":\"\xed\xa0\xbd\"}", "key"},
		"bytes that are not UTF-8":      {"{\"type\":\"x\",\"key\":\"\xff\"}", "key"},
		"bytes that are not UTF-8 here": {"{\"type\":\"x\",\"data\":\"\xff\"}", "data"},
	} {
		t.Run(name, func(t *testing.T) {
			_, single := Decode([]byte(tt.text))
			_, line := DecodeLine([]byte(tt.text))
			lines := NewLines(strings.NewReader(`{"type":"x"}` + "\n" + tt.text + "\n"))
			defer lines.Close()
			_, _, first := lines.Next()
			_, _, second := lines.Next()
			if first != nil {
				t.Errorf("the line before: %v", first)
			}
			for what, err := range map[string]error{"single": single, "line": line, "stream": second} {
				e, ok := errors.AsType[*buildcast.Error](err)
				if !ok || e.Code != buildcast.InvalidArgument || e.Field != tt.field || !strings.Contains(e.Message, "column") {
					t.Errorf("%s: %v at %q, want %q", what, err, e.Field, tt.field)
				}
			}
			_, err := Decode([]byte(`[{"type":"x"},` + tt.text + `]`))
			if e, ok := errors.AsType[*buildcast.Error](err); !ok || e.Field != strings.TrimSuffix("[1]."+tt.field, ".") {
				t.Errorf("in an array: %v at %q", err, e.Field)
			}
			if err := Check([]byte(tt.text)); buildcast.CodeOf(err) != buildcast.InvalidArgument {
				t.Errorf("checked: %v", err)
			}
		})
	}
	whole := `{"type":"x","key":"\ud83d\ude00","data":{"a":"\ud83d\ude00","a":"\ufffd"}}`
	e, err := DecodeLine([]byte(whole))
	if err != nil || e.Key != "😀" || string(e.Data) != `{"a":"\ud83d\ude00","a":"\ufffd"}` || Check([]byte(whole)) != nil {
		t.Errorf("whole pairs: %+v %v", e, err)
	}
}

// broken is a body that breaks after its text.
type broken struct{ text io.Reader }

var errBroken = errors.New("the connection broke")

func (b *broken) Read(p []byte) (int, error) {
	if n, err := b.text.Read(p); err == nil {
		return n, nil
	}
	return 0, errBroken
}

// Lines end with their reader, and say what it says.
func TestLinesEnd(t *testing.T) {
	lines := NewLines(&broken{strings.NewReader("{\"type\":\"a\"}\n\n{\"type\":\"b\"}")})
	defer lines.Close()
	e, blank, err := lines.Next()
	if e.Type != "a" || blank || err != nil {
		t.Errorf("%+v %v %v", e, blank, err)
	}
	if _, blank, err := lines.Next(); !blank || err != nil {
		t.Errorf("a blank line: %v %v", blank, err)
	}
	if _, _, err := lines.Next(); !errors.Is(err, errBroken) || lines.Number() != 3 {
		t.Errorf("line %d: %v", lines.Number(), err)
	}
	last := NewLines(strings.NewReader(`{"type":"a"}`))
	defer last.Close()
	if e, _, err := last.Next(); e.Type != "a" || err != nil {
		t.Errorf("a last line without an end: %+v %v", e, err)
	}
	for range 2 {
		if _, _, err := last.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("after the last: %v", err)
		}
	}
}

// Events keep their memory when the reader and the decoder go on.
func TestEventsKeepTheirData(t *testing.T) {
	long := strings.Repeat("d", 3000)
	text := strings.Repeat(`{"type":"x","data":"`+long+`","key":"k"}`+"\n", 100)
	lines := NewLines(strings.NewReader(text))
	defer lines.Close()
	var events []buildcast.NewEvent
	for {
		e, blank, err := lines.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !blank {
			events = append(events, e)
		}
	}
	for i, e := range events {
		if string(e.Data) != `"`+long+`"` || e.Key != "k" || cap(e.Data) != len(e.Data) {
			t.Fatalf("event %d has %d bytes of data, room for %d", i, len(e.Data), cap(e.Data))
		}
	}
	if len(events) != 100 {
		t.Errorf("%d events", len(events))
	}
}

func BenchmarkDecodeLine(b *testing.B) {
	line := []byte(`{"type":"task_started","data":{"taskId":"t-3","taskName":"Create JavaScript File","worker":"w1","attempt":1},"key":"t-3:started:1"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeLine(line); err != nil {
			b.Fatal(err)
		}
	}
}
