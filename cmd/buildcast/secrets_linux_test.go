package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asProgram makes this binary run as buildcast itself.
const asProgram = "BUILDCAST_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// look is the command of a hostile plan. It reads the environment and the command line
// of every process, and tries to open the memory of its ancestors.
const look = `
look() { cat "/proc/$1/environ" "/proc/$1/cmdline" | tr '\0' '\n' >> found; }
for p in /proc/[0-9]*; do look "${p#/proc/}"; done 2>/dev/null
p=$PPID
while [ "$p" -gt 1 ]; do
	look "$p" 2>/dev/null
	name=$(tr '\0' ' ' < "/proc/$p/cmdline" | cut -d' ' -f1,2)
	if (: < "/proc/$p/mem") 2>/dev/null; then echo "memory of $name" >> opened; fi
	echo "$p" >> ancestors
	p=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$p/status")
done
echo $$ >> ancestors
true
`

// unprivileged returns a directory, and a user other than root who owns it: root may
// read every process's memory.
func unprivileged(t *testing.T) (dir string, who *syscall.Credential) {
	t.Helper()
	dir, err := os.MkdirTemp("", "buildcast-secrets") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if os.Geteuid() != 0 {
		return dir, nil
	}
	who = &syscall.Credential{Uid: 65534, Gid: 65534}
	if err := os.Chown(dir, int(who.Uid), int(who.Gid)); err != nil {
		t.Fatal(err)
	}
	return dir, who
}

// program copies this binary to dir, where the user may run it.
func program(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	path := filepath.Join(dir, "buildcast")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, self); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// Attack: a plan's command without a sandbox looks for the server's secrets in all that /proc shows.
func TestCommandsFindNoSecretOfTheServer(t *testing.T) {
	dir, who := unprivileged(t)
	plan := filepath.Join(dir, "plan.yaml")
	text := "name: look\ndeploy: none\ntasks:\n  - name: look\n    run: |\n      " + strings.ReplaceAll(look, "\n", "\n      ") + "\n"
	if err := os.WriteFile(plan, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	cmd := exec.CommandContext(t.Context(), program(t, dir), "build", plan, "--exit", "--sandbox", "off", "--data-dir", data, "--id", "b")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	cmd.Env = []string{
		asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GORACE=atexit_sleep_ms=0",
		"BUILDCAST_LISTEN=127.0.0.1:0", "BUILDCAST_PREVIEW_LISTEN=127.0.0.1:0",
		"BUILDCAST_API_KEYS=a-secret-of-the-server-1", "BUILDCAST_API_KEY=a-secret-of-the-server-1",
		"BUILDCAST_WEBHOOK_KEY=a-secret-of-the-server-2-of-32-characters", "PGPASSWORD=a-secret-of-the-server-3",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	work := filepath.Join(data, "builds", "b", "work")
	found, err := os.ReadFile(filepath.Join(work, "found"))
	if err != nil || !bytes.Contains(found, []byte("BUILDCAST_BUILD_ID=b")) {
		t.Fatalf("the attack does not look: %v", err)
	}
	for line := range strings.Lines(string(found)) {
		if strings.Contains(line, "a-secret-of") {
			t.Errorf("a command reads %s", line)
		}
	}
	ancestors, err := os.ReadFile(filepath.Join(work, "ancestors"))
	if server := strconv.Itoa(cmd.Process.Pid); err != nil || !strings.Contains(string(ancestors), server+"\n") {
		t.Errorf("the server's process %s is not an ancestor of the command (%q): its id has changed", server, ancestors)
	}
	opened, _ := os.ReadFile(filepath.Join(work, "opened"))
	if strings.Contains(string(opened), "buildcast build") {
		t.Errorf("a command opens the %s", opened)
	}
}

// The exec changes neither the exit code nor the effect of signals.
func TestProgramIsTheSameAfterwards(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "serve", "--data-dir", filepath.Join(dir, "data"), "--log-format", "json")
	cmd.Env = []string{
		asProgram + "=1", "GORACE=atexit_sleep_ms=0", "BUILDCAST_LISTEN=127.0.0.1:0", "BUILDCAST_PREVIEW_LISTEN=127.0.0.1:0",
		"BUILDCAST_API_KEYS=a-secret-of-the-server-1",
	}
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	for line := ""; !strings.Contains(line, `"ready"`); line += string(b) {
		if _, err := io.ReadFull(log, b); err != nil {
			t.Fatalf("%v after %s", err, line)
		}
	}
	// Root can read the environment: even there the secrets must not be.
	if environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid)); err == nil && bytes.Contains(environ, []byte("a-secret-of")) {
		t.Errorf("the server's first environment holds a secret: %q", environ)
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(log)
	if err := cmd.Wait(); err != nil || !strings.Contains(string(rest), `"stopped"`) {
		t.Errorf("SIGTERM ends it with %v\n%s", err, rest)
	}

	bad := exec.CommandContext(t.Context(), "/proc/self/exe", "serve", "--builds", "nonsense")
	bad.Env = cmd.Env
	if err := bad.Run(); bad.ProcessState.ExitCode() != 2 {
		t.Errorf("a wrong flag ends it with %v", err)
	}
}
