package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// shell is a command that runs under its supervisor.
type shell struct {
	supervisor *exec.Cmd
	control    *os.File // a byte stops the command; the end of the pipe kills it
	report     *os.File // how it ended
}

// started begins the report if the shell was started.
const started = '+'

// report is written by the supervisor when the command has ended.
type report struct {
	ending
	Errno syscall.Errno `json:"errno,omitempty"` // why the shell could not be started
}

// start starts a supervisor, which starts the shell.
func (r *Runner) start(ctx context.Context, spec *Spec, out *os.File) (*shell, error) {
	stop, control, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stop.Close()
	result, reported, err := os.Pipe()
	if err != nil {
		control.Close()
		return nil, err
	}
	defer reported.Close()
	// Not bound to the context: it would kill the supervisor, and leave the command.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/proc/self/exe")
	cmd.Args = []string{supervisorName, spec.Script}
	cmd.Dir, cmd.Env = spec.Dir, spec.environment()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{controlFD - 3: stop, reportFD - 3: reported}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		control.Close()
		result.Close()
		return nil, err
	}
	return &shell{cmd, control, result}, nil
}

// stop tells the supervisor to end the command. It kills a supervisor that does
// not answer; the kernel then kills the shell.
func (s *shell) stop(gone <-chan struct{}) {
	_, _ = s.control.Write([]byte{1}) // an error: it is gone
	patience := time.NewTimer(killAfter + 2*goneWithin)
	defer patience.Stop()
	select {
	case <-gone:
	case <-patience.C:
		_ = s.supervisor.Process.Kill()
	}
}

// wait returns when the command and all processes that it started have ended.
func (s *shell) wait() (ending, error) {
	defer s.control.Close()
	defer s.report.Close()
	b, err := io.ReadAll(io.LimitReader(s.report, 1<<10))
	if waitErr := s.supervisor.Wait(); err == nil {
		err = waitErr
	}
	b, running := bytes.CutPrefix(b, []byte{started})
	switch {
	case err != nil && running:
		return ending{}, fmt.Errorf("its supervisor ended early: %w", err)
	case err != nil: // a program cannot start without threads, which count as processes
		return ending{}, fmt.Errorf("its supervisor did not start (%w): %w", err, syscall.EAGAIN)
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		return ending{}, fmt.Errorf("its supervisor did not report how it ended: %w", err)
	}
	if r.Errno != 0 {
		return ending{}, r.Errno
	}
	return r.ending, nil
}
