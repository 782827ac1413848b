package turbocache

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast/internal/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	trusted = Access{Scope: cache.Scope{Org: "default", Project: "site"}}
	planned = Access{Scope: cache.Scope{Org: "default", Project: "site", Planned: true}}
)

func newCache(t *testing.T) (*cache.Cache, string) {
	t.Helper()
	dir := t.TempDir()
	c, err := cache.Open(cache.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return c, dir
}

func newHandler(c Cache) *Handler { return New(c, slog.New(slog.DiscardHandler)) }

// ask serves one request; headers come in pairs.
func ask(h *Handler, a Access, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.Serve(w, r, a)
	return w
}

// The vector was recorded with turbo: what is kept lets a client verify its signature.
func TestArtifactComesBackAsItWas(t *testing.T) {
	c, _ := newCache(t)
	h := newHandler(c)
	const key, team, hash, tag = "x3vq8mFz0J", "tH7sL1Rn9K", "d5b7e4688f", "ki5kbVnrrPqbWiWxMWbW3OE6Q6SXmbqEpfGvEFQWbZw="
	body := "\x05\x48\xdb\x27\x9c"
	path := "/v8/artifacts/" + hash + "?teamId=" + team
	if w := ask(h, trusted, "HEAD", path, ""); w.Code != 404 {
		t.Errorf("before: %d", w.Code)
	}
	w := ask(h, trusted, "PUT", path, body, "Content-Type", "application/octet-stream", "x-artifact-duration", "1234", "x-artifact-tag", tag)
	if w.Code != 202 || strings.TrimSpace(w.Body.String()) != `{"urls":["/v8/artifacts/d5b7e4688f"]}` {
		t.Fatalf("PUT: %d %s", w.Code, w.Body)
	}
	for _, method := range []string{"HEAD", "GET"} {
		w := ask(h, trusted, method, path, "")
		head := w.Header()
		if w.Code != 200 || head.Get("Content-Length") != "5" || head.Get("x-artifact-duration") != "1234" || head.Get("x-artifact-tag") != tag || head.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%s: %d %v", method, w.Code, head)
		}
		if method == "GET" {
			mac := hmac.New(sha256.New, []byte(key))
			mac.Write([]byte(hash + team + w.Body.String()))
			if base64.StdEncoding.EncodeToString(mac.Sum(nil)) != head.Get("x-artifact-tag") {
				t.Error("the signature is not the body's")
			}
		}
	}
	w = ask(h, trusted, "POST", "/v8/artifacts?slug=x", `{"hashes":["d5b7e4688f","ffff"]}`)
	if w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"d5b7e4688f":{"size":5,"taskDurationMs":1234,"tag":"`+tag+`"},"ffff":null}` {
		t.Errorf("query: %d %s", w.Code, w.Body)
	}
	if w := ask(h, trusted, "GET", "/v8/artifacts/status", ""); w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"status":"enabled"}` {
		t.Errorf("status: %d %s", w.Code, w.Body)
	}
	if w := ask(h, trusted, "POST", "/v8/artifacts/events", `[{"sessionId":"s","source":"REMOTE","event":"HIT","hash":"d5","duration":3}]`); w.Code != 200 || strings.TrimSpace(w.Body.String()) != "{}" {
		t.Errorf("events: %d %s", w.Code, w.Body)
	}
	if w := ask(h, trusted, "OPTIONS", path, ""); w.Code != 200 || !strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), "Authorization") || w.Header().Get("Location") != "" {
		t.Errorf("preflight: %d %v", w.Code, w.Header())
	}
}

// What a planned build stores, whatever it says it is, reaches no other build. It may
// itself read what trusted builds made, and cannot replace it.
func TestAttackPoisoning(t *testing.T) {
	c, _ := newCache(t)
	h := newHandler(c)
	for _, query := range []string{"", "?slug=site", "?teamId=site&slug=default", "?planned=false"} {
		if w := ask(h, planned, "PUT", "/v8/artifacts/aaaa"+query, "poison"); w.Code != 202 {
			t.Fatalf("PUT: %d", w.Code)
		}
	}
	other := Access{Scope: cache.Scope{Org: "default", Project: "other"}}
	for name, a := range map[string]Access{"trusted": trusted, "another project": other, "another org": {Scope: cache.Scope{Org: "x", Project: "site"}}} {
		if w := ask(h, a, "GET", "/v8/artifacts/aaaa", ""); w.Code != 404 {
			t.Errorf("%s gets %d %q", name, w.Code, w.Body)
		}
	}
	if w := ask(h, planned, "GET", "/v8/artifacts/aaaa", ""); w.Body.String() != "poison" {
		t.Errorf("its own: %d %q", w.Code, w.Body)
	}
	ask(h, trusted, "PUT", "/v8/artifacts/bbbb", "good")
	ask(h, planned, "PUT", "/v8/artifacts/bbbb", "poison")
	ask(h, trusted, "PUT", "/v8/artifacts/bbbb", "late") // the first stays
	for name, a := range map[string]Access{"trusted": trusted, "planned": planned} {
		if w := ask(h, a, "GET", "/v8/artifacts/bbbb", ""); w.Body.String() != "good" {
			t.Errorf("%s reads %q", name, w.Body)
		}
	}
	hidden := trusted
	hidden.NoRead = true
	if w := ask(h, hidden, "GET", "/v8/artifacts/bbbb", ""); w.Code != 404 {
		t.Errorf("a build without cache reads %d", w.Code)
	}
}

func TestDamagedArtifactIsAbsent(t *testing.T) {
	c, dir := newCache(t)
	h := newHandler(c)
	ask(h, trusted, "PUT", "/v8/artifacts/aaaa", "content")
	err := filepath.WalkDir(filepath.Join(dir, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = os.WriteFile(path, []byte("CONTENT"), 0o600)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if w := ask(h, trusted, "GET", "/v8/artifacts/aaaa", ""); w.Code != 404 || w.Header().Get("x-artifact-duration") != "" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	ask(h, trusted, "PUT", "/v8/artifacts/aaaa", "content")
	if w := ask(h, trusted, "GET", "/v8/artifacts/aaaa", ""); w.Body.String() != "content" {
		t.Errorf("after a new upload: %d %q", w.Code, w.Body)
	}
}

// sick is a cache whose disk has trouble.
type sick struct {
	Cache
	err error
}

func (s sick) Put(context.Context, cache.Scope, *cache.Key, cache.Entry, map[string]cache.Source, bool) error {
	return s.err
}

func (s sick) Get(cache.Scope, *cache.Key) *cache.Entry {
	return &cache.Entry{Blobs: map[string]cache.Blob{blobName: {Size: 1}}}
}

func (s sick) Content(context.Context, *cache.Entry, string) (io.ReadSeekCloser, error) {
	return nil, s.err
}

func TestTroubleIsToldApartFromAbsence(t *testing.T) {
	disk := newHandler(sick{err: &os.PathError{Op: "read", Path: "/secret/path", Err: syscall.EIO}})
	if w := ask(disk, trusted, "PUT", "/v8/artifacts/aaaa", "x"); w.Code != 500 || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("PUT: %d %s", w.Code, w.Body)
	}
	if w := ask(disk, trusted, "GET", "/v8/artifacts/aaaa", ""); w.Code != 500 || w.Header().Get("Content-Length") != "" {
		t.Errorf("GET: %d %s", w.Code, w.Body)
	}
	full := newHandler(sick{err: &os.PathError{Op: "write", Path: "/secret/path", Err: syscall.ENOSPC}})
	if w := ask(full, trusted, "PUT", "/v8/artifacts/aaaa", "x"); w.Code != 412 {
		t.Errorf("full: %d %s", w.Code, w.Body)
	}
	none := newHandler(nil)
	if w := ask(none, trusted, "PUT", "/v8/artifacts/aaaa", "x"); w.Code != 403 || !strings.Contains(w.Body.String(), `"code":"remote_caching_disabled"`) {
		t.Errorf("none: %d %s", w.Code, w.Body)
	}
	if w := ask(none, trusted, "GET", "/v8/artifacts/status", ""); !strings.Contains(w.Body.String(), "disabled") {
		t.Errorf("none: %s", w.Body)
	}
}

func TestUploadThatIsCutIsNotKept(t *testing.T) {
	c, dir := newCache(t)
	h := newHandler(c)
	r := httptest.NewRequest("PUT", "/v8/artifacts/aaaa", io.MultiReader(strings.NewReader("half"), failing{}))
	w := httptest.NewRecorder()
	h.Serve(w, r, trusted)
	if w.Code != 400 {
		t.Errorf("%d", w.Code)
	}
	if w := ask(h, trusted, "GET", "/v8/artifacts/aaaa", ""); w.Code != 404 {
		t.Errorf("half of it is kept: %d %q", w.Code, w.Body)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "temp")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// One build's uploads that never end do not hold up another build.
func TestAttackSlowUploads(t *testing.T) {
	c, _ := newCache(t)
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(c)
		for range maxUploads {
			h.uploads <- struct{}{}
		}
		began := time.Now()
		if w := ask(h, trusted, "PUT", Prefix+"/aaaa", "x"); w.Code != http.StatusPreconditionFailed || time.Since(began) != uploadWait {
			t.Errorf("%d after %v", w.Code, time.Since(began))
		}
		<-h.uploads
		if w := ask(h, trusted, "PUT", Prefix+"/aaaa", "x"); w.Code != http.StatusAccepted {
			t.Errorf("with room: %d", w.Code)
		}
	})
}

func TestWhatIsRefused(t *testing.T) {
	c, _ := newCache(t)
	h := newHandler(c)
	many := `{"hashes":["` + strings.Repeat(`a","`, 1001) + `"]}`
	for _, tt := range []struct {
		method, path, body string
		headers            []string
		want               int
	}{
		{"GET", "/v8/artifacts/" + url.PathEscape("../../etc/passwd"), "", nil, 400},
		{"PUT", "/v8/artifacts/a%00b", "x", nil, 400},
		{"PUT", "/v8/artifacts/" + strings.Repeat("a", 129), "x", nil, 400},
		{"PUT", "/v8/artifacts/aaaa", "x", []string{"x-artifact-duration", "-1"}, 400},
		{"PUT", "/v8/artifacts/aaaa", "x", []string{"x-artifact-duration", "soon"}, 400},
		{"PUT", "/v8/artifacts/aaaa", "x", []string{"x-artifact-tag", strings.Repeat("x", 1025)}, 400},
		{"POST", "/v8/artifacts", "{", nil, 400},
		{"POST", "/v8/artifacts", many, nil, 400},
		{"POST", "/v8/artifacts", strings.Repeat(" ", 300<<10) + "{}", nil, 413},
		{"POST", "/v8/artifacts/events", "no", nil, 400},
		{"GET", "/v8/artifacts", "", nil, 405},
		{"DELETE", "/v8/artifacts/aaaa", "", nil, 405},
		{"GET", "/v9/artifacts/aaaa", "", nil, 404},
	} {
		w := ask(h, trusted, tt.method, tt.path, tt.body, tt.headers...)
		if w.Code != tt.want && !(tt.want == 405 && w.Code == 404) { // the root pattern takes other methods
			t.Errorf("%s %.60s: %d %s", tt.method, tt.path, w.Code, w.Body)
		}
	}
	r := httptest.NewRequest("PUT", "/v8/artifacts/aaaa", http.NoBody)
	r.ContentLength = MaxArtifact + 1
	w := httptest.NewRecorder()
	h.Serve(w, r, trusted)
	if w.Code != 413 {
		t.Errorf("too large: %d", w.Code)
	}
}

// A hash leads to its own artifact and to nothing else, however the path is written.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"aaaa", "../aaaa", "a%2Fb", "status", "events", "", "a?slug=b", "%00", "a b", "a#b", "..%2f..%2fetc", strings.Repeat("f", 200)} {
		f.Add(s, "slug=a&teamId=b")
	}
	c, err := cache.Open(cache.Config{Dir: f.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	h := newHandler(c)
	ask(h, trusted, "PUT", "/v8/artifacts/aaaa", "content")
	f.Fuzz(func(t *testing.T, path, query string) {
		u := &url.URL{Path: "/v8/artifacts/" + path, RawQuery: query}
		if parsed, err := url.Parse(u.String()); err != nil || parsed.RawQuery != query {
			return
		}
		r := (&http.Request{Method: "GET", URL: u, Header: http.Header{}, Body: http.NoBody}).WithContext(t.Context())
		w := httptest.NewRecorder()
		h.Serve(w, r, trusted)
		_ = Team(r)
		if w.Code == 200 && path != "status" && (path != "aaaa" || !bytes.Equal(w.Body.Bytes(), []byte("content"))) {
			t.Errorf("%q: %d %q", path, w.Code, w.Body)
		}
		if w.Code >= 500 {
			t.Errorf("%q: %d", path, w.Code)
		}
	})
}
