package webhook_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/webhook"
	"github.com/buildcast/buildcast/internal/webhook/webhooktest"
)

// aead is a key, of which there is one for each letter.
func aead(t *testing.T, letter string) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher([]byte(strings.Repeat(letter, 32)))
	if err != nil {
		t.Fatal(err)
	}
	key, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// written is what is written to a log.
type written struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *written) Bytes() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.text.Bytes())
}

// What nobody may read, by what it is.
const (
	firstSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secondSecret = "the second secret of the endpoint"
	headerValue  = "Bearer a-header-that-is-a-secret"
	urlToken     = "a-token-in-the-url"
)

func found(in []byte) (names []string) {
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(firstSecret, "whsec_"))
	for name, text := range map[string]string{
		"the first secret": firstSecret, "its key": string(key), "the second": secondSecret, "a header": headerValue, "a url's token": urlToken,
	} {
		if bytes.Contains(in, []byte(text)) {
			names = append(names, name)
		}
	}
	return names
}

// livelyEndpoint makes an endpoint with secrets in all places, and has all happen
// to it that can be told of. It gives what the API, the log of operations and the
// server's log say.
func livelyEndpoint(t *testing.T, w *webhooktest.World, log *written) (id string, said map[string][]byte) {
	t.Helper()
	s := &webhooktest.Site{}
	w.Sites["token.example"] = s
	operations, _ := w.Site(buildcast.EndpointChange{Builds: &[]string{buildcast.OperationsBuild}})
	e, err := w.Create(t.Context(), buildcast.EndpointChange{
		URL: new("https://token.example/hook?token=" + urlToken), Secret: new(firstSecret), Headers: &map[string]string{"Authorization": headerValue},
	})
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := w.Rotate(t.Context(), e.ID, secondSecret, 7*24*time.Hour)
	if err != nil || rotated.Secret != secondSecret {
		t.Fatal(rotated, err)
	}
	synctest.Wait()
	for _, answer := range []func(context.Context, webhooktest.Received) (*http.Response, error){
		nil, webhooktest.Always(500), webhooktest.Refuse, webhooktest.Always(302),
		func(ctx context.Context, _ webhooktest.Received) (*http.Response, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		nil, webhooktest.Always(http.StatusGone),
	} {
		s.Set(answer)
		w.Add("b1", 8)
		_, _ = w.Test(t.Context(), e.ID)
		<-time.After(5 * time.Minute)
	}
	said = map[string][]byte{"the server's log": log.Bytes()}
	note := func(what string, v any, err error) {
		text, jsonErr := json.Marshal(v)
		said[what] = fmt.Append(text, err, jsonErr)
	}
	shown, err := w.Endpoints(t.Context())
	for i := range shown {
		shown[i].URL = "" // the one place that shows it
	}
	note("the endpoints", shown, err)
	note("the deliveries", w.Listed(store.DeliveryFilter{}), nil)
	note("the operations", operations.All(), nil)
	for _, r := range operations.All() {
		said["the operations' requests"] = append(said["the operations' requests"], r.Body...)
	}
	for name, do := range map[string]func() error{
		"a wrong header": func() error {
			_, err := w.Change(t.Context(), e.ID, buildcast.EndpointChange{Headers: &map[string]string{"X-A": headerValue + "\r\n"}})
			return err
		},
		"a wrong secret": func() error {
			_, err := w.Rotate(t.Context(), e.ID, "whsec_"+secondSecret, 0)
			return err
		},
		"a wrong secret at first": func() error {
			_, err := w.Create(t.Context(), buildcast.EndpointChange{URL: new("https://a.example"), Secret: new("whsec_" + secondSecret)})
			return err
		},
	} {
		err := do()
		if buildcast.CodeOf(err) != buildcast.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
		said[name] = []byte(fmt.Sprint(err))
	}
	if len(said["the operations' requests"]) == 0 || len(said["the server's log"]) == 0 {
		t.Error("nothing was told")
	}
	return e.ID, said
}

// files gives all bytes of the database.
func files(t *testing.T, path string) (all []byte) {
	t.Helper()
	names, err := filepath.Glob(path + "*")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	return all
}

// Secrets are in no log, answer, event or error; and with a key in no file.
func TestSecretsAreNowhere(t *testing.T) {
	for name, letter := range map[string]string{"with a key": "k", "without a key": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &written{}
				w := webhooktest.New(t, func(c *webhook.Config) {
					c.Logger = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
					c.Schedule = []time.Duration{time.Second, time.Second}
					if letter != "" {
						c.Key = aead(t, letter)
					}
				})
				_, said := livelyEndpoint(t, w, log)
				for where, text := range said {
					if names := found(text); len(names) > 0 {
						t.Errorf("%s: %v", where, names)
					}
				}
				w.Stop()
				inFiles := strings.Join(found(bytes.ReplaceAll(files(t, w.Path), []byte(urlToken), nil)), ", ")
				if sealed := inFiles == ""; sealed != (letter != "") {
					t.Errorf("the database holds %q", inFiles)
				}
			})
		})
	}
}

// Without the key that it was made with, an endpoint says so, and all else works.
// With it, it goes on.
func TestWithoutItsKey(t *testing.T) {
	with := func(letter string) func(*webhook.Config) {
		return func(c *webhook.Config) {
			if letter != "" {
				c.Key = aead(t, letter)
			}
		}
	}
	for name, c := range map[string]struct{ letter, says string }{
		"another key": {"x", "another --webhook-key"}, "no key": {"", "start the server with the --webhook-key"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := webhooktest.New(t, with("k"))
				s, e := w.Site(buildcast.EndpointChange{})
				w.Stop()
				w.Start(with(c.letter))
				fine, other := w.Site(buildcast.EndpointChange{})
				synctest.Wait()
				w.Add("b1", 2)
				<-time.After(time.Minute)
				all, err := w.Endpoints(t.Context())
				if err != nil || len(all) != 2 || all[0].Enabled || !strings.Contains(all[0].DisabledReason, c.says) || !all[1].Enabled {
					t.Errorf("the list: %+v %v", all, err)
				}
				if one, err := w.Endpoint(t.Context(), e.ID); err != nil || one.Enabled || !strings.Contains(one.DisabledReason, c.says) {
					t.Errorf("%+v %v", one, err)
				}
				if status, err := w.Status(t.Context()); err != nil || status.Endpoints[0].Enabled || status.Endpoints[0].Backlog != 2 {
					t.Errorf("the status: %+v %v", status, err)
				}
				_, changed := w.Change(t.Context(), e.ID, buildcast.EndpointChange{Enabled: new(true)})
				_, rotated := w.Rotate(t.Context(), e.ID, "", 0)
				_, tested := w.Test(t.Context(), e.ID)
				for _, err := range []error{changed, rotated, tested} {
					if buildcast.CodeOf(err) != buildcast.Conflict || !strings.Contains(err.Error(), c.says) {
						t.Errorf("%v", err)
					}
				}
				if len(s.All()) != 0 || len(fine.All()) != 2 {
					t.Errorf("%d requests, and %d to another endpoint", len(s.All()), len(fine.All()))
				}
				if err := w.Delete(t.Context(), other.ID); err != nil {
					t.Error(err)
				}
				w.Stop()
				w.Start(with("k"))
				<-time.After(time.Minute)
				if got := s.All(); len(got) != 2 || webhooktest.Signed(got[0], webhooktest.SecretText) != nil {
					t.Errorf("with its key again: %d requests", len(got))
				}
			})
		})
	}
}

// What was stored before there was a key is encrypted once there is one.
func TestKeySealsWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := webhooktest.New(t)
		s, _ := w.Site(buildcast.EndpointChange{})
		w.Stop()
		w.Start(func(c *webhook.Config) { c.Key = aead(t, "k") })
		synctest.Wait()
		w.Add("b1", 1)
		synctest.Wait()
		stored, err := w.DB.ListEndpoints(t.Context())
		if err != nil || len(stored) != 1 || bytes.Contains(stored[0].Sealed, []byte(webhooktest.SecretText)) {
			t.Errorf("%q %v", stored[0].Sealed, err)
		}
		if got := s.All(); len(got) != 1 || webhooktest.Signed(got[0], webhooktest.SecretText) != nil {
			t.Errorf("%d requests", len(got))
		}
	})
}
