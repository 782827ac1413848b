package pipeline

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/store"
)

// registry serves packages to the real npm.
type registry struct {
	*httptest.Server
	packages map[string][]byte // by the name
	closed   atomic.Bool
	served   atomic.Int64
}

func newRegistry(t *testing.T, scripts map[string]string) *registry {
	t.Helper()
	g := &registry{packages: map[string][]byte{}}
	for name, script := range scripts {
		g.packages[name] = tarball(t, name, script)
	}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		b, ok := g.packages[name]
		if !ok || g.closed.Load() {
			http.NotFound(w, r)
			return
		}
		g.served.Add(1)
		_, _ = w.Write(b)
	}))
	t.Cleanup(g.Close)
	return g
}

// tarball is a package as npm packs it. Its script runs when it is installed.
func tarball(t *testing.T, name, script string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for file, content := range map[string]string{
		"package/package.json": fmt.Sprintf(`{"name": %q, "version": "1.0.0", "scripts": {"install": %q}}`, name, script),
		"package/i.js":         "the true " + name,
	} {
		if err := w.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// site is a plan that installs the packages with npm, and deploys what left has.
func (g *registry) site(names ...string) *buildcast.Plan {
	var needs, locked []string
	for _, name := range names {
		sum := sha512.Sum512(g.packages[name])
		needs = append(needs, fmt.Sprintf(`%q: "1.0.0"`, name))
		locked = append(locked, fmt.Sprintf(`"node_modules/%[1]s": {"version": "1.0.0", "resolved": "%[2]s/%[1]s/-/%[1]s-1.0.0.tgz", "integrity": "sha512-%[3]s", "hasInstallScript": true}`,
			name, g.URL, base64.StdEncoding.EncodeToString(sum[:])))
	}
	content := map[string]string{
		"package.json": fmt.Sprintf(`{"name": "site", "version": "1.0.0", "dependencies": {%s}}`, strings.Join(needs, ", ")),
		"package-lock.json": fmt.Sprintf(`{"name": "site", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "site", "version": "1.0.0", "dependencies": {%s}}, %s}}`,
			strings.Join(needs, ", "), strings.Join(locked, ", ")),
	}
	return &buildcast.Plan{
		Name: "site", Install: "npm ci", Build: "mkdir dist && cp node_modules/left/i.js dist", Output: "dist", Tasks: []buildcast.Task{files(content)},
		// What runs scripts of packages depends on npm's version and settings.
		Env: map[string]string{"npm_config_registry": g.URL, "npm_config_fetch_retries": "0", "npm_config_ignore_scripts": "false", "npm_config_dangerously_allow_all_scripts": "true"},
	}
}

// installed runs the plan as a build of a project of its own, and returns what it has
// installed of left; "" if it failed.
func (r *rig) installed(with func(*Config), id string, plan *buildcast.Plan) (left string) {
	r.t.Helper()
	if err := plan.Validate(); err != nil {
		r.t.Fatal(err)
	}
	r.target.deploy = func(dir string) error {
		b, err := os.ReadFile(filepath.Join(dir, "i.js"))
		left = string(b)
		return err
	}
	if _, _, err := r.store.CreateBuild(r.t.Context(), store.NewBuild{ID: id, Project: "project-of-" + id, Plan: plan}); err != nil {
		r.t.Fatal(err)
	}
	stop := r.start(r.pipeline("solo", with))
	r.end(id)
	stop()
	return left
}

const trueLeft = "the true left"

func TestPackagesAreDownloadedOnce(t *testing.T) {
	r := newRig(t)
	with, _ := r.cached()
	g := newRegistry(t, map[string]string{"left": "true", "right": "true"})
	if got := r.installed(with, "b1", g.site("left", "right")); got != trueLeft || g.served.Load() != 2 {
		t.Fatalf("install npm with scripts/install-deps if it is missing; it installs %q, the registry has served %d:\n%s", got, g.served.Load(), lines(r.events("b1")))
	}
	g.closed.Store(true)
	if got := r.installed(with, "b2", g.site("left", "right")); got != trueLeft {
		t.Errorf("without the registry, another project installs %q:\n%s", got, lines(r.events("b2")))
	}
	r.output("b2", "[packages that need not be downloaded: 2]")
}

func TestBuildsAtOnceShareDownloads(t *testing.T) {
	r := newRig(t)
	with, _ := r.cached()
	g := newRegistry(t, map[string]string{"left": "true", "right": "true"})
	r.installed(with, "first", g.site("left"))
	ids := []string{"b1", "b2", "b3", "b4"}
	for _, id := range ids {
		if _, _, err := r.store.CreateBuild(t.Context(), store.NewBuild{ID: id, Project: "project-of-" + id, Plan: g.site("left", "right")}); err != nil {
			t.Fatal(err)
		}
	}
	r.start(r.pipeline("solo", with))
	for _, id := range ids {
		if e := r.end(id); e.Type != buildcast.DeployCompleted {
			t.Errorf("%s", lines(r.events(id)))
		}
	}
	g.closed.Store(true)
	if got := r.installed(with, "last", g.site("left", "right")); got != trueLeft {
		t.Errorf("without the registry, the last build installs %q:\n%s", got, lines(r.events("last")))
	}
}

// TestPoisoningThroughPackages has a package that changes the other packages in npm's
// cache while it is installed. It never changes what the next build installs.
func TestPoisoningThroughPackages(t *testing.T) {
	attack := `node -e "` +
		`const fs = require('fs'), top = process.env.HOME + '/.npm/_cacache/content-v2/sha512/'; ` +
		`for (const f of fs.readdirSync(top, {recursive: true})) if (fs.statSync(top + f).isFile()) { fs.chmodSync(top + f, 0o600); fs.writeFileSync(top + f, 'evil') }; ` +
		`fs.writeFileSync(process.env.HOME + '/attacked', '')"`
	r := newRig(t)
	with, c := r.cached()
	g := newRegistry(t, map[string]string{"left": "true", "evil": attack})
	attacked := func(id string) {
		t.Helper()
		if _, err := os.Stat(filepath.Join(r.dir, "solo", id, "home", "attacked")); err != nil {
			t.Fatalf("the attack did not run: %v\n%s", err, lines(r.events(id)))
		}
	}
	has := func() bool {
		sum := sha512.Sum512(g.packages["left"])
		return packages{c}.Has(hex.EncodeToString(sum[:]))
	}

	r.installed(with, "before", g.site("left", "evil"))
	if attacked("before"); has() {
		t.Error("what the attack wrote is kept")
	}
	if got := r.installed(with, "b1", g.site("left")); got != trueLeft || !has() {
		t.Errorf("after an attack, %q is installed:\n%s", got, lines(r.events("b1")))
	}
	r.installed(with, "between", g.site("left", "evil")) // it is given left now
	attacked("between")
	g.closed.Store(true)
	if got := r.installed(with, "b2", g.site("left")); got != trueLeft {
		t.Errorf("after an attack on a copy, %q is installed:\n%s", got, lines(r.events("b2")))
	}
}

// TestPlannedBuildsOnlyTakePackages: what a model asks for is not kept.
func TestPlannedBuildsOnlyTakePackages(t *testing.T) {
	r := newRig(t)
	with, c := r.cached()
	both := func(cfg *Config) {
		with(cfg)
		cfg.Planner = noFiles{}
	}
	g := newRegistry(t, map[string]string{"left": "true", "right": "true"})
	planned := func(names ...string) *buildcast.Plan {
		p := g.site(names...)
		p.Tasks = append(p.Tasks, buildcast.Task{Name: "planned", Prompt: "make it nice"})
		return p
	}
	r.installed(with, "person", g.site("left"))
	g.served.Store(0)
	if got := r.installed(both, "planned", planned("left", "right")); got != trueLeft || g.served.Load() != 1 {
		t.Errorf("it installs %q, and has downloaded %d packages instead of one:\n%s", got, g.served.Load(), lines(r.events("planned")))
	}
	sum := sha512.Sum512(g.packages["right"])
	if (packages{c}).Has(hex.EncodeToString(sum[:])) {
		t.Error("what a planned build has downloaded is kept")
	}
}

// TestDamagedPackagesAreDownloadedAgain changes the server's copy.
func TestDamagedPackagesAreDownloadedAgain(t *testing.T) {
	r := newRig(t)
	with, _ := r.cached()
	g := newRegistry(t, map[string]string{"left": "true"})
	r.installed(with, "b1", g.site("left"))
	damaged := 0
	err := filepath.WalkDir(filepath.Join(r.dir, "cache", "blobs"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(b, g.packages["left"]) {
			return err
		}
		damaged++
		b[len(b)/2] ^= 1
		return os.WriteFile(path, b, 0o600)
	})
	if err != nil || damaged != 1 {
		t.Fatalf("%d packages were damaged, %v", damaged, err)
	}
	if got := r.installed(with, "b2", g.site("left")); got != trueLeft || g.served.Load() != 2 {
		t.Errorf("it installs %q, the registry has served %d:\n%s", got, g.served.Load(), lines(r.events("b2")))
	}
	g.closed.Store(true)
	if got := r.installed(with, "b3", g.site("left")); got != trueLeft {
		t.Errorf("it was not kept again, and %q is installed", got)
	}
}

func TestPackagesAreCountedButNotListed(t *testing.T) {
	c, err := cache.Open(cache.Config{Dir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := (packages{c}).Keep(t.Context(), "d1", cache.Bytes([]byte("content"))); err != nil {
		t.Fatal(err)
	}
	u, err := c.List(t.Context(), 10)
	if err != nil || u.Count != 1 || len(u.Entries) != 0 || u.Bytes < int64(len("content")) {
		t.Errorf("the cache lists %+v, %v", u, err)
	}
}
