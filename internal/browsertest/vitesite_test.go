package browsertest

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
)

// TestViteSite builds examples/vite-site with the real npm and Vite, as its README says,
// and uses the page: once, again from the cache, and with another source file.
func TestViteSite(t *testing.T) {
	if _, err := exec.LookPath("npm"); err != nil {
		t.Fatal("npm is not installed: run make deps, or apt-get install -y nodejs npm")
	}
	site := filepath.Join(t.TempDir(), "vite-site")
	if err := os.CopyFS(site, os.DirFS("../../examples/vite-site")); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")

	first, took := buildSite(t, site, data)
	var began struct {
		Sandbox string `json:"sandbox"`
	}
	if err := json.Unmarshal(first[0].Data, &began); err != nil || began.Sandbox != "bwrap" {
		t.Errorf("the first build has the sandbox %q, want bwrap: apt-get install -y bubblewrap", began.Sandbox)
	}
	if got := cachedStages(first); len(got) > 0 {
		t.Errorf("the first build has %q from the cache", got)
	}
	useSite(t, data, first, "Slow Pour")

	second, tookCached := buildSite(t, site, data)
	if got := cachedStages(second); !slices.Equal(got, []string{"install", "build"}) {
		t.Errorf("the second build has %q from the cache, want install and build", got)
	}
	t.Logf("the first build took %v, the second %v: %.1f times faster", took, tookCached, took.Seconds()/tookCached.Seconds())
	useSite(t, data, second, "Slow Pour")

	app := filepath.Join(site, "src", "App.jsx")
	source, err := os.ReadFile(app)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(app, bytes.Replace(source, []byte("<h1>Slow Pour</h1>"), []byte("<h1>Slower Pour</h1>"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	third, _ := buildSite(t, site, data)
	if got := cachedStages(third); !slices.Equal(got, []string{"install"}) {
		t.Errorf("after a change of a source file %q is from the cache, want install", got)
	}
	useSite(t, data, third, "Slower Pour")
}

// buildSite runs buildcast build to its end, and returns the events and how long the
// build took by them.
func buildSite(t *testing.T, site, data string) ([]buildcast.Event, time.Duration) {
	t.Helper()
	args := append([]string{"build", site, "--exit", "--json", "--data-dir", data, "--listen", "127.0.0.1:0", "--preview-listen", "127.0.0.1:0"}, registryAllowed()...)
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asBuildcast+"=1")
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("buildcast build: %v\n%s", err, out)
	}
	var events []buildcast.Event
	for line := range bytes.Lines(out) {
		var e buildcast.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		events = append(events, e)
	}
	if last := events[len(events)-1]; last.Type != buildcast.DeployCompleted {
		t.Fatalf("the build ends with %s\n%s", last.Type, out)
	}
	return events, events[len(events)-1].Timestamp.Std().Sub(events[0].Timestamp.Std())
}

// registryAllowed lets commands reach npm's registry if this machine has it at a private
// address, as a mirror has.
func registryAllowed() (flags []string) {
	registry, err := exec.Command("npm", "config", "get", "registry").Output()
	if err != nil {
		return nil // the build says what is wrong
	}
	u, err := url.Parse(strings.TrimSpace(string(registry)))
	if err != nil {
		return nil
	}
	ips, err := net.LookupIP(u.Hostname())
	if err != nil {
		return nil
	}
	for _, ip := range ips {
		bits := "/32"
		if ip.To4() == nil {
			bits = "/128"
		}
		flags = append(flags, "--egress-allow-private", ip.String()+bits)
	}
	return flags
}

// cachedStages returns the stages that were taken from the cache.
func cachedStages(events []buildcast.Event) (stages []string) {
	for _, e := range events {
		var d struct {
			Stage  string `json:"stage"`
			Done   bool   `json:"done"`
			Cached bool   `json:"cached"`
		}
		if e.Type == buildcast.BuildProgress && json.Unmarshal(e.Data, &d) == nil && d.Done && d.Cached {
			stages = append(stages, d.Stage)
		}
	}
	return stages
}

// useSite serves the build's preview, opens it in Chromium and orders two cups.
func useSite(t *testing.T, data string, events []buildcast.Event, title string) {
	t.Helper()
	addr := freeAddr(t)
	n := &node{addr: freeAddr(t)}
	n.args = []string{"serve", "--listen", n.addr, "--preview-listen", addr, "--data-dir", data}
	n.start(t)
	defer n.kill()
	var done struct {
		PreviewURL string `json:"previewUrl"`
	}
	if err := json.Unmarshal(events[len(events)-1].Data, &done); err != nil {
		t.Fatal(err)
	}
	// The server that deployed it had a free port, and this one has another.
	label, _, _ := strings.Cut(strings.TrimPrefix(done.PreviewURL, "http://"), ".")
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b := startBrowser(ctx, t)
	page := b.open(t, "http://"+label+".localhost:"+port+"/")
	b.await(t, page, `document.querySelector('h1')?.textContent === '`+title+`'`)
	b.await(t, page, `document.querySelector('[role=status]').textContent === 'Nothing ordered yet'`)
	b.eval(t, page, `document.querySelector('[aria-label="Add Pour over"]').click()`)
	b.await(t, page, `document.querySelector('[role=status]').textContent === '1 cup, €4.20'`)
	b.eval(t, page, `document.querySelector('[aria-label="Add Cold brew"]').click()`)
	b.await(t, page, `document.querySelector('[role=status]').textContent === '2 cups, €8.70'`)
	b.await(t, page, `thrown.length === 0`)
}
