package turbocache

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/buildcast/buildcast/internal/cache"
)

// project copies examples/turbo-monorepo to a new directory, with the real turbo.
func project(t *testing.T) string {
	t.Helper()
	tools, err := filepath.Abs("turbotest/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(tools, ".bin/turbo")); err != nil {
		t.Fatalf("turbo is not installed: run scripts/install-deps (%v)", err)
	}
	dir := t.TempDir()
	const example = "../../examples/turbo-monorepo"
	for _, name := range []string{".gitignore", "package.json", "package-lock.json", "turbo.json", "packages/words/package.json", "packages/words/build.js", "packages/words/words.txt", "packages/site/package.json", "packages/site/build.js"} {
		b, err := os.ReadFile(filepath.Join(example, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	modules := filepath.Join(dir, "node_modules")
	if err := os.Mkdir(modules, 0o755); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"words": "../packages/words", "site": "../packages/site", "turbo": filepath.Join(tools, "turbo"), "@turbo": filepath.Join(tools, "@turbo"), ".bin": filepath.Join(tools, ".bin")} {
		if err := os.Symlink(to, filepath.Join(modules, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// turbo builds the project with the cache at the URL. It must succeed and make the page.
func turbo(t *testing.T, dir, api, token string, env ...string) (output string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "node_modules/.bin/turbo"), "run", "build")
	cmd.Dir = dir
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "CI=1", "TURBO_API=" + api, "TURBO_TOKEN=" + token, "TURBO_TEAM=site",
		"TURBO_TELEMETRY_DISABLED=1", "DO_NOT_TRACK=1", "TURBO_NO_UPDATE_NOTIFIER=1",
	}, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("turbo fails: %v\n%s", err, out)
	}
	if page, err := os.ReadFile(filepath.Join(dir, "packages/site/dist/index.html")); err != nil || !strings.Contains(string(page), "<li>cursor</li>") {
		t.Fatalf("the page: %v %s\n%s", err, page, out)
	}
	return string(out)
}

func serveTo(t *testing.T, h *Handler, a Access) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer right" {
			Refuse(w, http.StatusForbidden, "forbidden", "this needs an API key")
			return
		}
		h.Serve(w, r, a)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

const (
	fullTurbo = "FULL TURBO"
	noneHit   = "0 cached, 2 total"
)

// One directory fills the cache, another, which shares nothing with it but the cache's
// address, takes everything from it; also if artifacts are signed.
func TestRealTurbo(t *testing.T) {
	for name, env := range map[string][]string{
		"plain":     nil,
		"preflight": {"TURBO_PREFLIGHT=true"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newCache(t)
			api := serveTo(t, newHandler(c), trusted)
			if out := turbo(t, project(t), api, "right", env...); !strings.Contains(out, noneHit) {
				t.Errorf("the first: %s", out)
			}
			second := project(t)
			if out := turbo(t, second, api, "right", env...); !strings.Contains(out, fullTurbo) || !strings.Contains(out, "4 words") {
				t.Errorf("the second: %s", out)
			}
			if err := os.WriteFile(filepath.Join(second, "packages/site/build.js"), append(read(t, second, "packages/site/build.js"), "// changed\n"...), 0o644); err != nil {
				t.Fatal(err)
			}
			if out := turbo(t, second, api, "right", env...); !strings.Contains(out, "1 cached, 2 total") {
				t.Errorf("after a change: %s", out)
			}
		})
	}
}

// turbo signs with a key that the server does not have, and takes only what is signed.
func TestRealTurboSigns(t *testing.T) {
	c, _ := newCache(t)
	api := serveTo(t, newHandler(c), trusted)
	signed := func(t *testing.T) string {
		dir := project(t)
		config := strings.Replace(string(read(t, dir, "turbo.json")), "{", `{ "remoteCache": { "signature": true },`, 1)
		if err := os.WriteFile(filepath.Join(dir, "turbo.json"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	const key = "TURBO_REMOTE_CACHE_SIGNATURE_KEY="
	turbo(t, signed(t), api, "right", key+"one")
	if out := turbo(t, signed(t), api, "right", key+"one"); !strings.Contains(out, fullTurbo) {
		t.Errorf("the same key: %s", out)
	}
	if out := turbo(t, signed(t), api, "right", key+"another"); !strings.Contains(out, noneHit) {
		t.Errorf("another key: %s", out)
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever the cache's trouble is, turbo builds: it exits 0 and the page is there.
func TestRealTurboWithoutCache(t *testing.T) {
	c, _ := newCache(t)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
	}))
	t.Cleanup(broken.Close)
	over := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	t.Cleanup(hangs.Close)
	t.Cleanup(func() { close(over) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + l.Addr().String()
	l.Close()
	for name, tt := range map[string]struct {
		api, token string
		env        []string
	}{
		"wrong token":  {serveTo(t, newHandler(c), trusted), "wrong", nil},
		"full disk":    {serveTo(t, newHandler(fullDisk{c}), trusted), "right", nil},
		"no cache":     {serveTo(t, newHandler(nil), trusted), "right", nil},
		"dead":         {dead, "right", nil},
		"broken":       {broken.URL, "right", nil},
		"never answer": {hangs.URL, "right", []string{"TURBO_REMOTE_CACHE_TIMEOUT=1", "TURBO_REMOTE_CACHE_UPLOAD_TIMEOUT=1"}},
	} {
		t.Run(name, func(t *testing.T) {
			if out := turbo(t, project(t), tt.api, tt.token, tt.env...); !strings.Contains(out, noneHit) {
				t.Error(out)
			}
		})
	}
}

// fullDisk is a cache on a disk that has no room left.
type fullDisk struct{ *cache.Cache }

func (fullDisk) Put(context.Context, cache.Scope, *cache.Key, cache.Entry, map[string]cache.Source, bool) error {
	return &os.PathError{Op: "write", Path: "temp", Err: syscall.ENOSPC}
}
