package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventjson"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
	"github.com/buildcast/buildcast/internal/store"
)

// recordingLog keeps what was appended, and answers at once.
type recordingLog struct {
	Log
	events []buildcast.NewEvent
}

func (l *recordingLog) Append(_ context.Context, _ string, _ int64, events ...buildcast.NewEvent) (store.Appended, error) {
	var a store.Appended
	for _, e := range events {
		if err := e.Validate(); err != nil {
			return a, err
		}
		l.events = append(l.events, e)
		a.Events = append(a.Events, buildcast.Event{ID: int64(len(l.events))})
	}
	return a, nil
}

// FuzzNDJSON: the lines before the first bad one are stored, all of them, in
// order, and the answer says so.
func FuzzNDJSON(f *testing.F) {
	for _, s := range []string{
		"{\"type\":\"a\"}\n{\"type\":\"b\"}\n", "\n\r\n{\"type\":\"a\"}", "{\"type\":\"a\"}\nx\n{\"type\":\"b\"}", "[]", "{", "\x00", "{\"type\":\"a\"} {\"type\":\"b\"}",
	} {
		f.Add(s)
	}
	log := &recordingLog{}
	h := New(Config{Log: log, Events: newMemory(), Logger: quiet()})
	f.Fuzz(func(t *testing.T, body string) {
		log.events = nil
		if len(body) > eventjson.MaxLine {
			return
		}
		var want []string
		bad := 0
		for i, line := range strings.Split(body, "\n") {
			if line = string(bytes.TrimSpace([]byte(line))); line == "" {
				continue
			}
			e, err := eventjson.DecodeLine([]byte(line))
			if err != nil {
				bad = i + 1
				break
			}
			want = append(want, e.Type)
		}
		r := httptest.NewRequest("POST", eventsPath, strings.NewReader(body+"\n"))
		r.Header.Set("Content-Type", ndjsonBody)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var got []string
		for _, e := range log.events {
			got = append(got, e.Type)
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("%q: stored %q, want %q", body, got, want)
		}
		var answer struct{ Line, Count int }
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Line != bad || answer.Count != len(want) {
			t.Fatalf("%q: answer %d %s, want line %d and count %d", body, w.Code, w.Body, bad, len(want))
		}
	})
}

// FuzzPollParameters: any query is either within the limits or refused.
func FuzzPollParameters(f *testing.F) {
	f.Add("7", "10", "25s")
	f.Add("-1", "0", "61")
	f.Add("9223372036854775808", "1e3", "1h")
	f.Add("", "", "0.5")
	f.Add("%", "\x00", "NaN")
	f.Fuzz(func(t *testing.T, cursor, limit, wait string) {
		q := url.Values{"lastEventId": {cursor}, "limit": {limit}, "wait": {wait}}
		r := httptest.NewRequest("GET", eventsPath+"?"+q.Encode(), nil)
		r.SetPathValue("id", "b1")
		p, err := (&api{}).readPoll(r)
		if err != nil {
			if buildcast.CodeOf(err) != buildcast.InvalidArgument || problem.FieldOf(err) == "" {
				t.Fatalf("%q gives %v", q, err)
			}
			return
		}
		if p.start.After < 0 || p.limit < 1 || p.limit > 1000 || p.wait < 0 || p.wait > time.Minute {
			t.Fatalf("%q is read as %+v", q, p)
		}
	})
}

// FuzzBuildID: no path reaches a store with an id that is not valid.
func FuzzBuildID(f *testing.F) {
	for _, s := range []string{"b1", "a.b", "..", "%00", "a/b", "é", strings.Repeat("a", 27), "A_-9"} {
		f.Add(s)
	}
	m := newMemory()
	h := New(Config{Builds: m, Events: m, Logger: quiet()})
	f.Fuzz(func(t *testing.T, id string) {
		r := httptest.NewRequest("GET", "/api/builds/x/status", nil)
		r.URL.Path, r.URL.RawPath = "/api/builds/"+id+"/status", ""
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if buildcast.ValidateBuildID(id) == nil {
			if w.Code != http.StatusNotFound {
				t.Fatalf("a valid id %q gives %d", id, w.Code)
			}
			return
		}
		// Refused, unknown as a path, or sent to a cleaner one.
		if w.Code < 300 || w.Code >= 500 {
			t.Fatalf("%q gives %d", id, w.Code)
		}
	})
}
