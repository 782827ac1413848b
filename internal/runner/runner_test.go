package runner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sh returns a command, and a function that returns its lines.
func sh(t *testing.T, script string) (Spec, func() []string) {
	t.Helper()
	var mu sync.Mutex
	var lines []string
	c := Spec{Script: script, Dir: t.TempDir(), Env: []string{"PATH=" + os.Getenv("PATH")}, TimeoutOf: "timeout in the plan"}
	c.Output = func(l []string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, l...)
	}
	return c, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return lines
	}
}

func run(ctx context.Context, c Spec) error {
	_, err := Direct().Run(ctx, c)
	return err
}

func asFailure(t *testing.T, err error) *Failure {
	t.Helper()
	f, ok := errors.AsType[*Failure](err)
	if !ok {
		t.Fatalf("got %v, want a failure", err)
	}
	return f
}

func TestOutputOfBothStreams(t *testing.T) {
	c, lines := sh(t, `echo one; echo two >&2; echo three; pwd`)
	if err := run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(lines(), " "); got != "one two three "+c.Dir {
		t.Error(got)
	}
}

func TestStdinIsEmpty(t *testing.T) {
	c, lines := sh(t, `wc -c`)
	if err := run(t.Context(), c); err != nil || strings.TrimSpace(strings.Join(lines(), "")) != "0" {
		t.Error(err, lines())
	}
}

func TestEnvironmentIsOnlyWhatIsGiven(t *testing.T) {
	t.Setenv("BUILDCAST_API_KEYS", "a-secret-of-the-server")
	c, lines := sh(t, `env`)
	c.Env = append(c.Env, "ONE=1")
	if err := run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(lines(), "\n")
	if strings.Contains(all, "a-secret") || !strings.Contains(all, "ONE=1") {
		t.Error(all)
	}
}

// HOME, TMPDIR and the workspace are what the command is given.
func TestDirectoriesInTheEnvironment(t *testing.T) {
	c, lines := sh(t, `echo "$HOME $TMPDIR $BUILDCAST_WORKSPACE"`)
	c.Home, c.Temp = "/h", "/t"
	if err := run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(lines(), ""), "/h /t "+c.Dir; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What a command used counts all its processes, also those that lost their parent
// and those that the command left behind.
func TestUsage(t *testing.T) {
	burn := `i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done`
	for _, script := range []string{
		burn,
		`sh -c '` + burn + `'`,
		`(sh -c '` + burn + `; echo done' &) ; while ! [ -e done ]; do sleep 0.01; [ "$(cat log)" = done ] && : > done; done`,
	} {
		c, _ := sh(t, strings.ReplaceAll(script, "echo done", "echo done > log"))
		used, err := Direct().Run(t.Context(), c)
		if err != nil || used.CPU < 20*time.Millisecond || used.CPU > 10*time.Second || used.MaxRSS < 1<<20 || used.MaxRSS > 1<<30 {
			t.Errorf("%s: %+v, %v", script, used, err)
		}
	}
}

func TestFailures(t *testing.T) {
	for script, want := range map[string]struct {
		code   int
		reason string
	}{
		`echo why >&2; exit 3`:          {3, "the command ended with exit code 3"},
		`echo why; kill -9 $$`:          {137, "the command was ended by signal 9 (killed)"},
		`echo why; kill -SEGV $$`:       {139, "the command was ended by signal 11 (segmentation fault)"},
		`echo why; no-such-command-abc`: {127, "the command ended with exit code 127"},
	} {
		c, _ := sh(t, script)
		f := asFailure(t, run(t.Context(), c))
		if f.ExitCode == nil || *f.ExitCode != want.code || f.Reason != want.reason || !strings.HasPrefix(f.Tail, "why") {
			t.Errorf("%s: %+v, exit code %v", script, f, f.ExitCode)
		}
	}
}

func TestNotStarted(t *testing.T) {
	c, _ := sh(t, `true`)
	c.Dir = filepath.Join(c.Dir, "gone")
	f := asFailure(t, run(t.Context(), c))
	if f.ExitCode != nil || !strings.Contains(f.Reason, "cannot be started") {
		t.Errorf("%+v", f)
	}
}

func TestTimeoutNamesItself(t *testing.T) {
	c, _ := sh(t, `echo begun; sleep 60`)
	c.Timeout, c.TimeoutOf = 2*time.Second, `timeout of task "x" in the plan`
	f := asFailure(t, run(t.Context(), c))
	want := `the command ran longer than 2s and was stopped: set a longer timeout of task "x" in the plan, 24h0m0s at most`
	if f.Reason != want || f.ExitCode != nil || f.Tail != "begun" {
		t.Errorf("%+v", f)
	}
}

// A command that handles SIGTERM and exits with 0 counts as stopped.
func TestStoppedIsNotCompleted(t *testing.T) {
	why := errors.New("cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	c, _ := sh(t, `trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done`)
	c.Output = func([]string) { cancel(why) }
	if err := run(ctx, c); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	c, _ = sh(t, `trap 'exit 0' TERM; while :; do sleep 0.02; done`)
	c.Timeout = 100 * time.Millisecond
	if f := asFailure(t, run(t.Context(), c)); f.ExitCode != nil {
		t.Errorf("%+v", f)
	}
}

// alive reports whether the process exists and is not a zombie.
func alive(pid string) bool {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// waitGone waits until the processes have ended: a signal takes a moment.
func waitGone(t *testing.T, pids ...string) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for _, pid := range pids {
		for alive(pid) {
			select {
			case <-deadline:
				t.Fatalf("process %s still runs", pid)
			case <-time.After(time.Millisecond):
			}
		}
	}
}

// A cancelled command ends as a whole: its shell, children and grandchildren,
// also those that ignore SIGTERM.
func TestCancelKillsTheGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c, lines := sh(t, `trap '' TERM
		echo $$
		sh -c 'echo $$; sh -c "echo \$\$; sleep 60" & wait' &
		while :; do sleep 0.05; done`)
	seen := 0
	output := c.Output
	c.Output = func(l []string) {
		output(l)
		if seen += len(l); seen == 3 {
			cancel()
		}
	}
	if err := run(ctx, c); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if len(lines()) != 3 {
		t.Fatal(lines())
	}
	waitGone(t, lines()...)
}

// A background process neither delays the command's end nor outlives it.
func TestBackgroundIsKilledAtTheEnd(t *testing.T) {
	c, lines := sh(t, `sleep 60 & echo $!`)
	if err := run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	waitGone(t, lines()...)
}

// daemon is a script that starts a process which leaves its group, its session,
// its environment, its directory and its output, writes its id to the file, and
// loses its parent.
func daemon(file string) string {
	return `(cd / && exec env -i "$(command -v setsid)" /bin/sh -c 'echo $$ > "` + file + `.new"; mv "` + file + `.new" "` + file + `"; exec sleep 1000' </dev/null >/dev/null 2>&1) &
		while [ ! -e "` + file + `" ]; do sleep 0.01; done
		`
}

func readPID(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// Attack: a command leaves a daemon behind that has no visible connection with its
// build. Then the command ends, or is cancelled.
func TestDaemonEndsWithItsCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "daemon")
	c, _ := sh(t, daemon(file)+`exit 3`)
	if f := asFailure(t, run(t.Context(), c)); f.ExitCode == nil || *f.ExitCode != 3 {
		t.Errorf("%+v", f)
	}
	if pid := readPID(t, file); alive(pid) {
		t.Errorf("the command has ended, but its daemon %s still runs", pid)
	}

	file = filepath.Join(t.TempDir(), "daemon")
	ctx, cancel := context.WithCancel(t.Context())
	c, _ = sh(t, `trap '' TERM; `+daemon(file)+`echo ready; while :; do sleep 1; done`)
	c.Output = func([]string) { cancel() }
	if err := run(ctx, c); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if pid := readPID(t, file); alive(pid) {
		t.Errorf("the command was cancelled, but its daemon %s still runs", pid)
	}
}

// A supervisor does not touch other commands' processes.
func TestDaemonOfAnotherCommandGoesOn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "daemon")
	ready := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	c, _ := sh(t, daemon(file)+`echo ready; wait`)
	c.Output = func([]string) { close(ready) }
	done := make(chan error, 1)
	go func() { done <- run(ctx, c) }()
	<-ready
	other, _ := sh(t, `true`)
	if err := run(t.Context(), other); err != nil {
		t.Error(err)
	}
	if !alive(readPID(t, file)) {
		t.Error("the end of a command has ended another's daemon")
	}
	cancel()
	<-done
}

// A killed supervisor takes the shell with it, and does not count as a success.
func TestKilledSupervisor(t *testing.T) {
	c, lines := sh(t, `echo $$; kill -9 $PPID; sleep 1000`)
	f := asFailure(t, run(t.Context(), c))
	if f.ExitCode != nil || !strings.Contains(f.Reason, "supervisor") {
		t.Errorf("%+v", f)
	}
	waitGone(t, lines()...)
}

// Processes that a killed server and a killed supervisor left behind are found by
// their environment.
func TestKillMarked(t *testing.T) {
	mark := "BUILDCAST_WORKSPACE=" + t.TempDir()
	left := exec.CommandContext(t.Context(), "sleep", "1000")
	left.Env = []string{mark, "BUILDCAST_BUILD_ID=b1"}
	left.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	defer left.Wait()
	if n, err := KillMarked(mark, "BUILDCAST_BUILD_ID=b2"); n != 0 || err != nil {
		t.Errorf("another build's: %d, %v", n, err)
	}
	if n, err := KillMarked(mark, "BUILDCAST_BUILD_ID=b1"); n != 1 || err != nil {
		t.Errorf("killed %d, %v", n, err)
	}
	waitGone(t, strconv.Itoa(left.Process.Pid))
	if n, err := KillMarked(mark); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
}

// The mark must be a whole entry: /w/1 is not /w/10.
func TestMarkIsAWholeEntry(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	base := t.TempDir()
	c, _ := sh(t, `echo ready; exec sleep 60`)
	if c.Dir = base + "/10"; os.Mkdir(c.Dir, 0o700) != nil {
		t.Fatal("no directory")
	}
	c.Output = func([]string) {
		if n, err := KillMarked("BUILDCAST_WORKSPACE=" + base + "/1"); n != 0 || err != nil {
			t.Errorf("killed %d, %v", n, err)
		}
		cancel()
	}
	if err := run(ctx, c); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// The command dies with a server that is killed, and its daemons too.
func TestCommandDiesWithTheServer(t *testing.T) {
	if dir := os.Getenv("BUILDCAST_TEST_SERVER"); dir != "" {
		c := Spec{
			Script: daemon(dir+"/daemon") + `echo $$ > ` + dir + `/pid.new; mv ` + dir + `/pid.new ` + dir + `/pid; trap '' TERM; while :; do sleep 0.05; done`,
			Dir:    dir, Env: []string{"PATH=" + os.Getenv("PATH")},
			Output: func([]string) {},
		}
		_ = run(t.Context(), c)
		return
	}
	dir := t.TempDir()
	server := startSelf(t, "^TestCommandDiesWithTheServer$", "BUILDCAST_TEST_SERVER="+dir)
	var pid string
	deadline := time.After(30 * time.Second)
	for pid == "" {
		b, _ := os.ReadFile(filepath.Join(dir, "pid"))
		pid = strings.TrimSpace(string(b))
		select {
		case <-deadline:
			t.Fatal("the command did not start")
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := server.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_, _ = server.Wait()
	waitGone(t, pid, readPID(t, filepath.Join(dir, "daemon")))
}

func startSelf(t *testing.T, test, env string) *os.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p, err := os.StartProcess(self, []string{self, "-test.run=" + test}, &os.ProcAttr{Env: append(os.Environ(), env), Files: []*os.File{null, null, null}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestManyCommandsAtOnce(t *testing.T) {
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			c, lines := sh(t, fmt.Sprintf(`for i in 1 2 3 4 5 6 7 8 9 10; do echo %d $i; done; exit %d`, i, i%2))
			err := run(t.Context(), c)
			if (err != nil) != (i%2 == 1) || len(lines()) != 10 {
				t.Errorf("%d: %v, %d lines", i, err, len(lines()))
			}
		})
	}
	all.Wait()
}

func TestLongOutputThroughThePipe(t *testing.T) {
	c, lines := sh(t, `i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done`)
	if err := run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewScanner(strings.NewReader(strings.Join(lines(), "\n")))
	n := 0
	for ; r.Scan(); n++ {
		if r.Text() != fmt.Sprintf("line %d", n) {
			t.Fatalf("line %d is %q", n, r.Text())
		}
	}
	if n != 20000 {
		t.Errorf("%d lines", n)
	}
}
