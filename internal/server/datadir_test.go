package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcast/buildcast"
)

// holdLock locks the directory like a server with the process id.
func holdLock(t *testing.T, pid int) (dir string, lock *os.File) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(dir, lockFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	d := dataDir{path: dir}
	if err := d.writeInfo(Info{PID: pid, URL: "http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	return dir, lock
}

// A server was killed while it started a command: the command's process still holds
// the lock for a moment.
func TestLockOfAKilledServerIsWaitedFor(t *testing.T) {
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	dir, lock := holdLock(t, gone.Process.Pid)
	defer time.AfterFunc(50*time.Millisecond, func() { lock.Close() }).Stop()
	d, err := openDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	d.close()
}

func TestLockOfARunningServerIsNot(t *testing.T) {
	dir, lock := holdLock(t, os.Getpid())
	defer lock.Close()
	if _, err := openDataDir(dir); buildcast.CodeOf(err) != buildcast.Conflict {
		t.Error(err)
	}
}

// Attack: another user of the machine can write to the data directory, and so change
// which commands the server runs.
func TestDataDirThatOthersMayWriteIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o775, 0o757, 0o777 | os.ModeSticky} {
		dir := t.TempDir()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		_, err := openDataDir(dir)
		if buildcast.CodeOf(err) != buildcast.InvalidArgument || !strings.Contains(fmt.Sprint(err), "chmod go-w "+dir) {
			t.Errorf("mode %v: %v", mode, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("mode %v: %v, %v are left", mode, left, err)
		}
	}
}
