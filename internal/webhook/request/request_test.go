package request

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/webhooksig"
)

func event() *buildcast.Event {
	at, _ := time.Parse(time.RFC3339, "2026-11-23T07:14:31.123Z")
	return &buildcast.Event{
		ID: 7, BuildID: "01JDTESTBUILD_27", Type: buildcast.TaskCompleted,
		Data: json.RawMessage(`{"taskName":"<a> & ä","n":1.50}`), Progress: 60, Timestamp: buildcast.TimeOf(at),
	}
}

func body(t testing.TB, req *http.Request) string {
	t.Helper()
	b, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestNew(t *testing.T) {
	current, previous := webhooksig.NewSecret(), webhooksig.NewSecret()
	r := Receiver{
		URL:     "https://example.com/hooks?x=1",
		Headers: map[string]string{"x-team": "a", "content-type": "text/plain", "Webhook-ID": "forged", "x-webhook-signature": "forged"},
		Secrets: []webhooksig.Secret{current, previous},
	}
	now := time.Now()
	req, err := New(t.Context(), r, event(), 3, now)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"buildId":"01JDTESTBUILD_27","id":7,"type":"task_completed","data":{"taskName":"<a> & ä","n":1.50},"progress":60,"timestamp":"2026-11-23T07:14:31.123Z"}`
	sent := body(t, req)
	if sent != want {
		t.Errorf("body\n%s\nwant\n%s", sent, want)
	}
	if req.Method != http.MethodPost || req.URL.String() != r.URL || req.ContentLength != int64(len(want)) || req.Context() != t.Context() {
		t.Errorf("%s %s with %d bytes", req.Method, req.URL, req.ContentLength)
	}
	agent := req.Header.Get("User-Agent")
	if !strings.HasPrefix(agent, "buildcast") || !strings.HasSuffix(agent, " (+https://github.com/buildcast/buildcast)") {
		t.Errorf("user agent %q", agent)
	}
	for _, secret := range r.Secrets {
		if err := webhooksig.Verify(req.Header, []byte(sent), secret); err != nil {
			t.Error(err)
		}
	}
	if err := webhooksig.VerifyBody(req.Header, []byte(sent), current); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"User-Agent", "Webhook-Timestamp", "Webhook-Signature", "X-Webhook-Signature"} {
		req.Header.Del(name)
	}
	if diff := cmp.Diff(http.Header{
		"X-Team": {"a"}, "Content-Type": {"application/json"}, "Webhook-Id": {"msg_01JDTESTBUILD_27_7"}, "Webhook-Attempt": {"3"},
	}, req.Header); diff != "" {
		t.Error(diff)
	}
	again, err := req.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(again); string(b) != want {
		t.Errorf("the second body is %s", b)
	}
}

// The id is of the event alone, so that a receiver knows what it had before.
func TestMessageIDStays(t *testing.T) {
	seen := map[string]bool{}
	for try := range 3 {
		for _, url := range []string{"https://a.example/", "https://b.example/"} {
			r := Receiver{URL: url, Secrets: []webhooksig.Secret{webhooksig.NewSecret()}}
			req, err := New(t.Context(), r, event(), try+1, time.Unix(int64(try), 0))
			if err != nil {
				t.Fatal(err)
			}
			seen[req.Header.Get("webhook-id")] = true
		}
	}
	if len(seen) != 1 {
		t.Errorf("ids: %v", seen)
	}
}

func TestWithoutSecret(t *testing.T) {
	r := Receiver{URL: "http://localhost/", Headers: map[string]string{"Webhook-Signature": "v1,forged", "X-Webhook-Signature": "forged"}}
	for _, r.Secrets = range [][]webhooksig.Secret{nil, {{}}} {
		req, err := New(t.Context(), r, event(), 1, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if req.Header["Webhook-Signature"] != nil || req.Header["X-Webhook-Signature"] != nil || req.Header.Get("Webhook-Id") == "" {
			t.Errorf("headers without a secret: %v", req.Header)
		}
	}
}

func TestNotValidURL(t *testing.T) {
	for _, url := range []string{"", "/hooks", "hooks.example/pass:word", "https://user:hunter2@exa mple.com/", "http://[::1/hunter2", "https:///hunter2", "\x00"} {
		_, err := New(t.Context(), Receiver{URL: url}, event(), 1, time.Now())
		if buildcast.CodeOf(err) != buildcast.InvalidArgument || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// What is appended by hand is what encoding/json makes of the noun.
func TestPayloadIsTheNoun(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := &buildcast.Event{
			ID:        rapid.Int64Range(1, 1<<53).Draw(t, "id"),
			BuildID:   rapid.StringMatching(`[A-Za-z0-9_-]{1,26}`).Draw(t, "build"),
			Type:      rapid.StringMatching(`[a-z][a-z0-9_.-]{0,49}`).Draw(t, "type"),
			Progress:  rapid.IntRange(0, 100).Draw(t, "progress"),
			Timestamp: buildcast.TimeOf(time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "ms"))),
		}
		if rapid.Bool().Draw(t, "data") {
			e.Data, _ = json.Marshal(rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "map"))
		}
		payload := rapid.SampledFrom([]buildcast.Payload{"", buildcast.PayloadFull, buildcast.PayloadThin}).Draw(t, "payload")
		want := buildcast.WebhookPayload{BuildID: e.BuildID, ID: e.ID, Type: e.Type, Progress: e.Progress, Timestamp: e.Timestamp}
		if payload != buildcast.PayloadThin {
			if want.Data = e.Data; len(want.Data) == 0 {
				want.Data = json.RawMessage("{}")
			}
		}
		wantJSON, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendPayload(nil, e, payload); string(got) != string(wantJSON) {
			t.Fatalf("%s\nwant\n%s", got, wantJSON)
		}
	})
}

// A real client sends it, and a real receiver finds it good.
func TestArrives(t *testing.T) {
	secret := webhooksig.NewSecret()
	verdict := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil {
			err = webhooksig.Verify(r.Header, b, secret)
		}
		verdict <- err
	}))
	defer server.Close()
	req, err := New(t.Context(), Receiver{URL: server.URL, Secrets: []webhooksig.Secret{secret}}, event(), 1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := <-verdict; err != nil {
		t.Error(err)
	}
}

func BenchmarkNew(b *testing.B) {
	secret := webhooksig.NewSecret()
	e, now := event(), time.Now()
	for _, bench := range []struct {
		name string
		r    Receiver
	}{
		{"one secret", Receiver{URL: "https://example.com/hooks", Secrets: []webhooksig.Secret{secret}}},
		{"rotation", Receiver{URL: "https://example.com/hooks", Secrets: []webhooksig.Secret{secret, webhooksig.NewSecret()}}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := New(b.Context(), bench.r, e, 1, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
