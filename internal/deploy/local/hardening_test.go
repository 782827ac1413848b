package local

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// hardened is a target with a site and a secret beside it, behind a real server.
// Its client sends bytes as they are: no HTTP client cleans the URLs first.
func hardened(t *testing.T) (target *Target, get func(path string) (int, string)) {
	t.Helper()
	target = newTarget(t)
	mustDeploy(t, target, "27", map[string]string{"index.html": "home", "a/page.html": "page"})
	mustDeploy(t, target, "28", map[string]string{"index.html": "another build"})
	write(t, filepath.Join(target.dir, "secret.txt"), "secret")
	write(t, filepath.Join(target.versions(), "secret.txt"), "secret")
	server := httptest.NewServer(target.Handler())
	t.Cleanup(server.Close)
	return target, func(path string) (int, string) {
		t.Helper()
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: build-27.localhost\r\nConnection: close\r\n\r\n", path)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var body strings.Builder
		if _, err := bufio.NewReader(res.Body).WriteTo(&body); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, body.String()
	}
}

func attack(t *testing.T, paths ...string) {
	t.Helper()
	_, get := hardened(t)
	if code, body := get("/a/page.html"); code != 200 || body != "page" {
		t.Fatalf("the site itself returns %d %q", code, body)
	}
	for _, path := range paths {
		code, body := get(path)
		if code != 404 && code != 400 || strings.Contains(body, "secret") || strings.Contains(body, "another build") || strings.Contains(body, "root:") {
			t.Errorf("%s gives %d %q", path, code, body)
		}
	}
}

func TestHardeningParentDirectory(t *testing.T) {
	attack(t, "/../secret.txt", "/../../secret.txt", "/a/../../secret.txt", "/a/..", "/..", "/./index.html")
}

func TestHardeningEncodedParentDirectory(t *testing.T) {
	attack(t, "/%2e%2e/secret.txt", "/%2e%2e%2fsecret.txt", "/..%2fsecret.txt", "/a%2f..%2f..%2fsecret.txt", "/%252e%252e/secret.txt")
}

func TestHardeningBackslash(t *testing.T) {
	attack(t, `/..\secret.txt`, "/..%5csecret.txt", `/a\page.html`, "/a%5cpage.html")
}

func TestHardeningZeroByte(t *testing.T) {
	attack(t, "/index.html%00", "/a/page.html%00.txt", "/%00")
}

func TestHardeningAbsolutePath(t *testing.T) {
	attack(t, "//etc/passwd", "/%2fetc%2fpasswd", "///index.html", "/a//page.html")
}

func TestHardeningHiddenFiles(t *testing.T) {
	target, get := hardened(t)
	version, err := target.current("27")
	if err != nil {
		t.Fatal(err)
	}
	// A deploy leaves them out; the server does not rely on that.
	for _, name := range []string{".env", ".git/config", "a/.env", "node_modules/x.js"} {
		write(t, filepath.Join(target.versions(), version, name), "secret")
		if code, body := get("/" + name); code != 404 || strings.Contains(body, "secret") {
			t.Errorf("%s gives %d %q", name, code, body)
		}
	}
}

func TestHardeningSymlinkInASite(t *testing.T) {
	target, get := hardened(t)
	version, err := target.current("27")
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(target.versions(), version)
	symlink(t, filepath.Join(target.dir, "secret.txt"), filepath.Join(root, "absolute.txt"))
	symlink(t, "../../secret.txt", filepath.Join(root, "relative.txt"))
	symlink(t, "..", filepath.Join(root, "up"))
	for _, path := range []string{"/absolute.txt", "/relative.txt", "/up/secret.txt", "/up/"} {
		if code, body := get(path); code != 404 || strings.Contains(body, "secret") {
			t.Errorf("%s gives %d %q", path, code, body)
		}
	}
}

func TestHardeningRedirectStaysOnTheHost(t *testing.T) {
	target := newTarget(t)
	url := mustDeploy(t, target, "27", map[string]string{"evil.example/index.html": "x"})
	for _, path := range []string{"/evil.example", "evil.example", "%2fevil.example", "%5cevil.example"} {
		w := get(target, url+path)
		to := w.Header().Get("Location")
		if strings.HasPrefix(to, "//") || strings.HasPrefix(to, `/\`) || strings.Contains(to, "://") {
			t.Errorf("%s leads to %q", path, to)
		}
	}
}

func TestHardeningHostNamesAreNoPaths(t *testing.T) {
	target, _ := hardened(t)
	for _, host := range []string{"build-../../x.localhost", "build-%2e%2e.localhost", `build-..\x.localhost`, "build-27/../28.localhost", "build-\x00.localhost"} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		target.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusMisdirectedRequest {
			t.Errorf("host %q gives %d", host, w.Code)
		}
	}
}

func TestHardeningNamedPipeDoesNotBlockTheServer(t *testing.T) {
	target, get := hardened(t)
	version, err := target.current("27")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(target.versions(), version, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _ := get("/pipe"); code != 404 {
		t.Errorf("a named pipe returns status %d", code)
	}
}

func TestHardeningDirectoryCalledIndex(t *testing.T) {
	target, get := hardened(t)
	version, err := target.current("27")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(target.versions(), version, "d/index.html"), 0o755); err != nil {
		t.Fatal(err)
	}
	if code, _ := get("/d/"); code != 404 {
		t.Errorf("a directory called index.html returns status %d", code)
	}
}

func FuzzFilePath(f *testing.F) {
	for _, s := range []string{"", "a/", "../x", "a//b", `a\b`, "a\x00", ".git/config", ".well-known/x", "/", "a/./b", "a/.."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		path, _, err := filePath(name)
		if err == nil && !filepath.IsLocal(path) {
			t.Errorf("%q becomes %q, which leaves the site", name, path)
		}
	})
}
