package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deploy"
)

func TestDeploy(t *testing.T) {
	target := newTarget(t)
	dir := output(t, map[string]string{"index.html": "<h1>27</h1>", "assets/a.css": "h1{}"})
	var messages []string
	url, err := publish(t.Context(), target, "27", dir, func(m string) { messages = append(messages, m) })
	if err != nil {
		t.Fatal(err)
	}
	if url != "http://build-27.localhost:8081/" || url != target.URL("27") {
		t.Errorf("URL %s", url)
	}
	// One message for a small site: the reference build has one deploy_progress.
	if len(messages) != 1 || messages[0] != "Publishing 2 files (15 bytes)" {
		t.Errorf("progress %q", messages)
	}
	if w := get(target, url+"assets/a.css"); w.Code != 200 || w.Body.String() != "h1{}" {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
}

func TestDeployAddresses(t *testing.T) {
	for template, want := range map[string]string{
		"":                                    "http://build-27.localhost:8081/",
		"http://{label}.localhost:9000/":      "http://build-27.localhost:9000/",
		"https://{label}.Preview.Example.com": "https://build-27.preview.example.com/",
		"https://{label}.preview.example.com:443": "https://build-27.preview.example.com/",
		"http://{label}.preview.example.com:9000": "http://build-27.preview.example.com:9000/",
		"http://{label}.previews.localhost:8081":  "http://build-27.previews.localhost:8081/",
		"https://{label}-pr.example.com":          "https://build-27-pr.example.com/",
		"https://previews.example.com/{label}":    "https://previews.example.com/build-27/",
		"http://192.0.2.7:8081/{label}/":          "http://192.0.2.7:8081/build-27/",
		"http://[2001:db8::7]:8081/{label}":       "http://[2001:db8::7]:8081/build-27/",
	} {
		var at Address
		if template != "" {
			at = parse(t, template)
		}
		target := New(Config{Dir: filepath.Join(t.TempDir(), "p"), Address: at})
		url := mustDeploy(t, target, "27", map[string]string{"index.html": "x"})
		if url != want {
			t.Errorf("%s: URL %s, want %s", template, url, want)
		}
		if w := get(target, url); w.Code != 200 {
			t.Errorf("%s: GET %s returns status %d", template, url, w.Code)
		}
	}
}

func TestBadAddressesNameTheFix(t *testing.T) {
	for template, want := range map[string]string{
		"https://previews.example.com":                 "https://{label}.previews.example.com",
		"previews.example.com":                         "lacks {label}",
		"{label}.previews.example.com":                 "https://{label}",
		"ftp://{label}.previews.example.com":           "http or https",
		"https://{label}.{label}.example.com":          "more than once",
		"https://previews.{label}.example.com":         "first part of the host",
		"https://{label}":                              "first part of the host",
		"https://{label}.example.com/previews":         "host of their own",
		"https://example.com/previews/{label}":         "host of their own",
		"https://user:secret@{label}.example.com":      "more than scheme",
		"https://{label}.example.com?x":                "more than scheme",
		"https://{label}-is-too-long-here.example.com": "at most 13",
	} {
		_, err := ParseAddress(template)
		if buildcast.CodeOf(err) != buildcast.InvalidArgument || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q in it", template, err, want)
		}
	}
}

func TestDeployAgainReplacesTheSite(t *testing.T) {
	target := newTarget(t)
	first := mustDeploy(t, target, "27", map[string]string{"index.html": "one", "gone.html": "x"})
	again := mustDeploy(t, target, "27", map[string]string{"index.html": "two"})
	if first != again {
		t.Errorf("URL %s, then %s", first, again)
	}
	if w := get(target, again); w.Body.String() != "two" {
		t.Errorf("got %q", w.Body)
	}
	if w := get(target, again+"gone.html"); w.Code != 404 {
		t.Errorf("a file of the previous version returns status %d", w.Code)
	}
	if n := versionsLeft(t, target); n != 1 {
		t.Errorf("%d versions are kept, want 1", n)
	}
}

func TestFailedDeployKeepsTheSite(t *testing.T) {
	target := newTarget(t)
	url := mustDeploy(t, target, "27", map[string]string{"index.html": "one"})
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("the build was cancelled")
	dir := output(t, map[string]string{"index.html": "two"})
	_, err := publish(ctx, target, "27", dir, func(string) { cancel(stopped) })
	if !errors.Is(err, stopped) {
		t.Fatalf("error %v", err)
	}
	if w := get(target, url); w.Body.String() != "one" {
		t.Errorf("got %q", w.Body)
	}
	if n := versionsLeft(t, target); n != 1 {
		t.Errorf("%d versions are kept, want 1", n)
	}
}

func TestBuildsDoNotShareASite(t *testing.T) {
	target := newTarget(t)
	ids := []string{"a", "A", "a_", "_a", "x-84", "01JD3Y5R8Q0V6M2K7T9XBCDEFG", "01jd3y5r8q0v6m2k7t9xbcdefg"}
	for _, id := range ids {
		mustDeploy(t, target, id, map[string]string{"index.html": id})
	}
	for _, id := range ids {
		if w := get(target, target.URL(id)); w.Body.String() != id {
			t.Errorf("the preview of %q shows %q", id, w.Body)
		}
	}
}

func TestRemove(t *testing.T) {
	target := newTarget(t)
	url := mustDeploy(t, target, "27", map[string]string{"index.html": "x"})
	for range 2 {
		if err := target.Remove("27", time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if w := get(target, url); w.Code != 404 || !strings.Contains(w.Body.String(), "No preview here") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if n := versionsLeft(t, target); n != 0 {
		t.Errorf("%d versions are kept", n)
	}
	refused(t, target.Remove("../x", time.Now()), buildcast.InvalidArgument)
}

// The clean-up of a deleted build comes late: a new build under the same id
// has been deployed meanwhile.
func TestRemoveLeavesALaterPreview(t *testing.T) {
	target := newTarget(t)
	deleted := time.Now()
	url := mustDeploy(t, target, "27", map[string]string{"index.html": "new"})
	if err := target.Remove("27", deleted); err != nil {
		t.Fatal(err)
	}
	if w := get(target, url); w.Code != 200 {
		t.Errorf("the new build's preview returns status %d", w.Code)
	}
}

func TestDeployLeavesOut(t *testing.T) {
	target := newTarget(t)
	url := mustDeploy(t, target, "27", map[string]string{
		"index.html": "x", "a/.git/config": "x", ".git/HEAD": "x", "node_modules/m.js": "x", "a/node_modules/m.js": "x",
		".env": "SECRET=1", "a/.env": "SECRET=1", ".well-known/security.txt": "Contact: x", "a/b.txt": "b",
	})
	version, err := target.current("27")
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	root := filepath.Join(target.versions(), version)
	err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			kept = append(kept, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err != nil || strings.Join(kept, " ") != ".well-known/security.txt a/b.txt index.html" {
		t.Errorf("kept %q, %v", kept, err)
	}
	if w := get(target, url+".well-known/security.txt"); w.Code != 200 {
		t.Errorf(".well-known gives %d", w.Code)
	}
}

func TestDeployFollowsLinksThatStayInside(t *testing.T) {
	target := newTarget(t)
	dir := output(t, map[string]string{"index.html": "x", "v1/a.txt": "a"})
	symlink(t, "v1", filepath.Join(dir, "latest"))
	symlink(t, "../index.html", filepath.Join(dir, "v1/top.html"))
	url, err := publish(t.Context(), target, "27", dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil { // the preview holds copies
		t.Fatal(err)
	}
	for path, want := range map[string]string{"latest/a.txt": "a", "v1/top.html": "x", "latest/top.html": "x"} {
		if w := get(target, url+path); w.Body.String() != want {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
	}
}

func TestDeployRefuses(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret.txt")
	write(t, outside, "secret")
	tests := []struct {
		name  string
		spoil func(t *testing.T, dir string)
		parts []string
	}{
		{"a link that leads out", func(t *testing.T, dir string) { symlink(t, outside, filepath.Join(dir, "a/out.txt")) }, []string{`"a/out.txt"`, outside}},
		{"a link that climbs out", func(t *testing.T, dir string) { symlink(t, "../../secret.txt", filepath.Join(dir, "a/up.txt")) }, []string{`"a/up.txt"`}},
		{"a link to a directory outside", func(t *testing.T, dir string) { symlink(t, filepath.Dir(outside), filepath.Join(dir, "all")) }, []string{`"all"`}},
		{"a link by way of another", func(t *testing.T, dir string) {
			symlink(t, "..", filepath.Join(dir, "a/up"))
			symlink(t, "a/up/../secret.txt", filepath.Join(dir, "b.txt"))
		}, nil},
		{"a link to nothing", func(t *testing.T, dir string) { symlink(t, "nowhere", filepath.Join(dir, "n.txt")) }, []string{`"n.txt"`, "nowhere", "does not exist"}},
		{"a link to itself", func(t *testing.T, dir string) { symlink(t, "l.txt", filepath.Join(dir, "l.txt")) }, []string{`"l.txt"`}},
		{"a link to its own directory", func(t *testing.T, dir string) { symlink(t, "..", filepath.Join(dir, "a/loop")) }, []string{`"a/loop"`, "contains it"}},
		{"a named pipe", func(t *testing.T, dir string) {
			if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, []string{`"pipe"`, "named pipe"}},
		{"a socket", func(t *testing.T, dir string) {
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "s"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, []string{`"s"`, "socket"}},
		{"a link to a device", func(t *testing.T, dir string) { symlink(t, "/dev/zero", filepath.Join(dir, "zero")) }, []string{`"zero"`}},
		{"nothing to serve", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "index.html")); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, ".git/HEAD"), "x")
		}, []string{`"dist"`, "no files"}},
		{"no directory", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}, []string{`"dist"`, "does not exist"}},
		{"a file for the directory", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			write(t, dir, "x")
		}, []string{`"dist"`, "not a directory"}},
		{"a link for the directory", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			symlink(t, filepath.Dir(outside), dir)
		}, []string{`"dist"`, "symbolic link"}},
		{"a path that is too long", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, strings.Repeat("directory/", 110), "x"), "x")
		}, []string{"1024 bytes"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			target := newTarget(t)
			// The path must be short: a socket's path has at most 104 bytes.
			dir, err := os.MkdirTemp("", "out")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			dir = filepath.Join(dir, "dist")
			write(t, filepath.Join(dir, "index.html"), "x")
			tt.spoil(t, dir)
			_, err = publish(t.Context(), target, "27", dir, quiet)
			refused(t, err, buildcast.InvalidArgument, tt.parts...)
			if _, err := os.Stat(target.dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something was written for an output that is refused: %v", err)
			}
		})
	}
}

func TestDeployLimits(t *testing.T) {
	t.Run("files", func(t *testing.T) {
		dir := output(t, map[string]string{"index.html": "x"})
		for i := range deploy.MaxFiles {
			if err := os.Mkdir(filepath.Join(dir, fmt.Sprint(i)), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		_, err := publish(t.Context(), newTarget(t), "27", dir, quiet)
		refused(t, err, buildcast.TooLarge, "20000")
	})
	t.Run("bytes", func(t *testing.T) {
		dir := output(t, map[string]string{"index.html": "x"})
		write(t, filepath.Join(dir, "large"), "")
		if err := os.Truncate(filepath.Join(dir, "large"), deploy.MaxBytes); err != nil { // sparse: it takes no space
			t.Fatal(err)
		}
		_, err := publish(t.Context(), newTarget(t), "27", dir, quiet)
		refused(t, err, buildcast.TooLarge, "1024 MiB")
	})
}

func TestDeployRefusesBuildIDs(t *testing.T) {
	dir := output(t, map[string]string{"index.html": "x"})
	for _, id := range []string{"", "../x", "a/b", "a.b", strings.Repeat("a", 27)} {
		_, err := publish(t.Context(), newTarget(t), id, dir, quiet)
		refused(t, err, buildcast.InvalidArgument, "build id")
	}
}

// TestReadersSeeAWholeSite reads while the site is replaced again and again: a
// file that every version has is never missing, and never a mixture.
func TestReadersSeeAWholeSite(t *testing.T) {
	target := newTarget(t)
	site := func(n int) map[string]string {
		text := strings.Repeat(fmt.Sprint(n%10), 4096)
		return map[string]string{"index.html": text, "a/b/c.txt": text}
	}
	url := mustDeploy(t, target, "27", site(0))
	outputs := make([]string, 40)
	for i := range outputs {
		outputs[i] = output(t, site(i))
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for _, path := range []string{"", "a/b/c.txt"} {
		readers.Go(func() {
			for {
				w := get(target, url+path)
				body := w.Body.String()
				if w.Code != 200 || len(body) != 4096 || strings.Count(body, body[:1]) != len(body) {
					t.Errorf("%q gives %d with %d bytes", path, w.Code, len(body))
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	var deploys sync.WaitGroup
	for half := range 2 { // two at once, as after a lease that moved on
		deploys.Go(func() {
			for i := half; i < len(outputs); i += 2 {
				if _, err := publish(t.Context(), target, "27", outputs[i], quiet); err != nil {
					t.Error(err)
				}
			}
		})
	}
	deploys.Wait()
	close(done)
	readers.Wait()
	if n := versionsLeft(t, target); n != 1 {
		t.Errorf("%d versions are kept, want 1", n)
	}
}
