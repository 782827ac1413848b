//go:build !linux

package command

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// shell is a command that runs, in a process group of its own.
type shell struct{ cmd *exec.Cmd }

func (c Command) start(ctx context.Context, out *os.File) (*shell, error) {
	// Not bound to the context: it would kill the shell alone, and leave its children.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", c.Script) //nolint:gosec // running the plan's commands is what it is for
	cmd.Dir, cmd.Env = c.Dir, c.Env
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return &shell{cmd}, cmd.Start()
}

// stop ends the command: SIGTERM, and SIGKILL if it still runs after killAfter.
func (s *shell) stop(gone <-chan struct{}) {
	s.signal(syscall.SIGTERM)
	patience := time.NewTimer(killAfter)
	defer patience.Stop()
	select {
	case <-gone:
	case <-patience.C:
		s.signal(syscall.SIGKILL)
	}
}

// wait returns when the shell has exited. This system cannot wait without reaping
// the process, so the group is killed a moment after its pid became free.
func (s *shell) wait() (exit, error) {
	err := s.cmd.Wait()
	s.signal(syscall.SIGKILL)
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return exitOf(e.Sys().(syscall.WaitStatus)), nil
	}
	return exit{}, err
}

// signal returns no error: the only one is that no process is left in the group.
func (s *shell) signal(sig syscall.Signal) { _ = syscall.Kill(-s.cmd.Process.Pid, sig) }

// KillMarked does nothing here: only Linux shows other processes' environment.
func KillMarked(...string) (int, error) { return 0, nil }
