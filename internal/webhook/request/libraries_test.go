package request

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/webhooksig"
)

const js = "../../../js"

// opinion is what a library says of a request: the payload it read, or why not.
type opinion struct {
	Payload json.RawMessage
	Refused string
}

// receiver starts js/test/receiver.js and gives its URL.
func receiver(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"standardwebhooks", "svix-1", "svix-2"} {
		if _, err := os.Stat(js + "/node_modules/" + name); err != nil {
			t.Fatalf("the npm package %s is not installed: run make deps", name)
		}
	}
	node := exec.CommandContext(t.Context(), "node", "test/receiver.js")
	node.Dir, node.Stderr = js, os.Stderr
	stdin, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close() // it ends with its input
		_ = node.Wait()
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the receiver did not start: %v", err)
	}
	return "http://127.0.0.1:" + strings.TrimSpace(port) + "/"
}

// ask sends the request to the receiver, and gives the libraries' opinions by name.
func ask(t *testing.T, req *http.Request) map[string]opinion {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var opinions map[string]opinion
	if err := json.NewDecoder(resp.Body).Decode(&opinions); err != nil {
		t.Fatal(err)
	}
	if len(opinions) != 5 {
		t.Fatalf("%d libraries were asked, want 5", len(opinions))
	}
	return opinions
}

// The libraries that receivers use, as npm has them, verify what New makes, with the
// lines that docs/webhooks-receiving.md gives for them.
func TestLibrariesVerify(t *testing.T) {
	const header = "buildcast X-Webhook-Signature" // an opinion of the other scheme
	at := receiver(t)
	current, previous := webhooksig.NewSecret(), webhooksig.NewSecret()
	plain, err := webhooksig.ParseSecret("It's a Secret to Everybody")
	if err != nil {
		t.Fatal(err)
	}
	long := event()
	long.Data, _ = json.Marshal(strings.Repeat("ä€😀\u2028\"\\ </script>", 2000))
	for _, tt := range []struct {
		name    string
		e       *buildcast.Event
		payload buildcast.Payload
		secrets []webhooksig.Secret
		known   webhooksig.Secret // to the receiver
		age     time.Duration
		spoil   func(*http.Request, []byte)
		ok      bool   // in everyone's opinion
		refused string // but this one's
	}{
		{name: "full", e: event(), secrets: []webhooksig.Secret{current}, known: current, ok: true},
		{name: "thin", e: event(), payload: buildcast.PayloadThin, secrets: []webhooksig.Secret{current}, known: current, ok: true},
		{name: "long", e: long, secrets: []webhooksig.Secret{current}, known: current, ok: true},
		{name: "plain secret", e: event(), secrets: []webhooksig.Secret{plain}, known: plain, ok: true},
		{name: "rotation, new secret", e: event(), secrets: []webhooksig.Secret{current, previous}, known: current, ok: true},
		{name: "rotation, old secret", e: event(), secrets: []webhooksig.Secret{current, previous}, known: previous, ok: true, refused: header},
		{name: "four minutes old", e: event(), secrets: []webhooksig.Secret{current}, known: current, age: 4 * time.Minute, ok: true},
		{name: "six minutes old", e: event(), secrets: []webhooksig.Secret{current}, known: current, age: 6 * time.Minute, spoil: func(req *http.Request, _ []byte) {
			req.Header.Del("x-webhook-signature") // which knows no time
		}},
		{name: "another secret", e: event(), secrets: []webhooksig.Secret{current}, known: previous},
		{name: "a flipped byte", e: event(), secrets: []webhooksig.Secret{current}, known: current, spoil: func(_ *http.Request, body []byte) {
			body[bytes.Index(body, []byte(`"progress":60`))+len(`"progress":`)] ^= 1
		}},
		{name: "another id", e: event(), secrets: []webhooksig.Secret{current}, known: current, spoil: func(req *http.Request, _ []byte) {
			req.Header.Set("webhook-id", "msg_01JDTESTBUILD_27_8")
			req.Header.Del("x-webhook-signature") // which knows no id
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Receiver{URL: at + "?secret=" + url.QueryEscape(tt.known.Reveal()), Payload: tt.payload, Secrets: tt.secrets}
			req, err := New(t.Context(), r, tt.e, 1, time.Now().Add(-tt.age))
			if err != nil {
				t.Fatal(err)
			}
			sent := []byte(body(t, req))
			if tt.spoil != nil {
				tt.spoil(req, sent)
			}
			req.Body = io.NopCloser(bytes.NewReader(sent))
			for name, got := range ask(t, req) {
				if !tt.ok || name == tt.refused {
					if got.Refused == "" {
						t.Errorf("%s accepts it", name)
					}
					continue
				}
				if got.Refused != "" {
					t.Errorf("%s refuses it: %s", name, got.Refused)
				}
				if diff := cmp.Diff(decoded(t, sent), decoded(t, got.Payload)); diff != "" {
					t.Errorf("%s reads another payload (-sent +read):\n%s", name, diff)
				}
			}
		})
	}
}

func decoded(t *testing.T, data []byte) (v any) {
	t.Helper()
	if len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v in %.100q", err, data)
	}
	return v
}
