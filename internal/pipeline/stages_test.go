package pipeline

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/report"
)

// files is a task that writes files.
func files(content map[string]string) buildcast.Task {
	t := buildcast.Task{Name: "Bring files", Files: map[string]buildcast.File{}}
	for name, text := range content {
		t.Files[name] = buildcast.File{Content: []byte(text)}
	}
	return t
}

func detected(content map[string]string) *buildcast.Plan {
	return &buildcast.Plan{Name: "detected", Detect: true, Tasks: []buildcast.Task{files(content)}}
}

// TestDetectBuilds runs the real npm, which needs no registry for a site without packages.
func TestDetectBuilds(t *testing.T) {
	r := newRig(t)
	events := r.run("b", detected(map[string]string{
		"package.json": `{"name": "site", "scripts": {"build": "mkdir dist && cp page.html dist/index.html && touch dist/made"}}`,
		"page.html":    "<h1>",
	}))
	if last := events[len(events)-1]; last.Type != buildcast.DeployCompleted {
		t.Fatalf("install npm with scripts/install-deps if it is missing; the events are\n%s", lines(events))
	}
	if got := r.target.files["b"]; !slices.Equal(got, []string{"index.html", "made"}) {
		t.Errorf("deployed %q", got)
	}
	begun := read[report.BuildProgress](&of(events, buildcast.BuildProgress)[0])
	if begun.Command != "npm run build" || begun.Message != "Found the build script in package.json: npm run build" {
		t.Errorf("the build is told as %+v", begun)
	}
	if !strings.Contains(lines(events), "Found the site in dist") {
		t.Errorf("the output is not told:\n%s", lines(events))
	}
}

func TestDetectStaticSite(t *testing.T) {
	r := newRig(t)
	events := r.run("b", detected(map[string]string{"public/index.html": "<h1>", "notes.md": "x"}))
	if got := r.target.files["b"]; !slices.Equal(got, []string{"index.html"}) {
		t.Errorf("deployed %q; events\n%s", got, lines(events))
	}
}

// TestDetectFindsNothing: the whole workspace must not be deployed by mistake.
func TestDetectFindsNothing(t *testing.T) {
	r := newRig(t)
	events := r.run("b", detected(map[string]string{"README.md": "x"}))
	last := events[len(events)-1]
	if last.Type != buildcast.BuildFailed || !strings.Contains(read[report.BuildFailed](&last).Error, "name the directory with output") {
		t.Errorf("events\n%s", lines(events))
	}
}

func TestDetectKeepsWhatThePlanSays(t *testing.T) {
	r := newRig(t)
	plan := detected(map[string]string{"package.json": `{"dependencies": {"a": "1"}, "scripts": {"build": "exit 1"}}`, "package-lock.json": "{}"})
	plan.Install, plan.Build, plan.Output = "true", "mkdir site && touch site/own", "site"
	events := r.run("b", plan)
	if got := r.target.files["b"]; !slices.Equal(got, []string{"own"}) {
		t.Errorf("deployed %q; events\n%s", got, lines(events))
	}
}

func TestDetectedToolIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	r := newRig(t)
	events := r.run("b", detected(map[string]string{"package.json": `{"dependencies": {"a": "1"}, "scripts": {"build": "x"}}`, "pnpm-lock.yaml": ""}))
	last := events[len(events)-1]
	want := "pnpm is not installed on this server, but pnpm-lock.yaml needs it: install it (npm install --global pnpm), or give another command in the plan"
	if got := read[report.BuildFailed](&last); got.Error != want || got.Stage != "install" {
		t.Errorf("events\n%s", lines(events))
	}
}

func TestDetectBadManifest(t *testing.T) {
	r := newRig(t)
	events := r.run("b", detected(map[string]string{"package.json": "{", "index.html": ""}))
	last := events[len(events)-1]
	if got := read[report.BuildFailed](&last); last.Type != buildcast.BuildFailed || !strings.Contains(got.Error, "package.json cannot be read") {
		t.Errorf("events\n%s", lines(events))
	}
}

// TestDetectedCommandSurvivesACut: an install without a lock file that is cut off has
// perhaps written one already. The resumed run does not take it for the site's own.
func TestDetectedCommandSurvivesACut(t *testing.T) {
	bin := t.TempDir()
	npm := "#!/bin/sh\nmkdir -p dist\ntouch dist/index.html\n" +
		"if [ -e package-lock.json ]; then cut=; else cut=yes; echo {} >package-lock.json; fi\n" +
		"echo npm $* >>" + filepath.Join(bin, "calls") + "\n[ -z \"$cut\" ] || exec sleep 600\n"
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte(npm), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	r := newRig(t)
	r.build("b", detected(map[string]string{"package.json": `{"dependencies": {"a": "1"}, "scripts": {"build": "x"}}`}))
	stop := r.start(r.pipeline("node"))
	calls := record(filepath.Join(bin, "calls"))
	eventually(t, "the install begins", func() bool { return len(calls.lines(t)) > 0 })
	stop()
	defer r.start(r.pipeline("node"))()
	r.end("b")
	if got := strings.Join(calls.lines(t), " "); got != "npm install npm install npm run build" {
		t.Errorf("called %q; events\n%s", got, lines(r.events("b")))
	}
}
