package chaostest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/deploy/cloudflare/cloudflaretest"
)

// flow is the whole way from a prompt to a site on Cloudflare, on a real server with the
// sandbox that it has by default. Its steps are plan and files, which the planner
// command answers, and check, install and build, which are commands in the sandbox. Each
// step writes down when it begins and ends.
type flow struct {
	t       *testing.T
	n       *node
	c       *client.Client
	fake    *cloudflaretest.Fake
	planner string // the planner command's directory
	id      string // begins the ids of its builds

	before map[string]int // how often each step had begun when the server was started last

	mu    sync.Mutex
	holds map[string]*hold // by request
}

// hold is a request that the fake does not answer until the server is killed.
type hold struct {
	reached, killed chan struct{}
	once            sync.Once
}

func (h *hold) end() { h.once.Do(func() { close(h.killed) }) }

// begin has a step wait until the file free-STEP exists; brief does without.
const (
	begin = `begin() { id=$(date +%%s%%N); echo "begin $1 $id" >>%[1]s/steps; until [ -e %[1]s/free-$1 ]; do sleep 0.05; done; }; `
	brief = `begin() { id=$(date +%%s%%N); echo "begin $1 $id" >>%[1]s/steps; sleep 0.05; }; `
	end   = `end() { echo "end $1 $id" >>%[1]s/steps; }; `
)

// newFlow prepares the server. With held, each step waits until it is freed.
func newFlow(t *testing.T, database string, held bool) *flow {
	t.Helper()
	f := &flow{t: t, planner: t.TempDir(), fake: &cloudflaretest.Fake{}, holds: map[string]*hold{}, id: "flow-" + strings.ToLower(rand.Text()[:8])}
	f.fake.Hold = f.hold
	steps := brief + end
	if held {
		steps = begin + end
	}
	inside := fmt.Sprintf(steps, `"$HOME"`)
	f.write("plan.json", map[string]any{
		"name": "Bakery", "output": "dist",
		"tasks": []any{
			map[string]any{"name": "page", "prompt": "The page."},
			map[string]any{"name": "check", "needs": []string{"page"}, "run": inside + "begin check; grep -q Bread page.html || exit 1; end check"},
		},
		"install": inside + "begin install; sh install.sh || exit 1; end install",
		"build":   inside + "begin build; rm -rf dist; mkdir dist; cat page.html node_modules/dep/footer.html >dist/index.html || exit 1; end build",
	})
	f.write("files.json", map[string]any{"files": []any{
		file("page.html", "<h1>Bread</h1>"),
		file("packages/dep/footer.html", "<p>footer</p>"),
		file("deps.lock", "dep packages/dep\n"),
		file("install.sh", "mkdir -p node_modules && while read -r name path; do rm -rf node_modules/$name && cp -R $path node_modules/$name; done <deps.lock"),
	}})
	script := fmt.Sprintf(steps, f.planner) + fmt.Sprintf(`case $(cat) in
*'"purpose":"plan"'*) begin plan; cat %[1]s/plan.json; end plan ;;
*) begin files; cat %[1]s/files.json; end files ;;
esac`, f.planner)
	f.n = cloudflareNode(t, f.fake)
	f.n.args = append(f.n.args, "--sandbox", "auto", "--database", database, "--planner-command", script)
	f.n.temp = t.TempDir()
	f.start()
	f.c = f.n.client()
	return f
}

func (f *flow) start() {
	f.t.Helper()
	f.before = map[string]int{}
	for _, line := range f.steps() {
		if line[0] == "begin" {
			f.before[line[1]]++
		}
	}
	f.n.start()
}

func file(path, content string) map[string]any {
	return map[string]any{"path": path, "content": content}
}

func (f *flow) write(name string, v any) {
	b, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(filepath.Join(f.planner, name), b, 0o600)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// create starts a build. Each has a prompt of its own: the answer to a known one is kept.
func (f *flow) create(id string) {
	f.t.Helper()
	b := client.CreateBuild{ID: id, Prompt: "a bakery, " + id, Deploy: buildcast.DeployCloudflare}
	if _, err := f.c.CreateBuild(f.t.Context(), b); err != nil {
		f.t.Fatal(err)
	}
}

// homes are the directories in which steps write: the planner's and those of builds.
func (f *flow) homes() []string {
	homes, _ := filepath.Glob(filepath.Join(f.n.dataDir(), "builds", "*", "home"))
	return append(homes, f.planner)
}

// free lets the step go on, from now on.
func (f *flow) free(step string) {
	f.t.Helper()
	for _, dir := range f.homes() {
		if err := os.WriteFile(filepath.Join(dir, "free-"+step), nil, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
}

// steps returns what the steps have written, as lines of three words.
func (f *flow) steps() (lines [][]string) {
	for _, dir := range f.homes() {
		b, _ := os.ReadFile(filepath.Join(dir, "steps")) // an error: none has begun
		for line := range strings.Lines(string(b)) {
			if words := strings.Fields(line); len(words) == 3 {
				lines = append(lines, words)
			}
		}
	}
	return lines
}

// forget removes what the steps have written.
func (f *flow) forget() {
	for _, dir := range f.homes() {
		if err := os.Remove(filepath.Join(dir, "steps")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.t.Fatal(err)
		}
	}
}

// count returns how often the step has begun, or ended.
func (f *flow) count(what, step string) (n int) {
	for _, line := range f.steps() {
		if line[0] == what && line[1] == step {
			n++
		}
	}
	return n
}

// holdAt has the fake not answer the first such request. served says that it has done
// what it was asked.
func (f *flow) holdAt(request string, served bool) *hold {
	h := &hold{reached: make(chan struct{}), killed: make(chan struct{})}
	f.t.Cleanup(h.end) // else the fake could not be stopped
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holds[fmt.Sprint(request, served)] = h
	return h
}

func (f *flow) hold(r *http.Request, served bool) {
	key := fmt.Sprint(r.Method+" "+path.Base(r.URL.Path), served)
	f.mu.Lock()
	h := f.holds[key]
	delete(f.holds, key)
	f.mu.Unlock()
	if h != nil {
		close(h.reached)
		<-h.killed
		panic(http.ErrAbortHandler) // what the dead server asked for is not done now
	}
}

// see returns when the build's log has the event.
func (f *flow) see(id, typ, data string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Minute)
	defer cancel()
	for e, err := range f.c.Follow(ctx, id, 0) {
		if err != nil {
			f.t.Fatalf("waiting for %s %s: %v", typ, data, err)
		}
		if e.Type == typ && strings.Contains(string(e.Data), data) {
			return
		}
	}
	f.t.Fatalf("the build has ended without %s %s", typ, data)
}

// check waits for the build's end. Whatever was done was done once, in order, and
// nothing is left.
func (f *flow) check(id string) {
	f.t.Helper()
	if st := followed(f.t, f.c, id); st.Phase != buildcast.Completed || st.Progress != 100 {
		f.t.Errorf("%s: %+v", id, st)
	}
	events := readAll(f.t, f.c, id) // it checks the ids
	if last := events[len(events)-1]; last.Type != buildcast.DeployCompleted {
		f.t.Errorf("%s ends with %s %s", id, last.Type, last.Data)
	}
	f.checkEvents(id, events)
	f.checkDeployed(id)
	f.waitForNone("process", f.processes)
}

// once are the events of which there is one.
var once = []string{
	"plan_started", "planner_usage plan", "planner_usage files page", "plan_generated", "task_started page", "task_started check", "task_completed page", "task_completed check",
	"deploy_started", "build_started", "build_progress install", "build_progress build", "build_progress install done", "build_progress build done", "deploy_completed",
}

func (f *flow) checkEvents(id string, events []buildcast.Event) {
	f.t.Helper()
	seen, at := map[string]int{}, map[string]time.Time{}
	for _, e := range events {
		var d struct {
			TaskName, Purpose, Stage string
			Done                     bool
		}
		_ = json.Unmarshal(e.Data, &d)
		name := strings.Join(strings.Fields(strings.Join([]string{e.Type, d.Purpose, d.TaskName, d.Stage}, " ")), " ")
		if d.Done {
			name += " done"
		}
		if e.Type == buildcast.PlanStarted && !strings.Contains(string(e.Data), `"sandbox":"bwrap"`) {
			f.t.Errorf("%s: commands have no sandbox (apt-get install bubblewrap): %s", id, e.Data)
		}
		seen[name]++
		at[name] = e.Timestamp.Std()
	}
	for _, name := range once {
		if seen[name] != 1 {
			f.t.Errorf("%s: %d times %s", id, seen[name], name)
		}
	}
	for name := range seen {
		if strings.Contains(name, "failed") {
			f.t.Errorf("%s: %s", id, name)
		}
	}
	stored := map[string]time.Time{
		"plan": at["planner_usage plan"], "files": at["planner_usage files page"], "check": at["task_completed check"],
		"install": at["build_progress install done"], "build": at["build_progress build done"],
	}
	f.checkSteps(id, stored)
}

// checkSteps checks that no step began after its end was stored, and that none began
// before its last run had ended.
func (f *flow) checkSteps(id string, stored map[string]time.Time) {
	f.t.Helper()
	running := map[string]string{}
	for _, line := range f.steps() {
		step := line[1]
		switch ns, _ := strconv.ParseInt(line[2], 10, 64); {
		case line[0] == "end" && running[step] != line[2]:
			f.t.Errorf("%s: two runs of %s at once", id, step)
		case line[0] == "begin":
			running[step] = line[2]
			if begun := time.Unix(0, ns); begun.After(stored[step].Add(time.Millisecond)) {
				f.t.Errorf("%s: %s began at %v, and had completed at %v", id, step, begun, stored[step])
			}
		}
	}
	if len(running) != len(stored) {
		f.t.Errorf("%s: steps %v", id, running)
	}
}

func (f *flow) checkDeployed(id string) {
	f.t.Helper()
	unlock := f.fake.Lock()
	var made []*cloudflaretest.Deployment
	for _, d := range f.fake.Deployments {
		if d.Branch == "build-"+strings.ToLower(id) {
			made = append(made, d)
		}
	}
	unlock()
	if len(made) != 1 {
		f.t.Fatalf("%s: %d deployments", id, len(made))
	}
	site := f.fake.Site(made[0])
	if page := site["/index.html"]; len(site) != 1 || page != "<h1>Bread</h1><p>footer</p>" {
		f.t.Errorf("%s: the site is %q", id, site)
	}
}

// checkNothingIsLeft waits until the server, which runs no build, has removed what it had
// left when it was killed.
func (f *flow) checkNothingIsLeft() {
	f.t.Helper()
	f.waitForNone("temporary file", f.n.leftFiles)
}

func (f *flow) waitForNone(what string, left func() []string) {
	f.t.Helper()
	var last []string
	defer func() {
		if len(last) > 0 {
			f.t.Logf("left: %q", last)
		}
	}()
	waitUntil(f.t, "no "+what+" is left", func() bool { last = left(); return len(last) == 0 })
}

// leftFiles returns the temporary files of a server that runs no build.
func (n *node) leftFiles() (left []string) {
	data := n.dataDir()
	for _, pattern := range []string{
		filepath.Join(n.temp, "*"), filepath.Join(data, "cache", "temp", "*"), filepath.Join(data, "sockets", "*"),
		filepath.Join(data, "planner", "requests", "*"), filepath.Join(data, "sandbox-probe*"),
	} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	_ = filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if name := filepath.Base(path); err == nil && (strings.Contains(name, ".new") || strings.HasPrefix(name, ".buildcast-")) {
			left = append(left, path)
		}
		return nil
	})
	return left
}

// processes returns those that work for the build: the server's supervisors, and whatever
// has the build's mark. No other build of this machine has its id.
func (f *flow) processes() (left []string) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		environ, _ := os.ReadFile(dir + "/environ") // an error: it has ended
		program, _ := os.Readlink(dir + "/exe")
		marked := strings.Contains("\x00"+string(environ), "\x00BUILDCAST_BUILD_ID="+f.id+"-")
		ours := program == binary && filepath.Base(dir) != strconv.Itoa(f.n.cmd.Process.Pid)
		if marked || ours {
			cmdline, _ := os.ReadFile(dir + "/cmdline")
			left = append(left, strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return left
}
