package storetest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// A read returns the data that was sent, byte for byte.
func testData(t *testing.T, s store.Store) {
	for _, data := range []string{
		`{}`, `[]`, `"text"`, `0`, `true`, `false`, `{"a":null}`, `[null]`,
		`{"z":1,"a":{"y":2,"b":3},"list":[3,1,2]}`,
		`{"longer":1,"b":2}`,
		`{"twice":1,"twice":2}`,
		`{"":""}`,
		"\t{ \"space\" : [ 1 ,2 ] } ",
		`[1e3,1E-7,-0,1.50,-12345678901234567890.123456789012345678901,1e308,1e9999,-1.0E+999,1e-999]`,
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
		if string(in.Data) != data {
			t.Errorf("%.80s: taken as %.80s", data, in.Data)
		}
		if e := add(t, s, "b", in).Events[0]; string(e.Data) != data {
			t.Errorf("%.80s: append answers %.80s", data, e.Data)
		}
		stored := log(t, s, "b")
		if e := stored[len(stored)-1]; string(e.Data) != data {
			t.Errorf("%.80s: read as %.80s", data, e.Data)
		}
	}
	// Line breaks between tokens would break a server-sent event.
	in := event("step", "{\n\t\"a\": [1,\r\n2]\n}")
	if err := in.Validate(); err != nil || string(in.Data) != `{"a":[1,2]}` {
		t.Errorf("taken as %s, %v", in.Data, err)
	}
}

// A number within the limits is stored, however it is written. Any other is refused
// before it reaches a store.
func testNumbers(t *testing.T, s store.Store) {
	digits := strings.Repeat("7", 1000)
	for _, number := range []string{digits, "0." + digits[1:], "-" + digits + "e9999", "0." + digits[1:] + "E-999", "1e+999", "1.0e-0"} {
		in := event("step", "["+number+"]")
		if err := in.Validate(); err != nil {
			t.Errorf("%.30s: %v", number, err)
			continue
		}
		add(t, s, "b", in)
	}
	for _, number := range []string{digits + "7", "0." + digits, "1." + strings.Repeat("0", 17_000), "1e10000", "1E-1000", "1e99999999999999999999"} {
		in := event("step", "["+number+"]")
		if code, _, field := buildcast.Describe(in.Validate()); code != buildcast.InvalidArgument || field != "data" {
			t.Errorf("%.30s: code %q at %q", number, code, field)
		}
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// large appends n keyed events of 60 KB.
func large(t *testing.T, s store.Store, n int) (keys []buildcast.NewEvent) {
	t.Helper()
	for i := range n {
		e := event("step", fmt.Sprintf(`"%060000d"`, i))
		e.Key = fmt.Sprint("k", i)
		add(t, s, "b", e)
		keys = append(keys, buildcast.NewEvent{Type: "step", Data: []byte(`{}`), Key: e.Key})
	}
	return keys
}

// A read that is bounded to a few large events does not load the events after them.
func testReadMemory(t *testing.T, s store.Store) {
	large(t, s, 300) // 18 MB
	var events []buildcast.Event
	if n := allocated(func() { events = read(t, s, "b", 0, 1000, 128<<10) }); n > 9<<20 {
		t.Errorf("reading %d events of 60 KB allocates %d bytes", len(events), n)
	}
	wantIDs(t, events, 1, 3)
	wantIDs(t, read(t, s, "b", 0, 1000, 1<<30), 1, 300)
}

// A small request that repeats many keys does not load the data of their events.
func testKeysAgainMemory(t *testing.T, s store.Store) {
	keys := large(t, s, 100) // 6 MB
	var again store.Appended
	if n := allocated(func() { again = add(t, s, "b", keys...) }); n > 1<<20 {
		t.Errorf("keys again allocate %d bytes", n)
	}
	wantIDs(t, again.Events, 1, 100)
	if len(again.Added) != 0 || again.Events[7].Data != nil {
		t.Errorf("keys again: %d added, data %.20s", len(again.Added), again.Events[7].Data)
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
