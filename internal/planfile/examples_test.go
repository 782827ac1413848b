package planfile

import (
	"bytes"
	"context"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
)

const examples = "../../examples"

func readExample(t *testing.T, name string) *buildcast.Plan {
	t.Helper()
	p, err := Read(filepath.Join(examples, name, "plan.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEveryExampleParses(t *testing.T) {
	plans, err := filepath.Glob(filepath.Join(examples, "*", "plan.*"))
	if err != nil || len(plans) < 2 {
		t.Fatalf("found %q, %v", plans, err)
	}
	for _, path := range plans {
		if _, err := Read(path); err != nil {
			t.Error(err)
		}
	}
}

// TestHelloSiteIsBuild27 keeps the example at the twelve events that the README shows.
func TestHelloSiteIsBuild27(t *testing.T) {
	p := readExample(t, "hello-site")
	if p.Install != "" || p.Build != "" || p.Deploy != buildcast.DeployLocal || len(p.Tasks) != 3 {
		t.Fatalf("the plan is %+v", p)
	}
	for i, name := range []string{"Create HTML Test Page", "Create CSS Styles", "Create JavaScript File"} {
		if task := p.Tasks[i]; task.Name != name || len(task.Needs) > 0 || task.Run != "" || len(task.Files) != 1 {
			t.Errorf("task %d is %+v", i, task)
		}
	}
	page := string(p.Tasks[0].Files["index.html"].Content)
	for _, name := range []string{"styles.css", "script.js"} {
		if !strings.Contains(page, `"`+name+`"`) {
			t.Errorf("the page does not use %s", name)
		}
	}
}

// TestDocsSiteBuilds does by hand what the pipeline does with the plan.
func TestDocsSiteBuilds(t *testing.T) {
	p := readExample(t, "docs-site")
	if len(p.Tasks) < 20 {
		t.Errorf("%d tasks, want 20 or more", len(p.Tasks))
	}
	dir := t.TempDir()
	runPlan(t, p, dir)
	public := filepath.Join(dir, p.Output)
	for _, name := range []string{"index.html", "404.html", "robots.txt", "introduction.html", "glossary.html", "assets/docs.css", "assets/docs.js"} {
		if info, err := os.Stat(filepath.Join(public, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if page := read(t, filepath.Join(public, "plans.html")); strings.Count(page, "aria-current") != 1 || strings.Count(page, `rel="next"`) != 1 {
		t.Errorf("navigation of a page:\n%s", page)
	}
	if index := read(t, filepath.Join(public, "assets/search-index.js")); strings.Count(index, "page:") != 10 || !strings.Contains(index, " cursor ") {
		t.Errorf("search index:\n%s", index)
	}
	var sitemap struct {
		URLs []string `xml:"url>loc"`
	}
	if err := xml.Unmarshal([]byte(read(t, filepath.Join(public, "sitemap.xml"))), &sitemap); err != nil || len(sitemap.URLs) != 10 {
		t.Errorf("site map: %v, %v", sitemap, err)
	}
}

// TestDocsSiteChecksItsLinks breaks a link, so that the check has something to find.
func TestDocsSiteChecksItsLinks(t *testing.T) {
	p := readExample(t, "docs-site")
	for i, task := range p.Tasks {
		if f, ok := task.Files["src/install.md"]; ok {
			f.Content = append(f.Content, "\nSee [elsewhere](nowhere.md) and [there](plans.md#nothing).\n"...)
			p.Tasks[i].Files["src/install.md"] = f
		}
	}
	err := tryPlan(t, p, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "broken link nowhere.html") || !strings.Contains(err.Error(), "no heading for plans.html#nothing") {
		t.Errorf("error %v", err)
	}
}

func runPlan(t *testing.T, p *buildcast.Plan, dir string) {
	t.Helper()
	if err := tryPlan(t, p, dir); err != nil {
		t.Fatal(err)
	}
}

// failure is a command that failed, with its output.
type failure struct{ name, output string }

func (f *failure) Error() string { return f.name + " failed:\n" + f.output }

// tryPlan runs the tasks in an order that their needs allow, then install and build.
func tryPlan(t *testing.T, p *buildcast.Plan, dir string) error {
	t.Helper()
	path := noSleep(t)
	done := make(map[string]bool)
	for len(done) < len(p.Tasks) {
		before := len(done)
		for _, task := range p.Tasks {
			if done[task.Name] || !allDone(task.Needs, done) {
				continue
			}
			for name, f := range task.Files {
				put(t, filepath.Join(dir, name), f.Content)
			}
			if err := shell(t, task.Name, task.Run, dir, path); err != nil {
				return err
			}
			done[task.Name] = true
		}
		if len(done) == before {
			t.Fatal("no task can go on")
		}
	}
	if err := shell(t, "install", p.Install, dir, path); err != nil {
		return err
	}
	return shell(t, "build", p.Build, dir, path)
}

func allDone(needs []string, done map[string]bool) bool {
	for _, need := range needs {
		if !done[need] {
			return false
		}
	}
	return true
}

func shell(t *testing.T, name, command, dir, path string) error {
	t.Helper()
	if command == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + path}
	if out, err := cmd.CombinedOutput(); err != nil {
		return &failure{name, string(bytes.TrimSpace(out))}
	}
	return nil
}

// noSleep returns a PATH on which sleep returns at once.
func noSleep(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	put(t, filepath.Join(bin, "sleep"), []byte("#!/bin/sh\nexit 0\n"))
	if err := os.Chmod(filepath.Join(bin, "sleep"), 0o755); err != nil {
		t.Fatal(err)
	}
	return bin + ":/usr/local/bin:/usr/bin:/bin"
}

func put(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
