package storetest

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// Postgres keeps the data as jsonb, which sorts an object's fields, drops all
// but the last of the same name and writes numbers in full.
func testData(t *testing.T, s store.Store) {
	for _, data := range []string{
		`{}`, `[]`, `"text"`, `0`, `true`, `false`, `{"a":null}`, `[null]`,
		`{"z":1,"a":{"y":2,"b":3},"list":[3,1,2]}`,
		`{"longer":1,"b":2}`,
		`{"twice":1,"twice":2}`,
		`{"":""}`,
		"\t{ \"space\" :\n[ 1 ,2 ] } ",
		`[1e3,1E-7,-0,1.50,-12345678901234567890.123456789012345678901,1e308]`,
		`[9007199254740993,18446744073709551616]`,
		`"é \u00e9 😀 \ud83d\ude00 \"quoted\" \\ \/ \b\f\n\r\t \u0001 <&>"`,
		`{"é😀":"` + "\u2028" + `"}`,
		strings.Repeat("[", 100) + strings.Repeat("]", 100),
		`"` + strings.Repeat("x", buildcast.MaxEventData-2) + `"`,
	} {
		in := event("step", data)
		if err := in.Validate(); err != nil {
			t.Fatalf("%.80s: %v", data, err)
		}
		in.Key = "k" + string(rune('a'+len(log(t, s, "b"))))
		if e := add(t, s, "b", in).Events[0]; !sameJSON(in.Data, e.Data) {
			t.Errorf("%.80s: append answers %.80s", data, e.Data)
		}
		stored := log(t, s, "b")
		if e := stored[len(stored)-1]; !sameJSON(in.Data, e.Data) {
			t.Errorf("%.80s: read as %.80s", data, e.Data)
		}
		if e := add(t, s, "b", in).Events[0]; !sameJSON(in.Data, e.Data) {
			t.Errorf("%.80s: under its key again %.80s", data, e.Data)
		}
	}
}

func testTimes(t *testing.T, s store.Store) {
	at := func(text string) buildcast.Time {
		var at buildcast.Time
		if err := at.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return at
	}
	times := []buildcast.Time{
		at("2026-11-23T07:14:31.123Z"), at("2026-11-23T07:14:31.999Z"), at("2026-11-23T07:14:32Z"),
		at("2026-02-28T23:59:59.001-11:30"), at("1970-01-01T00:00:00Z"), at("9999-12-31T23:59:59.999Z"),
	}
	for i, want := range times {
		in := event("step", `{}`)
		in.Timestamp, in.Key = want, want.String()
		a := add(t, s, "b", in)
		again := add(t, s, "b", in)
		read := log(t, s, "b")
		for _, got := range []buildcast.Time{a.Events[0].Timestamp, again.Events[0].Timestamp, read[i].Timestamp, a.Status.UpdatedAt, get(t, s, "b").Status.UpdatedAt} {
			if !got.Equal(want) || got.String() != want.String() {
				t.Errorf("%v came back as %v", want, got)
			}
		}
	}

	before := buildcast.Now()
	a := add(t, s, "now", event("step", `{}`))
	after := buildcast.Now()
	got := a.Events[0].Timestamp
	if got.Std().Before(before.Std()) || got.Std().After(after.Std()) || got.Std().Nanosecond()%int(time.Millisecond) != 0 {
		t.Errorf("stored between %v and %v, its time is %v", before, after, got.Std())
	}
	if d := diff(a.Events, log(t, s, "now")); d != "" {
		t.Errorf("answered and read (-answered +read):\n%s", d)
	}
	b := get(t, s, "now")
	if c := b.CreatedAt.Std(); c.Before(before.Std()) || c.After(after.Std()) || !b.Status.CreatedAt.Equal(b.CreatedAt) {
		t.Errorf("created between %v and %v: build says %v, status %v", before, after, b.CreatedAt, b.Status.CreatedAt)
	}
}

// sameJSON reports whether both mean the same: fields in any order, the last of
// the same name counting, and numbers by value.
func sameJSON(a, b json.RawMessage) bool {
	x, errX := decode(a)
	y, errY := decode(b)
	return errX == nil && errY == nil && sameValue(x, y)
}

func decode(data []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // a float64 would make near numbers the same
	err = d.Decode(&v)
	return v, err
}

func sameValue(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name := range a {
			if other, there := b[name]; !there || !sameValue(a[name], other) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !sameValue(a[i], b[i]) {
				return false
			}
		}
		return true
	case json.Number:
		b, ok := b.(json.Number)
		x, okX := new(big.Rat).SetString(string(a))
		y, okY := new(big.Rat).SetString(string(b))
		return ok && okX && okY && x.Cmp(y) == 0
	default:
		return a == b
	}
}
