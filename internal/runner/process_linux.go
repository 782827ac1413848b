package runner

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// killPasses bounds how often KillMarked looks for new children of killed
	// processes.
	killPasses = 20
	// goneWithin bounds the wait for one killed process.
	goneWithin = 2 * time.Second
)

// KillMarked kills every process whose environment has all the given KEY=value
// entries, and returns when they have ended. It finds processes that a killed
// server left behind, also those that left their group. It does not find
// processes that cleared their environment, nor those of other users.
func KillMarked(entries ...string) (killed int, err error) {
	for range killPasses {
		pids, err := markedProcesses(entries)
		if err != nil || len(pids) == 0 {
			return killed, err
		}
		for _, pid := range pids {
			if err := kill(pid, entries); err != nil {
				return killed, fmt.Errorf("process %d of an earlier run cannot be ended: %w", pid, err)
			}
			killed++
		}
	}
	return killed, fmt.Errorf("processes of an earlier run keep starting new ones")
}

func markedProcesses(entries []string) (pids []int, err error) {
	proc, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, d := range proc {
		if pid, err := strconv.Atoi(d.Name()); err == nil && pid != os.Getpid() && marked(pid, entries) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func marked(pid int, entries []string) bool {
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || len(environ) == 0 {
		return false // it has ended, is a zombie, or belongs to another user
	}
	environ = append([]byte{0}, environ...)
	for _, entry := range entries {
		if !bytes.Contains(environ, []byte("\x00"+entry+"\x00")) {
			return false
		}
	}
	return true
}

// kill ends the process through a pidfd. It reads the mark again when the pidfd is
// open, so a process that got the same pid in between is left alone.
func kill(pid int, entries []string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !marked(pid, entries) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return awaitGone(fd)
}

// awaitGone returns when the process has ended: its pidfd is then readable.
func awaitGone(fd int) error {
	deadline := time.Now().Add(goneWithin)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("it still runs %v after SIGKILL", goneWithin)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
