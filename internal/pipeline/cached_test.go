package pipeline

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/store"
)

// cached gives the rig's pipelines a cache.
func (r *rig) cached() (func(*Config), *cache.Cache) {
	r.t.Helper()
	c, err := cache.Open(cache.Config{Dir: filepath.Join(r.dir, "cache"), Logger: quiet})
	if err != nil {
		r.t.Fatal(err)
	}
	return func(cfg *Config) { cfg.Cache = c }, c
}

// runAll runs the builds, one after the other, on a pipeline with a cache.
func (r *rig) runOn(with func(*Config), id string, plan *buildcast.Plan, options ...buildcast.Options) []buildcast.Event {
	r.t.Helper()
	r.queue(id, plan, options...)
	stop := r.start(r.pipeline("solo", with))
	r.end(id)
	stop()
	return r.events(id)
}

func (r *rig) queue(id string, plan *buildcast.Plan, options ...buildcast.Options) {
	r.t.Helper()
	if err := plan.Validate(); err != nil {
		r.t.Fatal(err)
	}
	b := store.NewBuild{ID: id, Project: "site", Plan: plan}
	if len(options) > 0 {
		b.Options = options[0]
	}
	if _, _, err := r.store.CreateBuild(r.t.Context(), b); err != nil {
		r.t.Fatal(err)
	}
}

// origins returns of each completed task, by its name, the build that made it; "" if
// it ran.
func origins(events []buildcast.Event) map[string]string {
	found := map[string]string{}
	for _, e := range of(events, buildcast.TaskCompleted) {
		d := read[report.TaskCompleted](&e)
		found[d.TaskName] = d.OriginBuildID
		if d.Cached != (d.OriginBuildID != "") {
			found[d.TaskName] = fmt.Sprintf("cached is %v, originBuildId %q", d.Cached, d.OriginBuildID)
		}
	}
	return found
}

// compiled is a plan of three tasks: two sources, each compiled into a directory of
// its own, and a page made of both results. Each command notes that it runs.
func compiled(ran record, app, style string) *buildcast.Plan {
	compile := func(name, src, out string) buildcast.Task {
		return buildcast.Task{
			Name: name, Inputs: []string{src}, Outputs: []string{out},
			Files: map[string]buildcast.File{src: {Content: []byte(map[string]string{"src/app.js": app, "src/style.css": style}[src])}},
			Run:   fmt.Sprintf("mkdir -p %[1]s && tr a-z A-Z < %[2]s > %[1]s/made && echo compiling %[2]s; %[3]s", out, src, ran.note(name)),
		}
	}
	return &buildcast.Plan{Name: "site", Output: "page", Deploy: buildcast.DeployLocal, Tasks: []buildcast.Task{
		compile("app", "src/app.js", "build/app"), compile("style", "src/style.css", "build/style"),
		{
			Name: "page", Needs: []string{"app", "style"}, Inputs: []string{"build"}, Outputs: []string{"page"},
			Run: "mkdir -p page && cat build/*/made > page/index.html; " + ran.note("page"),
		},
	}}
}

func TestASecondBuildTakesItsTasksFromTheCache(t *testing.T) {
	r := newRig(t)
	with, c := r.cached()
	var page string
	r.target.deploy = func(dir string) error {
		b, err := os.ReadFile(filepath.Join(dir, "index.html"))
		page = string(b)
		return err
	}
	ran := r.record()
	first := r.runOn(with, "b1", compiled(ran, "app", "style"))
	if got := len(ran.lines(t)); got != 3 || page != "APPSTYLE" {
		t.Fatalf("%d commands ran, the page is %q:\n%s", got, page, lines(first))
	}
	second := r.runOn(with, "b2", compiled(ran, "app", "style"))
	if got := ran.lines(t); len(got) != 3 || page != "APPSTYLE" {
		t.Errorf("%q ran, the page is %q:\n%s", got, page, lines(second))
	}
	if d := fmt.Sprint(origins(second)); d != "map[app:b1 page:b1 style:b1]" {
		t.Errorf("taken from %s", d)
	}
	// The output is replayed as new events that say so.
	for _, e := range of(second, buildcast.BuildLog) {
		if d := read[report.BuildLog](&e); !d.Cached || !strings.HasPrefix(d.Lines[0], "compiling src/") {
			t.Errorf("the output is %+v", d)
		}
	}
	if n := len(of(second, buildcast.BuildLog)); n != 2 {
		t.Errorf("%d events of output", n)
	}

	third := r.runOn(with, "b3", compiled(ran, "ape", "style"))
	if got := ran.lines(t)[3:]; !slices.Equal(got, []string{"app", "page"}) || page != "APESTYLE" {
		t.Errorf("%q ran, the page is %q:\n%s", got, page, lines(third))
	}
	if x := why(t, c, "b3", "app"); x != "src/app.js changed" {
		t.Errorf("the cache says: %s", x)
	}
	if x := why(t, c, "b3", "page"); x != "build/app/made changed" {
		t.Errorf("the cache says: %s", x)
	}
	if x := why(t, c, "b3", "style"); x != "" {
		t.Errorf("the cache says: %s", x)
	}
}

func why(t *testing.T, c *cache.Cache, build, task string) string {
	t.Helper()
	x, err := c.Why(t.Context(), build, task)
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, ch := range x.Changes {
		all = append(all, ch.String())
	}
	return strings.Join(append(all, x.Note)[:max(1, len(all))], ", ")
}

// one is a plan of one task, the outputs of which are dist.
func one(change ...func(*buildcast.Task)) *buildcast.Plan {
	task := buildcast.Task{Name: "make", Outputs: []string{"dist"}, Run: "mkdir -p dist && cat in > dist/out; date +%N > dist/when", Files: map[string]buildcast.File{"in": {Content: []byte("1")}}}
	for _, c := range change {
		c(&task)
	}
	return &buildcast.Plan{Name: "site", Tasks: []buildcast.Task{task}, Deploy: buildcast.DeployNone}
}

// TestWhatAKeyDependsOn changes one thing at a time.
func TestWhatAKeyDependsOn(t *testing.T) {
	r := newRig(t)
	with, c := r.cached()
	r.runOn(with, "first", one())
	for name, test := range map[string]struct {
		change func(*buildcast.Task)
		want   string // what Why says; empty: it is taken from the cache
	}{
		"nothing": {func(*buildcast.Task) {}, ""},
		"retries": {func(t *buildcast.Task) { t.Retries = 3 }, ""},
		"timeout": {func(t *buildcast.Task) { t.Timeout = 1e9 * 77 }, ""},
		"command": {func(t *buildcast.Task) { t.Run += " " }, "command changed"},
		"file":    {func(t *buildcast.Task) { t.Files["in"] = buildcast.File{Content: []byte("2")} }, "in changed"},
		"newfile": {func(t *buildcast.Task) { t.Files["more"] = buildcast.File{} }, "more is new"},
		"env":     {func(t *buildcast.Task) { t.Env = map[string]string{"MODE": "x"} }, "variable MODE is new"},
		"outputs": {func(t *buildcast.Task) { t.Outputs = []string{"dist/out", "dist/when"} }, "outputs changed"},
	} {
		events := r.runOn(with, name, one(test.change))
		if got := why(t, c, name, "make"); got != test.want || (origins(events)["make"] == "first") != (test.want == "") {
			t.Errorf("%s: %q, want %q; made by %q", name, got, test.want, origins(events)["make"])
		}
		if test.want != "" { // compare the next with the first again
			r.runOn(with, name+"-back", one())
		}
	}
}

// TestPoisoningThroughAPlannedBuild: a planned build has the same key as a person's,
// runs first, and makes something else. The person's build does not take it; the
// other way round is allowed.
func TestPoisoningThroughAPlannedBuild(t *testing.T) {
	r := newRig(t)
	cached, _ := r.cached()
	with := func(c *Config) {
		cached(c)
		c.Planner = noFiles{}
	}
	evil := func(p *buildcast.Plan) *buildcast.Plan {
		p.Tasks = append(p.Tasks, buildcast.Task{Name: "planned", Prompt: "poison the cache", Run: "true"})
		return p
	}
	r.runOn(with, "evil", evil(one()))
	if got := origins(r.runOn(with, "person", one()))["make"]; got != "" {
		t.Errorf("a person's build takes what %s made", got)
	}
	if got := origins(r.runOn(with, "planned", evil(one())))["make"]; got != "person" {
		t.Errorf("a planned build takes what %q made, want person", got)
	}
}

func TestNoCacheRunsEverythingAndRenewsTheEntries(t *testing.T) {
	r := newRig(t)
	with, _ := r.cached()
	r.runOn(with, "b1", one())
	if got := origins(r.runOn(with, "b2", one(), buildcast.Options{NoCache: true}))["make"]; got != "" {
		t.Errorf("it is taken from %s", got)
	}
	if got := origins(r.runOn(with, "b3", one()))["make"]; got != "b2" {
		t.Errorf("it is taken from %q, want b2", got)
	}
}

// TestWhatIsNotKept: none of these tasks may be taken from the cache.
func TestWhatIsNotKept(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*buildcast.Task)
		want   string
	}{
		"fails":              {func(t *buildcast.Task) { t.Run += "; exit 3" }, ""},
		"no output":          {func(t *buildcast.Task) { t.Run = "true" }, `output "dist": it does not exist`},
		"input":              {func(t *buildcast.Task) { t.Run += "; echo 2 >> in" }, `"in" changed while it ran, and is not one of its outputs`},
		"undeclared":         {func(t *buildcast.Task) { t.Run += "; echo 2 > other" }, `"other" changed while it ran, and is not one of its outputs`},
		"strange":            {func(t *buildcast.Task) { t.Run += "; mkfifo dist/fifo" }, `"dist/fifo": it is neither a file, a directory nor a link`},
		"leading out":        {func(t *buildcast.Task) { t.Run += "; ln -s /etc dist/etc" }, `"dist/etc" is a link that leads out of the workspace, or is not relative`},
		"network":            {func(t *buildcast.Task) { t.Network = true }, "it uses the network"},
		"undeclared outputs": {func(t *buildcast.Task) { t.Outputs = nil }, "it names no outputs"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			with, c := r.cached()
			r.runOn(with, "b1", one(test.change))
			if got := origins(r.runOn(with, "b2", one(test.change)))["make"]; got != "" {
				t.Errorf("it is taken from %s", got)
			}
			if got := why(t, c, "b2", "make"); got != test.want {
				t.Errorf("the cache says %q, want %q", got, test.want)
			}
		})
	}
}

// TestADamagedBlobRunsTheTaskAndIsStoredAnew damages all blobs.
func TestADamagedBlobRunsTheTaskAndIsStoredAnew(t *testing.T) {
	r := newRig(t)
	with, _ := r.cached()
	r.runOn(with, "b1", one())
	blobs, err := filepath.Glob(filepath.Join(r.dir, "cache/blobs/*/*"))
	if err != nil || len(blobs) == 0 {
		t.Fatal(blobs, err)
	}
	for _, b := range blobs {
		content, err := os.ReadFile(b)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/2] ^= 0xff
		if err := os.WriteFile(b, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := origins(r.runOn(with, "b2", one()))["make"]; got != "" {
		t.Errorf("b2 takes it from %s", got)
	}
	if got := origins(r.runOn(with, "b3", one()))["make"]; got != "b2" {
		t.Errorf("b3 takes it from %q, want b2", got)
	}
}

// TestStaleOutputsAreRemoved: a build that was killed while it restored or ran the task
// has left something. It takes the result of the build before, and nothing else.
func TestStaleOutputsAreRemoved(t *testing.T) {
	r := newRig(t)
	with, c := r.cached()
	r.runOn(with, "b1", one())
	begun := cache.Record{BuildID: "b2", Scope: cache.Scope{Org: "default", Project: "site"}, Name: "make", Fresh: true}
	if err := c.Note(t.Context(), begun, nil); err != nil {
		t.Fatal(err)
	}
	p := one(func(task *buildcast.Task) { task.Needs = []string{"leave"} })
	p.Tasks = append(p.Tasks, shell("leave", "mkdir -p dist/stale && touch dist/stale/f"), shell("look", "echo $(ls dist) in $(ls)", "make"))
	events := r.runOn(with, "b2", p)
	if origins(events)["make"] != "b1" || !strings.Contains(lines(events), `"lines":["out when in dist in"]`) {
		t.Errorf("%s", lines(events))
	}
}

// TestParallelBuildsWithOneKeyRunOnce: the others wait, are told so, and take what the
// first one makes.
func TestParallelBuildsWithOneKeyRunOnce(t *testing.T) {
	r := newRig(t)
	with, _ := r.cached()
	ran := r.record()
	gate := filepath.Join(t.TempDir(), "gate")
	plan := one(func(task *buildcast.Task) {
		task.Run += fmt.Sprintf("; echo running; until test -e '%s'; do sleep 0.02; done; %s", gate, ran.note("once"))
	})
	for _, id := range []string{"b1", "b2", "b3"} {
		r.queue(id, plan)
	}
	r.start(r.pipeline("solo", with))
	waiting := func(id string) bool {
		return strings.Contains(lines(r.events(id)), "runs the same command with the same inputs: waiting for its result")
	}
	eventually(t, "two builds wait", func() bool {
		n := 0
		for _, id := range []string{"b1", "b2", "b3"} {
			if waiting(id) {
				n++
			}
		}
		return n == 2
	})
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cachedOnes := 0
	for _, id := range []string{"b1", "b2", "b3"} {
		r.end(id)
		if origins(r.events(id))["make"] != "" {
			cachedOnes++
		}
	}
	if got := ran.lines(t); len(got) != 1 || cachedOnes != 2 {
		t.Errorf("%d ran, %d were cached", len(got), cachedOnes)
	}
}

// TestARetriedTaskBeginsWithoutItsOutputs: what a failed attempt left is neither an
// input nor in the way.
func TestARetriedTaskBeginsWithoutItsOutputs(t *testing.T) {
	r := newRig(t)
	with, _ := r.cached()
	mark := filepath.Join(t.TempDir(), "mark")
	plan := one(func(task *buildcast.Task) {
		task.Retries = 1
		task.Run = fmt.Sprintf("mkdir dist || exit 7; echo 1 > dist/out; test -e '%[1]s' || { touch '%[1]s'; exit 3; }", mark)
	})
	if last := r.runOn(with, "b1", plan); len(of(last, buildcast.TaskCompleted)) != 1 {
		t.Fatalf("%s", lines(last))
	}
	if got := origins(r.runOn(with, "b2", plan))["make"]; got != "b1" {
		t.Errorf("it is taken from %q, want b1", got)
	}
}

// TestACacheThatCannotBeUsedFailsNobody takes its directory away.
func TestACacheThatCannotBeUsedFailsNobody(t *testing.T) {
	r := newRig(t)
	with, _ := r.cached()
	dir := filepath.Join(r.dir, "cache")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"b1", "b2"} {
		events := r.runOn(with, id, one())
		if last := events[len(events)-1]; last.Type != buildcast.BuildCompleted {
			t.Errorf("%s", lines(events))
		}
	}
}

func npmSite(app string, change ...func(map[string]string)) *buildcast.Plan {
	content := map[string]string{
		"package.json":             `{"name": "site", "version": "1.0.0", "scripts": {"build": "node build.js"}, "dependencies": {"left": "file:vendor/left"}}`,
		"package-lock.json":        `{"name":"site","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{"":{"name":"site","version":"1.0.0","dependencies":{"left":"file:vendor/left"}},"node_modules/left":{"resolved":"vendor/left","link":true},"vendor/left":{"version":"1.0.0"}}}`,
		"vendor/left/package.json": `{"name": "left", "version": "1.0.0", "main": "i.js"}`,
		"vendor/left/i.js":         "module.exports = s => '<' + s",
		"build.js":                 "const fs = require('fs'); fs.mkdirSync('dist'); fs.writeFileSync('dist/index.html', require('left')(fs.readFileSync('src/App.jsx'))); console.log('built it')",
		"src/App.jsx":              app,
	}
	for _, c := range change {
		c(content)
	}
	return &buildcast.Plan{Name: "site", Detect: true, Tasks: []buildcast.Task{files(content)}}
}

// TestInstallAndBuildAreTakenFromTheCache runs the real npm; it needs no registry.
func TestInstallAndBuildAreTakenFromTheCache(t *testing.T) {
	r := newRig(t)
	with, c := r.cached()
	var page string
	r.target.deploy = func(dir string) error {
		b, err := os.ReadFile(filepath.Join(dir, "index.html"))
		page = string(b)
		return err
	}
	stages := func(events []buildcast.Event) string {
		var all []string
		for _, e := range of(events, buildcast.BuildProgress) {
			if d := read[report.BuildProgress](&e); d.Stage != "" {
				b, _ := json.Marshal([]any{d.Stage, d.Done, d.OriginBuildID})
				all = append(all, string(b))
			}
		}
		return strings.Join(all, " ")
	}
	ran := `["install",false,""] ["install",true,""] ["build",false,""] ["build",true,""]`
	if got := stages(r.runOn(with, "b1", npmSite("one"))); got != ran || page != "<one" {
		t.Fatalf("install npm with scripts/install-deps if it is missing; the stages are %s, the page is %q:\n%s", got, page, lines(r.events("b1")))
	}
	page = ""
	second := r.runOn(with, "b2", npmSite("one"))
	if got := stages(second); got != `["install",true,"b1"] ["build",true,"b1"]` || page != "<one" {
		t.Errorf("the stages are %s, the page is %q:\n%s", got, page, lines(second))
	}
	if !strings.Contains(lines(second), `"built it"],"cached":true`) {
		t.Errorf("the output is not replayed:\n%s", lines(second))
	}
	third := r.runOn(with, "b3", npmSite("two"))
	if page != "<two" {
		t.Errorf("the page is %q:\n%s", page, lines(third))
	}
	for _, stage := range []string{"build", "install"} { // its package comes from the workspace
		if got := why(t, c, "b3", stage); got != "src/App.jsx changed" {
			t.Errorf("of %s, the cache says %s", stage, got)
		}
	}
	unlocked := func(files map[string]string) { delete(files, "package-lock.json") }
	r.runOn(with, "b4", npmSite("one", unlocked))
	if got := why(t, c, "b4", "install"); got != "the workspace has no npm-shrinkwrap.json or package-lock.json" {
		t.Errorf("without a lock file, the cache says %s", got)
	}
}
