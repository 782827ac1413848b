package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/buildcast/buildcast/internal/runner/sandbox"
)

// shell is a command that runs under its supervisor.
type shell struct {
	supervisor *exec.Cmd
	control    *os.File // a byte stops the command; the end of the pipe kills it
	report     *os.File // how it ended
	box        *boxed   // nil: it has no sandbox
	limits     Limits
}

// started begins the report if the shell was started.
const started = '+'

// job is what a supervisor does besides starting its program.
type job struct {
	Rlimits []sandbox.Rlimit // that the program inherits
	Limits  Limits           // that the supervisor watches
	Dirs    []string         // whose size is limited
	// Pass is the number of descriptors that the program gets, from sandbox.FirstFD on.
	Pass int
	// Sudden: the program is a sandbox, which must not be asked to end, because it would
	// kill the command.
	Sudden bool
}

// report is written by the supervisor when the command has ended.
type report struct {
	exit
	Result
	Errno syscall.Errno `json:"errno,omitempty"` // why the program could not be started
	Limit string        `json:"limit,omitempty"` // the limit that ended the command
}

// start starts a supervisor, which starts the shell, or the sandbox with the shell.
func (r *Runner) start(ctx context.Context, spec *Spec, out *os.File) (_ *shell, err error) {
	s := &shell{limits: r.limits}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	j := job{Limits: r.limits, Dirs: slices.DeleteFunc([]string{spec.Dir, spec.Home, spec.Temp}, func(d string) bool { return d == "" })}
	argv, env := []string{"/bin/sh", "-c", spec.Script}, spec.environment()
	var files []*os.File
	if r.box == nil {
		j.Rlimits = r.limits.rlimits(false)
	} else {
		if s.box, err = r.box.open(spec); err != nil {
			return nil, err
		}
		defer s.box.closeFiles()
		argv, env, files = sandbox.Argv(r.box.bwrap), spec.marks(), s.box.files
		j.Pass, j.Sudden = len(files), true
	}
	task, err := json.Marshal(&j)
	if err != nil {
		return nil, err
	}
	stop, control, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stop.Close()
	s.control = control
	result, reported, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reported.Close()
	s.report = result
	// Not bound to the context: it would kill the supervisor, and leave the command.
	s.supervisor = exec.CommandContext(context.WithoutCancel(ctx), "/proc/self/exe")
	s.supervisor.Args = append([]string{supervisorName, string(task)}, argv...)
	s.supervisor.Dir, s.supervisor.Env = spec.Dir, env
	s.supervisor.Stdout, s.supervisor.Stderr = out, out
	s.supervisor.ExtraFiles = append([]*os.File{controlFD - 3: stop, reportFD - 3: reported}, files...)
	s.supervisor.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return s, s.supervisor.Start()
}

func (s *shell) close() {
	for _, f := range []*os.File{s.control, s.report} {
		if f != nil {
			f.Close()
		}
	}
	if s.box != nil {
		s.box.close()
	}
}

// stop tells the supervisor to end the command. It kills a supervisor that does
// not answer; the kernel then kills the shell.
func (s *shell) stop(gone <-chan struct{}) {
	if s.box != nil {
		_, _ = s.box.stop.Write([]byte{1})
	}
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
func (s *shell) wait() (end ending, err error) {
	defer s.close()
	b, err := io.ReadAll(io.LimitReader(s.report, 4<<10))
	if waitErr := s.supervisor.Wait(); err == nil {
		err = waitErr
	}
	b, running := bytes.CutPrefix(b, []byte{started})
	switch {
	case err != nil && running:
		return end, fmt.Errorf("its supervisor ended early: %w", err)
	case err != nil: // a program cannot start without threads, which count as processes
		return end, fmt.Errorf("its supervisor did not start (%w): %w", err, syscall.EAGAIN)
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		return end, fmt.Errorf("its supervisor did not report how it ended: %w", err)
	}
	if r.Errno != 0 {
		return end, r.Errno
	}
	end = ending{r.exit, r.Result, r.Limit}
	if s.box != nil && end.limit == "" {
		end.exit, err = s.box.verdict(r.exit)
	}
	if end.limit == "" {
		end.limit = s.limits.limitOf(end.exit)
	}
	return end, err
}

// limitOf returns the limit whose signal ended the command; empty: none, also if the
// command had set itself one.
func (l Limits) limitOf(e exit) string {
	switch {
	case l.FileSize > 0 && (e.Signal == syscall.SIGXFSZ || e.Code == 128+int(syscall.SIGXFSZ)):
		return limitFileSize
	case l.CPU > 0 && (e.Signal == syscall.SIGXCPU || e.Code == 128+int(syscall.SIGXCPU)):
		return limitCPU
	}
	return ""
}
