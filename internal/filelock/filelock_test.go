package filelock

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func nobody() int { return 0 }

func TestALockIsHeldUntilItIsClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := Take(path, nobody)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Take(path, nobody); !errors.Is(err, ErrHeld) {
		t.Errorf("taken twice: %v", err)
	}
	if _, err := Take(path, os.Getpid); !errors.Is(err, ErrHeld) { // its holder exists
		t.Errorf("taken twice: %v", err)
	}
	f.Close()
	again, err := Take(path, nobody)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// The holder was killed while it was starting a command, which holds the lock for a
// moment: Take waits.
func TestTheLockOfAKilledProcessIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := Take(path, nobody)
	if err != nil {
		t.Fatal(err)
	}
	killed := exec.Command("true")
	if err := killed.Run(); err != nil {
		t.Fatal(err)
	}
	asked := 0
	again, err := Take(path, func() int {
		if asked++; asked == 2 {
			f.Close()
		}
		return killed.Process.Pid
	})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestAFileThatCannotBeOpened(t *testing.T) {
	if _, err := Take(filepath.Join(t.TempDir(), "none", "lock"), nobody); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
