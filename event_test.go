package buildcast

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestEventJSON(t *testing.T) {
	e := Event{
		ID: 7, BuildID: "01JD-x_", Type: TaskCompleted, Data: json.RawMessage(`{"filesCreated":1}`), Progress: 60,
		Timestamp: TimeOf(time.Date(2026, 11, 23, 7, 14, 31, 120_999_999, time.UTC)),
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":7,"buildId":"01JD-x_","type":"task_completed","data":{"filesCreated":1},"progress":60,"timestamp":"2026-11-23T07:14:31.120Z"}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var back Event
	if err := json.Unmarshal(b, &back); err != nil || !back.Timestamp.Equal(e.Timestamp) || back.ID != 7 {
		t.Errorf("back: %+v, %v", back, err)
	}
}

func TestNewEventValidate(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	tests := []struct {
		name string
		in   NewEvent
		code Code
		at   string
	}{
		{"least", NewEvent{Type: "a"}, "", ""},
		{"null data", NewEvent{Type: "a", Data: json.RawMessage("null")}, "", ""},
		{"any JSON value", NewEvent{Type: "a", Data: json.RawMessage(`"true e9999"`)}, "", ""},
		{"pair of surrogates", NewEvent{Type: "a", Data: json.RawMessage(`"\ud83d\ude00 \\u0000 \""`)}, "", ""},
		{"exponent", NewEvent{Type: "a", Data: json.RawMessage(`[1e-300, true, false]`)}, "", ""},
		{"longest type", NewEvent{Type: strings.Repeat("a", 50)}, "", ""},
		{"no type", NewEvent{}, InvalidArgument, "type"},
		{"type too long", NewEvent{Type: strings.Repeat("a", 51)}, InvalidArgument, "type"},
		{"type with upper case", NewEvent{Type: "taskStarted"}, InvalidArgument, "type"},
		{"type begins with a digit", NewEvent{Type: "1a"}, InvalidArgument, "type"},
		{"key too long", NewEvent{Type: "a", Key: strings.Repeat("k", 201)}, InvalidArgument, "key"},
		{"key with a line break", NewEvent{Type: "a", Key: "a\nb"}, InvalidArgument, "key"},
		{"data too large", NewEvent{Type: "a", Data: json.RawMessage(`"` + strings.Repeat("x", MaxEventData) + `"`)}, TooLarge, "data"},
		{"data is not JSON", NewEvent{Type: "a", Data: json.RawMessage(`{"a":}`)}, InvalidArgument, "data"},
		{"two values", NewEvent{Type: "a", Data: json.RawMessage(`{} {}`)}, InvalidArgument, "data"},
		{"bad UTF-8", NewEvent{Type: "a", Data: json.RawMessage("\"\xff\"")}, InvalidArgument, "data"},
		{"NUL", NewEvent{Type: "a", Data: json.RawMessage(`{"a":"x\u0000"}`)}, InvalidArgument, "data"},
		{"lone high surrogate", NewEvent{Type: "a", Data: json.RawMessage(`"\ud83d"`)}, InvalidArgument, "data"},
		{"high surrogate and a letter", NewEvent{Type: "a", Data: json.RawMessage(`"\ud83dx"`)}, InvalidArgument, "data"},
		{"lone low surrogate", NewEvent{Type: "a", Data: json.RawMessage(`"\ude00"`)}, InvalidArgument, "data"},
		{"deepest", NewEvent{Type: "a", Data: json.RawMessage(deep(100))}, "", ""},
		{"too deep", NewEvent{Type: "a", Data: json.RawMessage(deep(101))}, InvalidArgument, "data"},
		{"huge exponent", NewEvent{Type: "a", Data: json.RawMessage(`{"a":1e999999}`)}, InvalidArgument, "data"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.in.Validate()
			if CodeOf(err) != tt.code {
				t.Fatalf("error %v, want code %q", err, tt.code)
			}
			if err == nil {
				if len(tt.in.Data) == 0 {
					t.Error("absent data did not become {}")
				}
				return
			}
			if e, _ := errors.AsType[*Error](err); e.Field != tt.at {
				t.Errorf("field %q, want %q", e.Field, tt.at)
			}
		})
	}
}

// A line break in data would cut a server-sent event in two.
func TestDataIsOneLine(t *testing.T) {
	e := NewEvent{Type: "a", Data: json.RawMessage("{\n\n  \"a\":\r\n [1, \"x\\n y\"]\n}")}
	if err := e.Validate(); err != nil || string(e.Data) != `{"a":[1,"x\n y"]}` {
		t.Errorf("%s, %v", e.Data, err)
	}
}

func TestTimeText(t *testing.T) {
	var at Time
	if err := at.UnmarshalText([]byte("2026-11-23T09:14:31.1239+02:00")); err != nil || at.String() != "2026-11-23T07:14:31.123Z" {
		t.Errorf("%v, %v", at, err)
	}
	for _, bad := range []string{"", "yesterday", "2026-11-23", "1969-12-31T23:59:59Z", "0000-01-01T00:00:00Z"} {
		if err := at.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestTimeTextIsRFC3339(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMilli(rapid.Int64Range(0, 253402300799999).Draw(t, "ms")).UTC()
		if got, want := TimeOf(at).String(), at.Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

func FuzzValidateBuildID(f *testing.F) {
	for _, s := range []string{"27", "01JDABCDEFGHJKMNPQRSTVWXYZ", "a_b-c", "", "a/b", "é", "aaaaaaaaaaaaaaaaaaaaaaaaaaa"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if ValidateBuildID(id) != nil {
			return
		}
		if len(id) < 1 || len(id) > 26 || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
			t.Errorf("%q was accepted", id)
		}
	})
}

// Data that Validate accepts must encode to valid JSON and survive a decode.
func FuzzEventData(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,2.5e3,"\u00e9\n"]}`, `"\ud83d\ude00"`, `"\ud83d"`, `"\u0000"`, `1e9999`, "\"\xff\"", `[[[`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := NewEvent{Type: "x", Data: data}
		if in.Validate() != nil {
			return
		}
		e := Event{ID: 1, BuildID: "b", Type: "x", Data: in.Data, Timestamp: start}
		var back Event
		if err := json.Unmarshal(e.AppendJSON(nil), &back); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		var v any
		if err := json.Unmarshal(back.Data, &v); err == nil && strings.ContainsRune(stringOf(v), '\uFFFD') && !strings.Contains(string(data), "\uFFFD") && !strings.Contains(strings.ToLower(string(data)), `\ufffd`) {
			t.Fatalf("%q decodes with a replaced character", data)
		}
	})
}

func stringOf(v any) string {
	s, _ := v.(string)
	return s
}
