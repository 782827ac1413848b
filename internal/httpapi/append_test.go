package httpapi

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventjson"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
)

const eventsPath = "/api/builds/b1/events"

func TestAppendOneEvent(t *testing.T) {
	h := newHarness(t)
	a := h.post(eventsPath, ` {"type" : "task_started", "data": {"taskName":"a \"b\" {"}, "key":"k\u00e9", "timestamp":"2026-11-23T07:14:31.5+01:00"} `).want(http.StatusCreated)
	if got, want := string(a.Body), `{"buildId":"b1","ids":[1],"lastEventId":1}`; got != want {
		t.Errorf("answer %s, want %s", got, want)
	}
	e := h.store.events("b1")[0]
	if e.Type != "task_started" || string(e.Data) != `{"taskName":"a \"b\" {"}` || e.Timestamp.String() != "2026-11-23T06:14:31.500Z" || h.store.builds["b1"].keys["ké"] != 1 {
		t.Errorf("stored %+v", e)
	}
}

func TestAppendData(t *testing.T) {
	h := newHarness(t)
	for data, want := range map[string]string{
		`null`: `{}`, `{}`: `{}`, `[1, 2]`: `[1, 2]`, `"text"`: `"text"`, `-1.5e3`: `-1.5e3`, `true`: `true`, `"}],"`: `"}],"`, `{"a":[{"b":"]"}]}`: `{"a":[{"b":"]"}]}`,
	} {
		h.post(eventsPath, `{"data":`+data+`,"type":"x"}`).want(http.StatusCreated)
		all := h.store.events("b1")
		if got := string(all[len(all)-1].Data); got != want {
			t.Errorf("data %s is stored as %s", data, got)
		}
	}
	h.post(eventsPath, `{"type":"x","key":null,"timestamp":null}`).want(http.StatusCreated)
}

func TestAppendArray(t *testing.T) {
	h := newHarness(t)
	h.append("b1", "plan_started")
	a := decode[appended](h.post(eventsPath, `[{"type":"a"}, {"type":"b","key":"k"} , {"type":"c"}]`).want(http.StatusCreated))
	if a.BuildID != "b1" || !slices.Equal(a.IDs, []int64{2, 3, 4}) || a.LastEventID != 4 {
		t.Errorf("answer %+v", a)
	}
	again := decode[appended](h.post(eventsPath, `[{"type":"b","key":"k"},{"type":"d"}]`).want(http.StatusCreated))
	if !slices.Equal(again.IDs, []int64{3, 5}) || again.LastEventID != 5 {
		t.Errorf("the repeat gives %+v", again)
	}
	full := "[" + strings.Repeat(`{"type":"x"},`, eventjson.MaxEvents-1) + `{"type":"x"}]`
	if a := decode[appended](h.post("/api/builds/b2/events", full).want(http.StatusCreated)); len(a.IDs) != eventjson.MaxEvents {
		t.Errorf("%d ids", len(a.IDs))
	}
}

func TestAppendTypes(t *testing.T) {
	h := newHarness(t)
	for contentType, status := range map[string]int{
		"application/json": 201, "application/json; charset=utf-8": 201, "application/vnd.buildcast+json": 201, "Application/JSON": 201,
		"application/x-ndjson": 201, "application/ndjson": 201,
		"": 415, "text/plain": 415, "application/x-www-form-urlencoded": 415, "multipart/form-data; boundary=x": 415, "application/json/x": 415, ";": 415,
	} {
		a := h.post(eventsPath, `{"type":"x"}`, "Content-Type", contentType).want(status)
		if status == 415 {
			a.problem(problem.UnsupportedMediaType, "")
		}
	}
	h.post(eventsPath, `{"type":"x"}`, "Content-Encoding", "gzip").want(415).problem(problem.UnsupportedMediaType, "")
	h.post("/api/builds", `{}`, "Content-Type", "application/x-ndjson").want(415).problem(problem.UnsupportedMediaType, "")
	h.post(eventsPath, "").want(400).problem(buildcast.InvalidArgument, "")
}

// TestAppendHostile: whatever is wrong is told with its field or place, and
// nothing of the body is stored.
func TestAppendHostile(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	tests := []struct {
		name, body string
		code       buildcast.Code
		field      string
		says       string
	}{
		{"no type", `{"data":{}}`, buildcast.InvalidArgument, "type", "a-z"},
		{"a bad type", `{"type":"Task Started"}`, buildcast.InvalidArgument, "type", "a-z"},
		{"a type in escapes is a type all the same", `{"type":"\u0041"}`, buildcast.InvalidArgument, "type", `"A"`},
		{"a number for the type", `{"type":7}`, buildcast.InvalidArgument, "type", "quotes"},
		{"an object for the key", `{"type":"x","key":{}}`, buildcast.InvalidArgument, "key", "quotes"},
		{"a number for the timestamp", `{"type":"x","timestamp":1700000000}`, buildcast.InvalidArgument, "timestamp", "quotes"},
		{"a timestamp of another form", `{"type":"x","timestamp":"yesterday"}`, buildcast.InvalidArgument, "timestamp", "RFC 3339"},
		{"a timestamp out of range", `{"type":"x","timestamp":"0001-01-01T00:00:00Z"}`, buildcast.InvalidArgument, "timestamp", "1970"},
		{"an unknown field", `{"type":"x","message":"hi"}`, buildcast.InvalidArgument, "message", "into data"},
		{"another case", `{"Type":"x"}`, buildcast.InvalidArgument, "Type", "not a field"},
		{"a doubled field", `{"type":"x","type":"y"}`, buildcast.InvalidArgument, "type", "twice"},
		{"a doubled field in escapes", `{"type":"x","\u0074ype":"y"}`, buildcast.InvalidArgument, "type", "twice"},
		{"a long key", `{"type":"x","key":"` + strings.Repeat("k", 201) + `"}`, buildcast.InvalidArgument, "key", "200"},
		{"a key with a zero byte", `{"type":"x","key":"a\u0000"}`, buildcast.InvalidArgument, "key", "control"},
		{"data with a zero byte", `{"type":"x","data":"a\u0000"}`, buildcast.InvalidArgument, "data", "\\u0000"},
		{"half a surrogate", `{"type":"x","data":"\ud800"}`, buildcast.InvalidArgument, "data", "surrogate"},
		{"half a surrogate in a key", `{"type":"x","key":"job-\ud83d"}`, buildcast.InvalidArgument, "key", "surrogate"},
		{"half a surrogate in a type", `{"type":"x\udc00"}`, buildcast.InvalidArgument, "type", "surrogate"},
		{"half a surrogate in a timestamp", `{"type":"x","timestamp":"\ud83d"}`, buildcast.InvalidArgument, "timestamp", "surrogate"},
		{"bad UTF-8 in data", "{\"type\":\"x\",\"data\":\"\xff\"}", buildcast.InvalidArgument, "data", "UTF-8"},
		{"bad UTF-8 in a key", "{\"type\":\"x\",\"key\":\"\xff\"}", buildcast.InvalidArgument, "key", "UTF-8"},
		{"a huge number", `{"type":"x","data":1e99999}`, buildcast.InvalidArgument, "data", "exponent"},
		{"deep data", `{"type":"x","data":` + deep(101) + `}`, buildcast.InvalidArgument, "data", "100"},
		{"very deep data", `{"type":"x","data":` + deep(30_000) + `}`, buildcast.InvalidArgument, "data", "depth"},
		{"a very deep body", deep(2_000_000), buildcast.InvalidArgument, "", "expected an event"},
		{"large data", `{"type":"x","data":"` + strings.Repeat("d", buildcast.MaxEventData) + `"}`, buildcast.TooLarge, "data", "65536"},
		{"text", `hello`, buildcast.InvalidArgument, "", "line 1, column 1"},
		{"a number", `7`, buildcast.InvalidArgument, "", "expected an event"},
		{"white space", " \n ", buildcast.InvalidArgument, "", "ends here"},
		{"an empty array", `[]`, buildcast.InvalidArgument, "", "empty"},
		{"an array in an array", `[[{"type":"x"}]]`, buildcast.InvalidArgument, "", "expected an event"},
		{"two objects", "{\"type\":\"x\"}\n{\"type\":\"y\"}", buildcast.InvalidArgument, "", "line 2, column 1"},
		{"no comma", `{"type":"x" "key":"k"}`, buildcast.InvalidArgument, "", "column 13"},
		{"a comma too many", `{"type":"x",}`, buildcast.InvalidArgument, "", "column 12"},
		{"a comma too many in an array", `[{"type":"x"},]`, buildcast.InvalidArgument, "", "column 14"},
		{"no comma in an array", `[{"type":"x"}{"type":"y"}]`, buildcast.InvalidArgument, "", "column 14"},
		{"an array without an end", `[{"type":"x"}`, buildcast.InvalidArgument, "", "ends here"},
		{"no value", `{"type":"x","data":}`, buildcast.InvalidArgument, "", "start of value"},
		{"no colon", `{"type"}`, buildcast.InvalidArgument, "", "expecting ':'"},
		{"no end", `{"type":"x"`, buildcast.InvalidArgument, "", "ends here"},
		{"a text without an end", `{"type":"x`, buildcast.InvalidArgument, "", "ends here"},
		{"a bad escape", `{"type":"\x"}`, buildcast.InvalidArgument, "", "escape"},
		{"a line break in a text", "{\"type\":\"x\ny\"}", buildcast.InvalidArgument, "", "control"},
		{"data that is no JSON", "{\"type\":\"x\",\n\"data\":{\"a\":tru}}", buildcast.InvalidArgument, "", "line 2, column 16"},
		{"brackets that do not match", `{"type":"x","data":[}}`, buildcast.InvalidArgument, "", "column 21"},
		{"nul for null", `{"type":"x","key":nul}`, buildcast.InvalidArgument, "", "column 22"},
		{"NaN", `{"type":"x","data":NaN}`, buildcast.InvalidArgument, "", "column 20"},
		{"the second of an array", `[{"type":"x"},{"type":""}]`, buildcast.InvalidArgument, "[1].type", "a-z"},
		{"the second of an array has an unknown field", `[{"type":"x"},{"typ":""}]`, buildcast.InvalidArgument, "[1].typ", "not a field"},
	}
	h := newHarness(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := h.post(eventsPath, tt.body).problem(tt.code, tt.field)
			if !strings.Contains(p.Detail, tt.says) {
				t.Errorf("detail %q does not say %q", p.Detail, tt.says)
			}
			// A line of a stream obeys the same rules.
			if !strings.ContainsAny(tt.body, "[\n") && len(tt.body) < 1000 {
				p := h.post(eventsPath, tt.body, "Content-Type", ndjsonBody).problem(tt.code, tt.field)
				if p.Line != 1 || *p.Count != 0 {
					t.Errorf("as a line: %+v", p)
				}
			}
		})
	}
	if got := h.store.events("b1"); len(got) > 0 {
		t.Errorf("stored %+v", got)
	}
}

func TestAppendLimits(t *testing.T) {
	h := newHarness(t)
	// The most that is allowed.
	h.post(eventsPath, `{"type":"x","data":"`+strings.Repeat("d", buildcast.MaxEventData-2)+`"}`).want(http.StatusCreated)
	many := "[" + strings.Repeat(`{"type":"x"},`, eventjson.MaxEvents) + `{"type":"x"}]`
	if p := h.post(eventsPath, many).want(413).problem(buildcast.TooLarge, ""); !strings.Contains(p.Detail, "1000") || !strings.Contains(p.Detail, "x-ndjson") {
		t.Errorf("detail %q", p.Detail)
	}
	large := `{"type":"x"}` + strings.Repeat(" ", maxBody)
	if p := h.post(eventsPath, large).want(413).problem(buildcast.TooLarge, ""); !strings.Contains(p.Detail, "4 MiB") {
		t.Errorf("detail %q", p.Detail)
	}
	// Without a length that is claimed beforehand.
	r, err := http.NewRequest("POST", h.url()+eventsPath, struct{ *strings.Reader }{strings.NewReader(large)})
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", jsonBody)
	a, err := h.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if a.StatusCode != 413 {
		t.Errorf("status %d", a.StatusCode)
	}
	exact := `{"type":"x"}` + strings.Repeat(" ", maxBody-12)
	h.post(eventsPath, exact).want(http.StatusCreated)
}

func TestAppendErrors(t *testing.T) {
	h := newHarness(t)
	for _, tt := range []struct {
		err        error
		status     int
		code       buildcast.Code
		retryAfter string
	}{
		{buildcast.Errorf(buildcast.StoreUnavailable, "the database is away").After(1500 * time.Millisecond), 503, buildcast.StoreUnavailable, "2"},
		{buildcast.Errorf(buildcast.Overloaded, "too much waits").After(time.Second), 429, buildcast.Overloaded, "1"},
		{buildcast.Errorf(buildcast.Fenced, "another owner"), 409, buildcast.Fenced, ""},
		{fmt.Errorf("some defect with a secret"), 500, buildcast.Internal, ""},
	} {
		h.store.fail(tt.err, nil)
		a := h.post(eventsPath, `{"type":"x"}`).want(tt.status)
		p := a.problem(tt.code, "")
		if got := a.Header.Get("Retry-After"); got != tt.retryAfter || fmt.Sprint(p.RetryAfter) != cmp.Or(got, "0") {
			t.Errorf("%s: Retry-After %q, retryAfter %d", tt.code, got, p.RetryAfter)
		}
		if strings.Contains(string(a.Body), "secret") {
			t.Errorf("the answer shows a cause: %s", a.Body)
		}
	}
}
