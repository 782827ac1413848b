// Package filelock locks a file for one process. The lock is the kernel's: it goes
// with the process, however it ends.
package filelock

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// wait bounds how long the lock of a process that was killed is waited for. A child
// that it was starting at that moment has the lock too, until it becomes the command
// that it is to run.
const wait = 5 * time.Second

// ErrHeld is the error for a lock that another process holds.
var ErrHeld = errors.New("another process holds the lock")

// Take opens the file, and makes it if there is none, and locks it until it is
// closed. holder returns the process that locked it last, 0 if that is not known;
// Take waits for the lock if that process no longer exists. The error is ErrHeld if
// another process holds the lock.
func Take(path string, holder func() (pid int)) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for begun := time.Now(); ; <-time.After(10 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			f.Close()
			return nil, err
		case !gone(holder()) || time.Since(begun) > wait:
			f.Close()
			return nil, ErrHeld
		}
	}
}

// gone reports whether the process no longer exists.
func gone(pid int) bool { return pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH) }
