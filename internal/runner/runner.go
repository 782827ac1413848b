// Package runner runs one shell command of a build and reads its output as
// bounded lines.
//
// No process of a command outlives it: a resumed build does not repeat completed
// work, so it must not depend on processes that completed work left running. On
// Linux each command has a supervisor. It is this program, started again; it
// starts the shell and becomes the parent of every process that loses its own.
// When the shell exits, the command is stopped, or the server dies, the supervisor
// kills all these processes, whatever group, session or environment they moved
// to. If the supervisor itself is killed, [KillMarked] finds its processes by
// their environment. On other systems only the shell's process group is killed.
package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/mask"
	"github.com/buildcast/buildcast/internal/runner/sandbox"
)

const (
	// killAfter is the time between SIGTERM and SIGKILL for a stopped command. A
	// cancelled build must end within a second.
	killAfter = 500 * time.Millisecond
	// pipeGrace bounds the wait for the rest of the output if a process that could
	// not be killed holds the pipe open.
	pipeGrace = 250 * time.Millisecond
)

// envWorkspace is the variable with the command's directory, as the command sees it.
// The processes of a command that run outside its sandbox have the host's path in
// it, see [KillMarked].
const envWorkspace = "BUILDCAST_WORKSPACE"

// Spec is a shell command, and what it may use. All paths are the host's.
type Spec struct {
	Script string // for /bin/sh -c
	// Dir is where the script runs, Home its home directory, and Temp its directory for
	// temporary files. They must exist.
	Dir, Home, Temp string
	// Env is the environment, as KEY=value. The runner adds HOME, TMPDIR and
	// BUILDCAST_WORKSPACE: they are Home, Temp and Dir as the command sees them.
	Env []string
	// Timeout bounds the run; zero means buildcast.DefaultTimeout. TimeoutOf
	// names the plan's field that sets it, for the error.
	Timeout   time.Duration
	TimeoutOf string
	// Output receives the lines, see [Output]. It must not block.
	Output func(lines []string)
	// Mask hides secrets in the output, before it is divided into lines.
	Mask *mask.Masker
	// Bridges are the services that a command in a sandbox may reach. It reaches nothing
	// else of the network.
	Bridges []Bridge
	// Planned says that a planner has a part in what runs. Such a command runs without a
	// sandbox only if the server was told to have none.
	Planned bool
}

// Bridge connects 127.0.0.1:Port inside a sandbox to a Unix socket of the host.
type Bridge struct {
	Port   int
	Socket string
}

// Result is what a command used, together with all processes that it started.
type Result struct {
	CPU time.Duration
	// MaxRSS is the memory of its largest process, in bytes. It is not less than that of
	// the supervisor, some 15 MB.
	MaxRSS int64
}

// Runner runs commands. It may be used by many goroutines.
type Runner struct {
	limits Limits
	box    *box // nil: none

	strict  bool  // a sandbox was wanted
	problem error // why there is none
	closed  bool  // nothing runs without it
}

// Direct returns a runner without a sandbox and limits: commands may do what the
// server's user may.
func Direct() *Runner { return &Runner{} }

// Sandbox names the sandbox that commands get: bwrap or none.
func (r *Runner) Sandbox() string {
	if r.box != nil {
		return sandboxBwrap
	}
	return sandboxNone
}

// Failure describes a command that failed.
type Failure struct {
	Reason string // what is wrong, and the fix if there is one
	// ExitCode is the shell's, 128+n after signal n; nil if the command was
	// stopped by its timeout or could not be started.
	ExitCode *int
	Tail     string // the last output
	Err      error  // why it could not be started; nil if it was

	cause string // of errSandbox
}

func (f *Failure) Error() string { return f.Reason }

func (f *Failure) Unwrap() error { return f.Err }

// Run runs the command to its end. The error is nil, a *Failure, or the cause of
// ctx's end: a command that was stopped has not failed, whatever its exit code.
func (r *Runner) Run(ctx context.Context, spec Spec) (Result, error) {
	if spec.Timeout <= 0 {
		spec.Timeout = buildcast.DefaultTimeout
	}
	if err := r.May(spec.Planned); err != nil {
		return Result{}, &Failure{Reason: err.Error(), Err: err}
	}
	limited, cancel := context.WithTimeout(ctx, spec.Timeout)
	defer cancel()

	out := newOutput(spec.Output)
	end, stopped, err := r.run(limited, &spec, out)
	switch {
	case err == nil && end.exit == exit{} && !stopped:
		return end.Result, nil // even if ctx has ended meanwhile: completed work is not repeated
	case ctx.Err() != nil:
		return end.Result, context.Cause(ctx)
	case stopped:
		return end.Result, &Failure{
			Reason: fmt.Sprintf("the command ran longer than %v and was stopped: set a longer %s, %v at most", spec.Timeout, spec.TimeoutOf, buildcast.MaxTimeout),
			Tail:   out.tail(),
		}
	case end.limit != "":
		return end.Result, &Failure{Reason: r.limits.exceeded(end.limit), Tail: out.tail()}
	case errors.Is(err, errSandbox):
		cause := sandbox.Cause(out.tail())
		return end.Result, &Failure{Reason: "the command was not started, because its sandbox failed: " + cause, Tail: out.tail(), Err: err, cause: cause}
	case err != nil:
		return end.Result, notStarted(err)
	}
	return end.Result, end.failure(out.tail())
}

// run starts the command and waits until all its processes have ended. stopped
// reports whether it was stopped because limited ended.
func (r *Runner) run(limited context.Context, spec *Spec, out *Output) (end ending, stopped bool, err error) {
	lines, w, err := os.Pipe() // one pipe for both streams, so that the order of the lines is kept
	if err != nil {
		return end, false, err
	}
	defer lines.Close()
	shell, err := r.start(limited, spec, w)
	w.Close()
	if err != nil {
		return end, false, err
	}
	var parts sync.WaitGroup
	visible := spec.Mask.Writer(out)
	parts.Go(func() { readAll(visible, lines) })
	gone := make(chan struct{})
	var stopper sync.WaitGroup
	stopper.Go(func() {
		select {
		case <-gone:
		case <-limited.Done():
			stopped = true
			shell.stop(gone)
		}
	})
	end, err = shell.wait()
	close(gone)
	stopper.Wait()
	_ = lines.SetReadDeadline(time.Now().Add(pipeGrace))
	parts.Wait()
	_ = visible.Close() // what the mask holds back; out never fails
	out.Close()
	return end, stopped, err
}

// environment returns the command's variables, if it sees its directories where the
// host has them.
func (s *Spec) environment() []string {
	env := append(slices.Clone(s.Env), envWorkspace+"="+s.Dir)
	if s.Home != "" {
		env = append(env, "HOME="+s.Home)
	}
	if s.Temp != "" {
		env = append(env, "TMPDIR="+s.Temp)
	}
	return env
}

// ending is how a command ended, and what it used.
type ending struct {
	exit
	Result
	limit string // the limit that ended it; empty: none
}

// errSandbox: the sandbox failed before the command began.
var errSandbox = errors.New("the sandbox cannot be started")

// exit is the shell's status; the zero value is success.
type exit struct {
	Code   int            `json:"code,omitempty"`
	Signal syscall.Signal `json:"signal,omitempty"`
}

func exitOf(ws syscall.WaitStatus) exit {
	if ws.Signaled() {
		return exit{Signal: ws.Signal()}
	}
	return exit{Code: ws.ExitStatus()}
}

func (e exit) failure(tail string) *Failure {
	f := &Failure{Reason: fmt.Sprintf("the command ended with exit code %d", e.Code), ExitCode: &e.Code, Tail: tail}
	if e.Signal != 0 {
		code := 128 + int(e.Signal)
		f.Reason, f.ExitCode = fmt.Sprintf("the command was ended by signal %d (%v)", int(e.Signal), e.Signal), &code
	}
	return f
}

func notStarted(err error) *Failure {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err // without the server's own path
	}
	return &Failure{Reason: fmt.Sprintf("the command cannot be started: %v", err), Err: err}
}

// Transient reports whether a step failed because this machine was short of
// descriptors, processes or memory. It may have them again in a moment.
func Transient(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOMEM)
}
