//go:build !linux

package runner

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

func (r *Runner) start(ctx context.Context, spec *Spec, out *os.File) (*shell, error) {
	// Not bound to the context: it would kill the shell alone, and leave its children.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", spec.Script) //nolint:gosec // running the plan's commands is what it is for
	cmd.Dir, cmd.Env = spec.Dir, spec.environment()
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
func (s *shell) wait() (end ending, err error) {
	err = s.cmd.Wait()
	s.signal(syscall.SIGKILL)
	if state := s.cmd.ProcessState; state != nil {
		end.CPU = state.UserTime() + state.SystemTime()
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		end.exit = exitOf(e.Sys().(syscall.WaitStatus))
		return end, nil
	}
	return end, err
}

// signal returns no error: the only one is that no process is left in the group.
func (s *shell) signal(sig syscall.Signal) { _ = syscall.Kill(-s.cmd.Process.Pid, sig) }

// KillMarked does nothing here: only Linux shows other processes' environment.
func KillMarked(...string) (int, error) { return 0, nil }
