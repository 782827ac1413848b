//go:build linux

package runner

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// testLimits are small, so that the attacks reach them soon.
var testLimits = Limits{Memory: 256 << 20, Processes: 200, FileSize: 32 << 20, Disk: 64 << 20, CPU: 30 * time.Second}

// boxedRunner returns a runner whose sandbox works. A machine on which it does not
// fails the test: what the sandbox holds would not be tested there.
func boxedRunner(t *testing.T, change ...func(*Config)) *Runner {
	t.Helper()
	cfg := Config{Sandbox: SandboxBwrap, Limits: testLimits, Dir: t.TempDir()}
	for _, c := range change {
		c(&cfg)
	}
	r, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatalf("%v (scripts/install-deps installs bubblewrap; docs/sandbox.md has the causes and their fixes)", err)
	}
	return r
}

// inBox returns a command with its directories, and a function that returns its output.
func inBox(t *testing.T, script string) (Spec, func() string) {
	t.Helper()
	base := t.TempDir()
	s := Spec{
		Script: script, Dir: filepath.Join(base, "work"), Home: filepath.Join(base, "home"), Temp: filepath.Join(base, "tmp"),
		Env: []string{"PATH=" + os.Getenv("PATH"), "BUILDCAST_BUILD_ID=b1"}, TimeoutOf: "timeout",
	}
	for _, d := range []string{s.Dir, s.Home, s.Temp} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var lines []string
	s.Output = func(l []string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, l...)
	}
	return s, func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(lines, "\n")
	}
}

func TestBoxedCommand(t *testing.T) {
	r := boxedRunner(t)
	s, out := inBox(t, `pwd; echo "$HOME $TMPDIR $BUILDCAST_WORKSPACE $ONE"; hostname; id -un; wc -c
		echo made > file; echo temp > "$TMPDIR/t"; echo home > ~/h; echo why >&2; exit 3`)
	s.Env = append(s.Env, "ONE=a=b c")
	used, err := r.Run(t.Context(), s)
	if f := asFailure(t, err); f.ExitCode == nil || *f.ExitCode != 3 || !strings.HasSuffix(f.Tail, "why") {
		t.Errorf("%+v", f)
	}
	if want := "/ws\n/home/build /tmp /ws a=b c\nbuild\nbuild\n0\nwhy"; out() != want {
		t.Errorf("got %s, want %s", out(), want)
	}
	for _, file := range []string{s.Dir + "/file", s.Temp + "/t", s.Home + "/h"} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	if used.CPU <= 0 || used.MaxRSS < 1<<20 || r.Sandbox() != "bwrap" {
		t.Errorf("%+v, %s", used, r.Sandbox())
	}
}

func TestBoxedFailures(t *testing.T) {
	r := boxedRunner(t)
	for script, want := range map[string]string{
		`kill -9 $$`:                "the command was ended by signal 9 (killed)",
		`exit 137`:                  "the command ended with exit code 137",
		`no-such-abc`:               "the command ended with exit code 127",
		killAll(t):                  "the command was ended by signal 9 (killed)",
		`sleep 1000`:                "the command ran longer than 2s and was stopped: set a longer timeout, 24h0m0s at most",
		`kill -9 $PPID; sleep 1000`: "the command was ended by signal 9 (killed)",
	} {
		s, _ := inBox(t, script)
		s.Timeout = 2 * time.Second
		if want[12] != 'r' {
			s.Timeout = time.Minute
		}
		_, err := r.Run(t.Context(), s)
		if f := asFailure(t, err); f.Reason != want {
			t.Errorf("%s: %s", script, f.Reason)
		}
	}
	s, _ := inBox(t, `true`)
	s.Dir += "/gone"
	_, err := r.Run(t.Context(), s)
	if f := asFailure(t, err); f.ExitCode != nil || !strings.Contains(f.Reason, "cannot be started") {
		t.Errorf("%+v", f)
	}
}

// A program that PATH has outside /usr is there, with its libraries, and no more of
// what is around it.
func TestBoxedPath(t *testing.T) {
	base, err := os.MkdirTemp("/opt", "buildcast-test-")
	if err != nil {
		if base, err = os.MkdirTemp("/var/tmp", "buildcast-test-"); err != nil {
			t.Fatal(err)
		}
	}
	defer os.RemoveAll(base)
	for _, dir := range []string{"bin", "lib", "secrets"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(base, "lib", "real"), []byte("#!/bin/sh\necho my program\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../lib/real", filepath.Join(base, "bin", "buildcast-test-program")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(base, "bin")+":"+os.Getenv("PATH"))
	r := boxedRunner(t)
	s, out := inBox(t, `buildcast-test-program; ls -d `+base+`/secrets 2>/dev/null`)
	if _, _ = r.Run(t.Context(), s); out() != "my program" {
		t.Error(out())
	}
}
