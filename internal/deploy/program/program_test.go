package program

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deploy"
	"github.com/buildcast/buildcast/internal/mask"
	"github.com/buildcast/buildcast/internal/runner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a target with an output.
type world struct {
	*testing.T
	target *Target
	site   deploy.Site
	to     string // a directory outside, where programs put things

	mu       sync.Mutex
	output   []string
	messages []string
}

func newWorld(t *testing.T, script string, variables map[string]string) *world {
	t.Helper()
	w := &world{T: t, to: t.TempDir(), site: deploy.Site{BuildID: "b1", Project: "bakery", Dir: filepath.Join(t.TempDir(), "dist")}}
	t.Setenv("TEST_TO", w.to)
	all := map[string]string{"TEST_TO": w.to}
	for name, value := range variables {
		all[name] = value
	}
	w.target = New(Config{
		Script: script, Dir: filepath.Join(t.TempDir(), "deploys"), Variables: all, Mask: mask.New(append(slices.Collect(maps.Values(variables)), "nothing prints this")...),
		Runner: runner.Direct(),
	})
	w.write(filepath.Join(w.site.Dir, "index.html"), "<h1>hello</h1>")
	w.write(filepath.Join(w.site.Dir, "assets/app.js"), "1")
	return w
}

func (w *world) write(path, content string) {
	w.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		w.Fatal(err)
	}
}

func (w *world) deploy() (deploy.Deployment, error) {
	return w.target.Deploy(w.Context(), w.site, func(p deploy.Progress) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.output = append(w.output, p.Output...); len(p.Output) == 0 {
			w.messages = append(w.messages, p.Message)
		}
	})
}

func (w *world) read(name string) string {
	w.Helper()
	b, err := os.ReadFile(filepath.Join(w.to, name))
	if err != nil {
		w.Error(err)
	}
	return string(b)
}

// failed returns the command's failure.
func (w *world) failed() *runner.Failure {
	w.Helper()
	d, err := w.deploy()
	f, ok := errors.AsType[*runner.Failure](err)
	if !ok {
		w.Fatalf("deployed %+v, error %v", d, err)
	}
	return f
}

func TestDeploy(t *testing.T) {
	w := newWorld(t, `cp -R "$BUILDCAST_OUTPUT"/ "$TEST_TO"/site
		echo copied; echo a warning >&2; echo "https://$BUILDCAST_BRANCH.example.com/$BUILDCAST_PROJECT$BUILDCAST_PRODUCTION"; echo`, nil)
	d, err := w.deploy()
	if err != nil || d.URL != "https://build-b1.example.com/bakery" {
		t.Errorf("deployed %+v, %v", d, err)
	}
	if w.read("site/index.html") != "<h1>hello</h1>" || w.read("site/assets/app.js") != "1" {
		t.Error("the files are others")
	}
	if slices.Sort(w.output); !slices.Equal(w.output, []string{"", "a warning", "copied", "https://build-b1.example.com/bakery"}) {
		t.Errorf("output %q", w.output)
	}
	if !slices.Equal(w.messages, []string{"Copying 2 files (15 bytes)", "Running the deploy command"}) {
		t.Errorf("progress %q", w.messages)
	}
	w.site.Production = true
	if d, err = w.deploy(); err != nil || d.URL != "https://build-b1.example.com/bakery1" {
		t.Errorf("deployed %+v, %v", d, err)
	}
	if left, _ := os.ReadDir(w.target.config.Dir); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// The program gets the variables that the operator named, and no secret of the server.
func TestTheEnvironmentIsClean(t *testing.T) {
	t.Setenv("CLOUDFLARE_API_TOKEN", "a secret of the server")
	w := newWorld(t, `env >"$TEST_TO/env"; pwd >"$TEST_TO/pwd"; ls -A >"$TEST_TO/ls"; echo http://localhost/`, map[string]string{"NETLIFY_AUTH_TOKEN": "it's $HOME"})
	if _, err := w.deploy(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(w.read("env")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		names = append(names, name)
		if name == "NETLIFY_AUTH_TOKEN" && value != "it's $HOME" {
			t.Errorf("the token is %q", value)
		}
	}
	slices.Sort(names)
	names = slices.DeleteFunc(names, func(name string) bool {
		return slices.Contains([]string{"OLDPWD", "PWD", "SHLVL", "_", "TEST_TO"}, name)
	})
	if want := []string{"BUILDCAST_BRANCH", "BUILDCAST_BUILD_ID", "BUILDCAST_OUTPUT", "BUILDCAST_PROJECT", "BUILDCAST_WORKSPACE", "CI", "HOME", "LANG", "NETLIFY_AUTH_TOKEN", "PATH", "TMPDIR"}; !slices.Equal(names, want) {
		t.Errorf("variables %q, want %q", names, want)
	}
	if w.read("ls") != "" {
		t.Errorf("the program runs among %q", w.read("ls"))
	}
}

func TestFailures(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		code   int
		tail   string
	}{
		"an exit code":         {`echo no such host >&2; exit 23`, 23, "no such host"},
		"a failure in between": {`set -e; false; echo https://example.com/`, 1, ""},
		"a signal":             {`echo begun; kill -9 $$`, 137, "begun"},
		"no such program":      {`no-such-program-here`, 127, "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newWorld(t, tt.script, nil).failed()
			if f.ExitCode == nil || *f.ExitCode != tt.code || !strings.Contains(f.Tail, tt.tail) {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		want   string // the URL, or what is in the error
	}{
		"blank lines after it": {`printf 'https://a.example/\r\n \n\n'`, "https://a.example/"},
		"much output before":   {`i=0; while [ $i -lt 3000 ]; do echo "a line of output, number $i, of rsync -v or so"; i=$((i+1)); done; echo https://a.example/x?y=1`, "https://a.example/x?y=1"},
		"stderr after it":      {`echo https://a.example/; echo "update available" >&2`, "https://a.example/"},
		"nothing":              {`:`, "printed nothing"},
		"only on stderr":       {`echo https://a.example/ >&2`, "printed nothing"},
		"another text":         {`echo https://a.example/; echo Done.`, `its last line is "Done."`},
		"a script":             {`echo 'javascript:alert(1)'`, "its last line is"},
		"a file":               {`echo file:///etc/passwd`, "its last line is"},
		"no host":              {`echo https:///x`, "its last line is"},
		"a password":           {`echo https://user:password@a.example/`, "its last line is"},
		"spaces":               {`echo https://a.example/ and more`, "its last line is"},
		"a control character":  {`printf 'https://a.example/\033[0m'`, "its last line is"},
		"too long":             {`printf 'https://a.example/%03000d' 1`, "at most 2048 bytes"},
		"a secret":             {`echo "https://a.example/?token=$NETLIFY_AUTH_TOKEN"`, "***"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tt.script, map[string]string{"NETLIFY_AUTH_TOKEN": "secret-1234"})
			d, err := w.deploy()
			if err == nil && d.URL == tt.want {
				return
			}
			if buildcast.CodeOf(err) != buildcast.InvalidArgument || err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret-1234") {
				t.Errorf("deployed %+v, error %v, want %q", d, err, tt.want)
			}
		})
	}
}

func TestSecretsAreMasked(t *testing.T) {
	w := newWorld(t, `echo "token $NETLIFY_AUTH_TOKEN"; echo "$SHORT"; printf %s "$NETLIFY_AUTH_TOKEN" | base64; echo "$SSH_KEY"; echo http://localhost/`,
		map[string]string{"NETLIFY_AUTH_TOKEN": "secret-1234", "SHORT": "1", "SSH_KEY": "the first line\nthe second line"})
	if _, err := w.deploy(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.output, []string{"token ***", "1", "***Q=", "***", "http://localhost/"}) {
		t.Errorf("output %q", w.output)
	}
}

// The program sees a copy: a link that a build planted is refused before it runs, and
// one that is planted while it runs is not in the copy.
func TestAPlantedLinkIsNotFollowed(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	w := newWorld(t, `ln -s "$SECRET" "$ORIGINAL/planted"; cat "$BUILDCAST_OUTPUT/planted"; echo http://localhost/`, nil)
	w.write(secret, "the operator's key")
	w.target.config.Variables["SECRET"], w.target.config.Variables["ORIGINAL"] = secret, w.site.Dir
	if _, err := w.deploy(); err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(w.output, "\n"); strings.Contains(all, "key") || !strings.Contains(all, "No such file") {
		t.Errorf("output %q", all)
	}
	w.output = nil
	if _, err := w.deploy(); buildcast.CodeOf(err) != buildcast.InvalidArgument || len(w.output) != 0 {
		t.Errorf("a link out of the output: %v, output %q", err, w.output)
	}
}

func TestATimeoutNamesItsSetting(t *testing.T) {
	w := newWorld(t, `echo begun; sleep 1000`, nil)
	w.target.config.Timeout = 300 * time.Millisecond
	if f := w.failed(); f.ExitCode != nil || !strings.Contains(f.Reason, "--deploy-timeout") {
		t.Errorf("%+v", f)
	}
}

// The program is killed with its build, and all that it started.
func TestACancelledBuildKillsTheProgram(t *testing.T) {
	w := newWorld(t, `trap '' TERM; sleep 1000 & echo $! >"$TEST_TO/child"; echo ready; wait; sleep 1000`, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("the build is over")
	_, err := w.target.Deploy(ctx, w.site, func(p deploy.Progress) {
		if len(p.Output) > 0 {
			cancel(over)
		}
	})
	if !errors.Is(err, over) {
		t.Fatal(err)
	}
	stat, _ := os.ReadFile("/proc/" + strings.TrimSpace(w.read("child")) + "/stat")
	if len(stat) > 0 && !strings.Contains(string(stat), ") Z ") {
		t.Error("what the program started still runs")
	}
	if left, _ := os.ReadDir(w.target.config.Dir); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestWhatACrashLeftIsRemoved(t *testing.T) {
	w := newWorld(t, `ls "$(dirname "$(dirname "$BUILDCAST_OUTPUT")")" | wc -l; echo http://localhost/`, nil)
	w.write(filepath.Join(w.target.config.Dir, "1/output/index.html"), "old")
	if _, err := w.deploy(); err != nil || strings.TrimSpace(w.output[0]) != "1" {
		t.Errorf("output %q, %v", w.output, err)
	}
}

// An output with a pipe never reaches the program.
func TestHostileOutput(t *testing.T) {
	w := newWorld(t, `echo ran; echo http://localhost/`, nil)
	if err := syscall.Mkfifo(filepath.Join(w.site.Dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := w.deploy(); buildcast.CodeOf(err) != buildcast.InvalidArgument || len(w.output) != 0 {
		t.Errorf("%v, output %q", err, w.output)
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"https://a.example/", "http://[::1]:8/", "javascript:x", "https://a b", "//x", "https://a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if isAddress(text) && (!strings.HasPrefix(strings.ToLower(text), "http") || strings.ContainsAny(text, " \n\t\x00") || len(text) > maxURL) {
			t.Errorf("%q is taken", text)
		}
	})
}
