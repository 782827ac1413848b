// Package filelock locks a file for one process. The kernel releases the lock when
// the process ends, in whatever way.
package filelock

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// wait bounds how long Take waits for the lock of a process that was killed. A child
// that the process was starting at that moment holds the lock too, until the child
// executes its command.
const wait = 5 * time.Second

// ErrHeld is the error for a lock that another process holds.
var ErrHeld = errors.New("another process holds the lock")

// Take opens or creates the file, and locks it until it is closed. holder returns the
// id of the process that locked it last, 0 if it is not known. Take waits for the lock
// only if that process no longer exists; otherwise the error is ErrHeld.
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
