package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cleanup"
	"github.com/buildcast/buildcast/internal/deploy"
	"github.com/buildcast/buildcast/internal/deploy/cloudflare/cloudflaretest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"))
}

// world is a target before a fake service.
type world struct {
	*testing.T
	fake   *cloudflaretest.Fake
	target *Target
	dir    string
	logs   *strings.Builder

	mu       sync.Mutex
	progress []deploy.Progress
}

func newWorld(t *testing.T, files map[string]string) *world {
	t.Helper()
	w := &world{T: t, fake: &cloudflaretest.Fake{}, dir: t.TempDir(), logs: &strings.Builder{}}
	w.write(files)
	base, stop := w.fake.Start()
	t.Cleanup(stop)
	w.target = New(Config{
		BaseURL: base, Token: cloudflaretest.Token, AccountID: cloudflaretest.Account, Project: "preview",
		Pace: time.Millisecond, Logger: slog.New(slog.NewTextHandler(w.logs, nil)),
	})
	return w
}

func (w *world) write(files map[string]string) {
	w.Helper()
	for name, content := range files {
		at := filepath.Join(w.dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o750); err != nil {
			w.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(content), 0o600); err != nil {
			w.Fatal(err)
		}
	}
}

func (w *world) deploy() (deploy.Deployment, error) {
	return w.target.Deploy(w.Context(), deploy.Site{BuildID: "b1", Dir: w.dir}, func(p deploy.Progress) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.progress = append(w.progress, p)
	})
}

func (w *world) mustDeploy() deploy.Deployment {
	w.Helper()
	d, err := w.deploy()
	if err != nil {
		w.Fatal(err)
	}
	return d
}

// failOnce fails the first n requests whose path ends so.
func (w *world) failFirst(n int, suffix string, fail func(http.ResponseWriter)) {
	w.fake.Fail = func(rw http.ResponseWriter, r *http.Request) bool {
		if n == 0 || !strings.HasSuffix(r.Method+" "+r.URL.Path, suffix) {
			return false
		}
		n--
		_, _ = io.Copy(io.Discard, r.Body)
		fail(rw)
		return true
	}
}

var page = map[string]string{"index.html": "<h1>hello</h1>", "assets/app.js": "console.log(1)", "same.html": "<h1>hello</h1>"}

func TestDeploy(t *testing.T) {
	w := newWorld(t, page)
	w.write(map[string]string{
		"_headers": "/*\n  X-A: b", "_redirects": "/a /b", "node_modules/x/index.js": "no", ".git/config": "no", "functions/a.js": "no",
		"data.bin9": "x", "sub/.DS_Store": "no",
	})
	d := w.mustDeploy()
	made := w.fake.Deployments[0]
	if d.Ref != made.ID || d.URL != "https://"+made.ID+".pages.test" {
		t.Errorf("deployment %+v", d)
	}
	want := map[string]string{"/data.bin9": "x"}
	for name, content := range page {
		want["/"+name] = content
	}
	if got := w.fake.Site(made); !maps.Equal(got, want) {
		t.Errorf("site %v, want %v", got, want)
	}
	if made.Branch != "build-b1" || made.Files["_headers"] != "/*\n  X-A: b" || made.Files["_redirects"] != "/a /b" || len(made.Files) != 2 {
		t.Errorf("made %+v", made)
	}
	for p, want := range map[string]string{"/index.html": "text/html", "/data.bin9": "application/octet-stream"} {
		if got := w.fake.ContentType(made, p); got != want {
			t.Errorf("%s is served as %q, want %q", p, got, want)
		}
	}
	last := -1
	for _, p := range w.progress {
		if p.Percent < last || p.Percent > 100 || p.Message == "" {
			t.Errorf("progress %+v after %d %%", p, last)
		}
		last = p.Percent
	}
	if !slices.ContainsFunc(w.progress, func(p deploy.Progress) bool { return p.Uploaded == 3 && p.Total == 3 }) {
		t.Errorf("no end of the upload in %+v", w.progress)
	}
}

func TestASecondDeployUploadsNothing(t *testing.T) {
	w := newWorld(t, page)
	w.mustDeploy()
	uploads := w.fake.Uploads
	if _, err := w.target.Deploy(t.Context(), deploy.Site{BuildID: "b2", Dir: w.dir}, func(deploy.Progress) {}); err != nil {
		t.Fatal(err)
	}
	if w.fake.Uploads != uploads || uploads != 2 { // same.html has the content of index.html
		t.Errorf("%d files, then %d", uploads, w.fake.Uploads)
	}
	if len(w.fake.Deployments) != 2 {
		t.Errorf("%d deployments", len(w.fake.Deployments))
	}
}

// A server that was killed after it made the deployment finds it again.
func TestAnEarlierDeploymentIsTakenOver(t *testing.T) {
	w := newWorld(t, page)
	first := w.mustDeploy()
	if second := w.mustDeploy(); second != first || len(w.fake.Deployments) != 1 {
		t.Errorf("%+v, then %+v; %d deployments", first, second, len(w.fake.Deployments))
	}
	w.write(map[string]string{"index.html": "changed"})
	if third := w.mustDeploy(); third == first || len(w.fake.Deployments) != 2 {
		t.Errorf("other files: %+v; %d deployments", third, len(w.fake.Deployments))
	}
	w.fake.Stages = [][2]string{{"deploy", "failure"}}
	if _, err := w.deploy(); err == nil || len(w.fake.Deployments) != 3 {
		t.Errorf("one that failed was taken over: %v, %d deployments", err, len(w.fake.Deployments))
	}
}

func TestProductionGoesToTheProductionBranch(t *testing.T) {
	w := newWorld(t, page)
	if _, err := w.target.Deploy(t.Context(), deploy.Site{BuildID: "b1", Dir: w.dir, Production: true}, func(deploy.Progress) {}); err != nil {
		t.Fatal(err)
	}
	if got := w.fake.Deployments[0].Branch; got != "main" {
		t.Errorf("branch %q", got)
	}
}

// Each failure that has been seen of the service, and passes.
func TestTemporaryFailures(t *testing.T) {
	plain := func(status int, text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { http.Error(w, text, status) }
	}
	for name, tt := range map[string]struct {
		times  int
		suffix string
		fail   func(http.ResponseWriter)
	}{
		"502 on upload":        {5, "/upload", plain(502, "<html>bad gateway</html>")},
		"524 on check-missing": {2, "/check-missing", plain(524, "")},
		"429 with retry-after": {1, "/upload-token", func(w http.ResponseWriter) { w.Header().Set("Retry-After", "0"); plain(429, "slow down")(w) }},
		"429 as a date": {1, "/check-missing", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", time.Now().UTC().Format(http.TimeFormat))
			plain(429, "")(w)
		}},
		"expired token, plain":     {1, "/upload", plain(403, "Expired JWT")},
		"expired token, code":      {1, "/check-missing", func(w http.ResponseWriter) { cloudflaretest.Error(w, 401, codeTokenExpired, "jwt") }},
		"8000000 at deployment":    {2, "/deployments", func(w http.ResponseWriter) { cloudflaretest.Error(w, 500, codeTryAgain, "An unknown error occurred.") }},
		"upsert fails for good":    {9, "/upsert-hashes", plain(500, "no")},
		"500 while it is watched":  {3, "GET /accounts/" + cloudflaretest.Account + "/pages/projects/preview/deployments/d1", plain(500, "no")},
		"a connection that breaks": {2, "/upload", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, page)
			w.failFirst(tt.times, tt.suffix, tt.fail)
			w.mustDeploy()
			if len(w.fake.Deployments) != 1 {
				t.Errorf("%d deployments", len(w.fake.Deployments))
			}
			if got := w.fake.Site(w.fake.Deployments[0]); got["/index.html"] != page["index.html"] {
				t.Errorf("site %v", got)
			}
		})
	}
}

// Each failure ends the deploy with the service's own words and code, and without the token.
func TestFailuresAreTold(t *testing.T) {
	always := func(suffix string, status, code int, message string) func(*world) {
		return func(w *world) {
			w.failFirst(-1, suffix, func(rw http.ResponseWriter) { cloudflaretest.Error(rw, status, code, message) })
		}
	}
	for name, tt := range map[string]struct {
		set  func(*world)
		code buildcast.Code
		want []string
	}{
		"a token without rights": {always("/projects/preview", 403, 10000, "Authentication error"), buildcast.PermissionDenied, []string{"Authentication error (code 10000)", "Pages: Edit"}},
		"a refused project":      {always("POST /accounts/"+cloudflaretest.Account+"/pages/projects", 400, 8000019, "name taken"), buildcast.InvalidArgument, []string{"name taken (code 8000019)"}},
		"uploads never work":     {always("/upload", 502, 0, "x"), buildcast.Unreachable, []string{"files were uploaded"}},
		"8000000 for good":       {always("POST /accounts/"+cloudflaretest.Account+"/pages/projects/preview/deployments", 500, codeTryAgain, "An unknown error"), buildcast.Unreachable, []string{"An unknown error (code 8000000)"}},
		"a failing stage": {func(w *world) {
			w.fake.Stages = [][2]string{{"initialize", "active"}, {"deploy", "failure"}}
			w.fake.Log = []string{"starting", "Error: too many redirects", " "}
		}, buildcast.InvalidArgument, []string{"stage deploy ended with failure", "Error: too many redirects"}},
		"a stage that never ends": {func(w *world) {
			w.fake.Stages = [][2]string{{"deploy", "active"}}
			w.target.config.DeployTimeout = 50 * time.Millisecond
		}, buildcast.Unreachable, []string{"has not finished"}},
		"nobody there": {func(w *world) { w.target.config.BaseURL = "http://127.0.0.1:1" }, buildcast.Unreachable, []string{"did not answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, page)
			tt.set(w)
			_, err := w.deploy()
			e, ok := errors.AsType[*buildcast.Error](err)
			if !ok || e.Code != tt.code {
				t.Fatalf("error %v (%s), want %s", err, buildcast.CodeOf(err), tt.code)
			}
			for _, text := range tt.want {
				if !strings.Contains(e.Message, text) {
					t.Errorf("message %q lacks %q", e.Message, text)
				}
			}
			if strings.Contains(err.Error()+w.logs.String(), cloudflaretest.Token) {
				t.Errorf("the token is in %v or the log", err)
			}
		})
	}
}

// After a failure that may have made a deployment no second one is made.
func TestADeploymentIsNotMadeTwice(t *testing.T) {
	w := newWorld(t, page)
	posts := 0
	w.fake.Fail = func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/deployments") {
			return false
		}
		posts++
		http.Error(rw, "bad gateway", http.StatusBadGateway)
		return true
	}
	if _, err := w.deploy(); err == nil || posts != 1 {
		t.Errorf("%d requests, %v", posts, err)
	}
}

func TestHostileOutput(t *testing.T) {
	for name, tt := range map[string]struct {
		set  func(t *testing.T, dir string)
		want string
	}{
		"a link out":         {func(t *testing.T, dir string) { link(t, "/etc/passwd", filepath.Join(dir, "passwd")) }, "cannot be followed inside the output"},
		"a link to a device": {func(t *testing.T, dir string) { link(t, "/dev/zero", filepath.Join(dir, "zero")) }, "cannot be followed inside the output"},
		"a named pipe":       {func(t *testing.T, dir string) { pipe(t, filepath.Join(dir, "pipe")) }, "named pipe"},
		"a file too long":    {func(t *testing.T, dir string) { sparse(t, filepath.Join(dir, "big"), maxFileSize+1) }, "25 MiB"},
		"a worker in parts": {func(t *testing.T, dir string) {
			if err := os.Mkdir(filepath.Join(dir, "_worker.js"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, "bundle it into one file"},
		"large _headers": {func(t *testing.T, dir string) { sparse(t, filepath.Join(dir, "_headers"), maxSpecial+1) }, "_headers"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, page)
			tt.set(t, w.dir)
			_, err := w.deploy()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if len(w.fake.Requests) != 0 {
				t.Errorf("requests %v", w.fake.Requests)
			}
		})
	}
	empty := newWorld(t, nil)
	if _, err := empty.deploy(); err == nil || !strings.Contains(err.Error(), "no files") {
		t.Errorf("an empty output: %v", err)
	}
}

func TestBuckets(t *testing.T) {
	var many []asset
	for i := range 4100 {
		many = append(many, asset{path: fmt.Sprint(i), size: 1})
	}
	if b := buckets(many); len(b) != 3 || len(b[0]) != bucketFiles || len(b[2]) != 100 {
		t.Errorf("%d buckets", len(b))
	}
	large := []asset{{size: 25 << 20}, {size: 16 << 20}, {size: 15 << 20}}
	if b := buckets(large); len(b) != 2 || len(b[0]) != 1 || len(b[1]) != 2 {
		t.Errorf("buckets %v", b)
	}
	if b := buckets(nil); len(b) != 0 {
		t.Errorf("buckets of nothing: %v", b)
	}
}

// A link inside the output is the file that it leads to, as in local previews.
func TestALinkInsideTheOutputIsItsFile(t *testing.T) {
	w := newWorld(t, page)
	link(t, "assets", filepath.Join(w.dir, "static"))
	link(t, "index.html", filepath.Join(w.dir, "home.html"))
	w.mustDeploy()
	if got := w.fake.Site(w.fake.Deployments[0]); got["/static/app.js"] != page["assets/app.js"] || got["/home.html"] != page["index.html"] {
		t.Errorf("site %v", got)
	}
}

// Buckets are streamed: memory does not grow with the site.
func TestMemoryDoesNotGrowWithTheSite(t *testing.T) {
	w := newWorld(t, page)
	const files, size = 40, 2 << 20
	for i := range files {
		sparse(t, filepath.Join(w.dir, fmt.Sprintf("f%d.bin", i)), size+int64(i)) // another length, another hash
	}
	w.fake.Fail = func(rw http.ResponseWriter, r *http.Request) bool { // the service without its memory
		if !strings.HasSuffix(r.URL.Path, "/assets/upload") {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(rw, `{"success":true,"errors":[],"result":null}`)
		return true
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _ = w.deploy() // the fake then lacks the files
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > files*size/4 {
		t.Errorf("%d MB were allocated for a site of %d MB", grown>>20, files*size>>20)
	}
}

func TestACancelledDeployEnds(t *testing.T) {
	w := newWorld(t, page)
	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("the build is over")
	w.fake.Fail = func(http.ResponseWriter, *http.Request) bool { cancel(over); return false }
	if _, err := w.target.Deploy(ctx, deploy.Site{BuildID: "b1", Dir: w.dir}, func(deploy.Progress) {}); err == nil {
		t.Error("it went on")
	}
}

func TestRetryAfter(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-3": 0, "x": 0, "999999": longestRetryAfter} {
		if got := retryAfter(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
	target := New(Config{Pace: time.Second})
	if d, again := target.wait(&apiError{status: 429, retryAfter: 9 * time.Second}, 0); !again || d != 9*time.Second {
		t.Errorf("429 waits %v", d)
	}
	if d, again := target.wait(&apiError{status: 502}, 2); !again || d != 24*time.Second { // 2^2 + 5·2^2
		t.Errorf("502 waits %v", d)
	}
	if _, again := target.wait(&apiError{status: 400, code: 8000009}, 0); again {
		t.Error("a refusal is repeated")
	}
}

func TestCleanUp(t *testing.T) {
	w := newWorld(t, page)
	w.mustDeploy()
	w.fake.Deployments = nil
	now := time.Now()
	for i := range 60 {
		d := &cloudflaretest.Deployment{ID: fmt.Sprint("old", i), Branch: fmt.Sprint("build-", i), Created: now.Add(-time.Duration(i+1) * 24 * time.Hour)}
		switch i {
		case 40:
			d.Branch = "feature"
		case 41:
			w.fake.Canonical = d.ID
		case 42:
			d.Branch = "main"
		}
		w.fake.Deployments = append(w.fake.Deployments, d)
	}
	w.target.config.Retain = 7*24*time.Hour + time.Minute
	if n, err := w.target.Clean(t.Context(), cleanup.Request{DryRun: true}, func(int, int) {}); err != nil || n.Count != 50 || len(w.fake.Deployments) != 60 {
		t.Fatalf("%d would be removed, %v; %d are left", n.Count, err, len(w.fake.Deployments))
	}
	if n, err := w.target.Clean(t.Context(), cleanup.Request{OlderThan: 30 * 24 * time.Hour, Branch: "build-3?"}, func(int, int) {}); err != nil || n.Count != 10 {
		t.Fatalf("%d of build-3? are removed, %v", n.Count, err)
	}
	seen := 0
	if n, err := w.target.Clean(t.Context(), cleanup.Request{}, func(done, total int) { seen = done * 100 / total }); err != nil || n.Count != 40 || seen != 100 {
		t.Fatalf("%d are removed, %v; progress %d %%", n.Count, err, seen)
	}
	for _, kept := range []string{"old0", "old6", "old40", "old41", "old42"} {
		if !slices.ContainsFunc(w.fake.Deployments, func(d *cloudflaretest.Deployment) bool { return d.ID == kept }) {
			t.Errorf("%s is removed", kept)
		}
	}
	if len(w.fake.Deployments) != 10 {
		t.Errorf("%d are left", len(w.fake.Deployments))
	}
}

// Deployments that are removed meanwhile, by another node, shift the pages; those that
// are made meanwhile do too. One that cannot be removed does not keep the others, and
// is tried again the next time.
func TestCleanUpWithAnotherNode(t *testing.T) {
	w := newWorld(t, page)
	w.mustDeploy()
	w.fake.Deployments = nil
	for i := range 80 {
		w.fake.Deployments = append(w.fake.Deployments, &cloudflaretest.Deployment{ID: fmt.Sprint("old", i), Branch: fmt.Sprint("build-", i), Created: time.Now().Add(-time.Duration(i+10) * 24 * time.Hour)})
	}
	broken := true
	removes := 0
	w.fake.Fail = func(rw http.ResponseWriter, r *http.Request) bool {
		unlock := w.fake.Lock()
		defer unlock()
		switch {
		case r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/old40") && broken:
			cloudflaretest.Error(rw, http.StatusBadRequest, 8000000, "An unknown error")
			return true
		case r.Method == http.MethodDelete:
			if removes++; removes%7 == 0 { // the other node is faster
				w.fake.Deployments = slices.DeleteFunc(w.fake.Deployments, func(d *cloudflaretest.Deployment) bool { return strings.HasSuffix(r.URL.Path, "/"+d.ID) })
			}
		case r.FormValue("page") == "2": // a new one comes in between
			w.fake.Deployments = append([]*cloudflaretest.Deployment{{ID: "new", Branch: "build-new", Created: time.Now()}}, w.fake.Deployments...)
		}
		return false
	}
	n, err := w.target.Clean(t.Context(), cleanup.Request{}, func(int, int) {})
	if n.Count != 79 || err == nil || !strings.Contains(err.Error(), "An unknown error (code 8000000)") {
		t.Errorf("%d are removed, %v", n.Count, err)
	}
	broken = false
	if n, err := w.target.Clean(t.Context(), cleanup.Request{}, func(int, int) {}); n.Count != 1 || err != nil {
		t.Errorf("the next time %d are removed, %v", n.Count, err)
	}
	for _, d := range w.fake.Deployments {
		if d.ID != "new" {
			t.Errorf("%s is left", d.ID)
		}
	}
}

func TestCleanUpEndsIfTheServiceIsDown(t *testing.T) {
	w := newWorld(t, page)
	w.mustDeploy()
	w.fake.Deployments = nil
	for i := range 20 {
		w.fake.Deployments = append(w.fake.Deployments, &cloudflaretest.Deployment{ID: fmt.Sprint(i), Branch: "build-x", Created: time.Now().Add(-10 * 24 * time.Hour)})
	}
	removes := 0
	w.fake.Fail = func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodDelete {
			return false
		}
		removes++
		cloudflaretest.Error(rw, http.StatusForbidden, 10000, "Authentication error")
		return true
	}
	if n, err := w.target.Clean(t.Context(), cleanup.Request{}, func(int, int) {}); n.Count != 0 || err == nil || removes != maxFailures {
		t.Errorf("%d are removed with %d requests, %v", n.Count, removes, err)
	}
}

func link(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

func sparse(t *testing.T, at string, size int64) {
	t.Helper()
	f, err := os.Create(at)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

func pipe(t *testing.T, at string) {
	t.Helper()
	if err := syscall.Mkfifo(at, 0o600); err != nil {
		t.Fatal(err)
	}
}
