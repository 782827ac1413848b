package eventjson

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/buildcast/buildcast"
)

// FuzzDecode: what is accepted is JSON, within the limits, and is what
// encoding/json reads.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"type":"x"}`, `[{"type":"a","data":{"b":[1,"]"]},"key":"k"},{"type":"b"}]`, `{"type":"x","data":"\ud83d\ude00"}`, `{"\u0074ype":"x"}`,
		`{"type":"x","timestamp":"2026-11-23T07:14:31Z"}`, `{"type":"x","data":[}`, `{"type":null}`, "\xff", `{`, `[`, `"`, `{"type":"x","data":1e5}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		events, err := Decode(body)
		if err != nil {
			if buildcast.CodeOf(err) == buildcast.Internal {
				t.Fatalf("%q gives %v", body, err)
			}
			return
		}
		if !json.Valid(body) || len(events) == 0 || len(events) > MaxEvents {
			t.Fatalf("%q is accepted as %d events", body, len(events))
		}
		if bytes.TrimSpace(body)[0] != '[' {
			body = append(append([]byte("["), body...), ']')
		}
		var want []buildcast.NewEvent
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("%q: encoding/json says %v", body, err)
		}
		for i := range want {
			if err := want[i].Validate(); err != nil {
				t.Fatalf("%q: %v", body, err)
			}
			if g, w := events[i], want[i]; g.Type != w.Type || g.Key != w.Key || !g.Timestamp.Equal(w.Timestamp) || !bytes.Equal(g.Data, w.Data) {
				t.Fatalf("%q is read as %+v, encoding/json reads %+v", body, g, w)
			}
		}
	})
}
