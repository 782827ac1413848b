//go:build compat

package cloudflare

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/buildcast/buildcast/internal/deploy"
	"github.com/buildcast/buildcast/internal/deploy/cloudflare/cloudflaretest"
)

// wrangler runs Cloudflare's own tool against the fake.
func (w *world) wrangler(branch string) {
	w.Helper()
	bin, err := filepath.Abs("wrangler/node_modules/wrangler/bin/wrangler.js")
	if err != nil {
		w.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		w.Fatal("wrangler is not installed: run make compat")
	}
	cmd := exec.CommandContext(w.Context(), "node", bin, "pages", "deploy", w.dir, "--project-name", "preview", "--branch", branch, "--commit-hash", "abc", "--commit-message", "hello", "--commit-dirty=true")
	cmd.Dir = w.TempDir()
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "CI=1", "WRANGLER_SEND_METRICS=false", "NO_COLOR=1",
		"CLOUDFLARE_API_TOKEN=" + cloudflaretest.Token, "CLOUDFLARE_ACCOUNT_ID=" + cloudflaretest.Account, "CLOUDFLARE_API_BASE_URL=" + w.target.config.BaseURL,
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		w.Fatalf("wrangler: %v\n%s", err, out)
	}
}

// Wrangler and buildcast send the same: hashes, manifest, content types, and the form
// of the deployment.
func TestCompatWithWrangler(t *testing.T) {
	w := newWorld(t, page)
	w.write(map[string]string{
		"_headers": "/*\n  X-A: b", "_redirects": "/a /b", "assets/na me é.txt": "café €", "a.tar.gz": "x", "noext": "x", "UPPER.HTML": "x",
		"node_modules/x/index.js": "no", ".git/config": "no", "sub/.DS_Store": "no", ".well-known/x.json": "{}", "empty.css": "",
		"logo.svg": "<svg/>", "font.woff2": "x", "a.mjs": "1", "data.json": "{}", "x.xml": "<x/>", "m.map": "{}", "i.ico": "i", "w.wasm": "w", "v.webmanifest": "{}",
	})
	for ext := range types {
		w.write(map[string]string{"types/file" + ext: ext})
	}
	w.mustDeploy()
	uploads := w.fake.Uploads
	ours, types := w.fake.Deployments[0], map[string]string{}
	for p := range ours.Manifest {
		types[p] = w.fake.ContentType(ours, p)
	}
	w.wrangler("build-b1")
	theirs := w.fake.Deployments[0]
	if w.fake.Uploads != uploads {
		t.Errorf("wrangler uploaded %d files after us: its hashes are others", w.fake.Uploads-uploads)
	}
	if !maps.Equal(ours.Manifest, theirs.Manifest) {
		t.Errorf("manifest %v, wrangler's %v", ours.Manifest, theirs.Manifest)
	}
	if !maps.Equal(ours.Files, theirs.Files) || ours.Branch != theirs.Branch {
		t.Errorf("files %q, branch %q; wrangler's %q, %q", ours.Files, ours.Branch, theirs.Files, theirs.Branch)
	}
	if !slices.Equal(ours.Fields, theirs.Fields) {
		t.Errorf("fields %q, wrangler's %q", ours.Fields, theirs.Fields)
	}
	// The other way round: wrangler uploads, and we find everything there.
	base, stop := w.fake.Start()
	defer stop()
	w.target.config.BaseURL, w.fake.Deployments, w.fake.Uploads = base, nil, 0
	w.write(map[string]string{"index.html": "<h1>changed</h1>"})
	if err := w.target.ensureProject(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wrangler("build-b1")
	theirs, uploads = w.fake.Deployments[0], w.fake.Uploads
	for p, want := range types {
		if got := w.fake.ContentType(theirs, p); got != want {
			t.Errorf("%s is uploaded as %q, wrangler's %q", p, want, got)
		}
	}
	w.mustDeploy()
	if w.fake.Uploads != uploads {
		t.Errorf("we uploaded %d files after wrangler", w.fake.Uploads-uploads)
	}
}

// A deploy takes a small part of wrangler's time: of a small site that is new, and of
// one that is there already.
func TestCompatTimeBesideWrangler(t *testing.T) {
	w := newWorld(t, page)
	w.target.config.Pace = time.Second // the real pauses
	w.fake.Stages = [][2]string{{"deploy", "success"}}
	if err := w.target.ensureProject(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, what := range []string{"new", "unchanged"} {
		began := time.Now()
		if _, err := w.target.Deploy(t.Context(), deploy.Site{BuildID: "ours" + what, Dir: w.dir}, func(deploy.Progress) {}); err != nil {
			t.Fatal(err)
		}
		ours := time.Since(began)
		if i == 0 { // wrangler finds nothing either
			w.fake.Forget()
		}
		began = time.Now()
		w.wrangler("build-theirs" + what)
		theirs := time.Since(began)
		t.Logf("%s site of %d files: buildcast %v, wrangler %v: %.4f of its time", what, len(page), ours.Round(time.Millisecond), theirs.Round(time.Millisecond), float64(ours)/float64(theirs))
		if 5*ours > theirs {
			t.Errorf("%s: %v is more than a fifth of %v", what, ours, theirs)
		}
	}
}
