package server

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcast/buildcast"
)

// holdLock locks the directory as a server with the process id has it.
func holdLock(t *testing.T, pid int) (dir string, lock *os.File) {
	t.Helper()
	dir = t.TempDir()
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

// A server was killed while it started a command: the command's process still has
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
