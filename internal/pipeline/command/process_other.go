//go:build !linux

package command

import (
	"os/exec"
	"syscall"
)

func processAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitExit returns when the command has exited. There is no way here to wait
// without reaping, so its group is signalled a moment after its pid was given up.
func awaitExit(cmd *exec.Cmd) (reap func() error) {
	err := cmd.Wait()
	return func() error { return err }
}

// KillMarked does nothing here: only Linux shows other processes' environment.
func KillMarked(...string) (int, error) { return 0, nil }
