package runner

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Attack: the server has inherited an open file with its keys, as SECURITY.md
// proposes, and a command without a sandbox reads it.
func TestAttackInheritedDescriptor(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("a-key-of-the-server"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(keys)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, 20) // without O_CLOEXEC, as what is inherited
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	c, lines := sh(t, `ls -l /proc/self/fd; for f in /proc/self/fd/*; do [ "$(readlink "$f")" = "`+keys+`" ] && cat "$f"; done; echo end`)
	if err := run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(lines(), "\n"); strings.Contains(all, keys) || !strings.HasSuffix(all, "end") {
		t.Error(all)
	}
}

// A command that exceeds a limit of its own is not told of the server's, which it has
// not.
func TestOwnLimit(t *testing.T) {
	c, _ := sh(t, `ulimit -f 1; exec head -c 100000 /dev/zero > large`)
	err := run(t.Context(), c)
	if f, ok := errors.AsType[*Failure](err); !ok || strings.Contains(fmt.Sprint(err), "--limit") || !strings.Contains(f.Reason, "signal 25") {
		t.Error(err)
	}
}

// Attack: the machine cannot start one more process. The command was not started,
// so it may be tried again.
func TestSupervisorThatCannotStart(t *testing.T) {
	for written, transient := range map[string]bool{"": true, "+": false} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.WriteString(written)
		w.Close()
		dead := exec.CommandContext(t.Context(), "/bin/sh", "-c", "exit 2") // as the Go runtime ends
		if err := dead.Start(); err != nil {
			t.Fatal(err)
		}
		s := &shell{supervisor: dead, report: r}
		if _, err := s.wait(); err == nil || Transient(err) != transient {
			t.Errorf("after %q: %v", written, err)
		}
	}
}
