package local

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deploy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output makes an output directory with the files.
func output(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "dist")
	for name, content := range files {
		write(t, filepath.Join(dir, name), content)
	}
	return dir
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, to, at string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

func newTarget(t *testing.T) *Target {
	t.Helper()
	return New(Config{Dir: filepath.Join(t.TempDir(), "previews")})
}

func parse(t *testing.T, template string) Address {
	t.Helper()
	at, err := ParseAddress(template)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func quiet(string) {}

func mustDeploy(t *testing.T, target *Target, buildID string, files map[string]string) string {
	t.Helper()
	url, err := publish(t.Context(), target, buildID, output(t, files), quiet)
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// get asks the handler for a URL; header holds pairs.
func get(target *Target, url string, header ...string) *httptest.ResponseRecorder {
	return ask(target, http.MethodGet, url, header...)
}

func ask(target *Target, method, url string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, url, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	target.Handler().ServeHTTP(w, r)
	return w
}

// refused checks that err has the code and that its message holds all parts.
func refused(t *testing.T, err error, code buildcast.Code, parts ...string) {
	t.Helper()
	if buildcast.CodeOf(err) != code || err == nil {
		t.Fatalf("error %v, want one with code %s", err, code)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not mention %q", err, part)
		}
	}
}

// versionsLeft counts what is kept below versions.
func versionsLeft(t *testing.T, target *Target) int {
	t.Helper()
	names, err := list(target.versions())
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// publish deploys, and returns the URL.
func publish(ctx context.Context, target *Target, buildID, dir string, progress func(message string)) (string, error) {
	d, err := target.Deploy(ctx, deploy.Site{BuildID: buildID, Dir: dir}, func(p deploy.Progress) { progress(p.Message) })
	return d.URL, err
}
