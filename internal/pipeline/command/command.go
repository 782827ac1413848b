// Package command runs one shell command of a build: in a process group of its
// own, with its output read as bounded lines, and gone as a whole when it ends.
//
// Nothing of a command outlives it. When its shell exits, or is stopped, the
// rest of its process group is killed: a build that is taken up again does not
// repeat completed work, so it must not rest on what completed work left
// running. What moved to another session is found by [KillMarked].
package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/buildcast/buildcast"
)

const (
	// killAfter is what a stopped command gets between SIGTERM and SIGKILL. A
	// cancelled build must be gone within a second.
	killAfter = 500 * time.Millisecond
	// pipeGrace bounds the wait for the rest of the output where a process that
	// left the group holds the pipe open.
	pipeGrace = 250 * time.Millisecond
)

// Command is a shell command.
type Command struct {
	Script string // for /bin/sh -c
	Dir    string
	Env    []string // all of the environment, as KEY=value
	// Timeout bounds the run; zero means buildcast.DefaultTimeout. TimeoutOf
	// says in an error which field of the plan sets it.
	Timeout   time.Duration
	TimeoutOf string
	// Output takes lines as they come, see [Output]. It must not block.
	Output func(lines []string)
}

// Failure is a command that did not end well.
type Failure struct {
	Reason string // what is wrong and, where there is one, the fix
	// ExitCode is the shell's, 128+n after signal n; nil where the command was
	// stopped by its timeout or could not be started.
	ExitCode *int
	Tail     string // the last output
}

func (f *Failure) Error() string { return f.Reason }

// Run runs the command to its end. It gives nil, a *Failure, or the cause of
// ctx's end: a command that was stopped has not failed, whatever its exit code.
func (c Command) Run(ctx context.Context) error {
	// The kernel sends the parent-death signal when the thread that started the
	// process ends, not the whole program. This thread stays until the process is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	timeout := c.Timeout
	if timeout <= 0 {
		timeout = buildcast.DefaultTimeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	out := newOutput(c.Output)
	stopped, err := c.run(limited, out)
	switch {
	case err == nil && !stopped:
		return nil // even where ctx ended just now: what is done is not done again
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case stopped:
		return &Failure{
			Reason: fmt.Sprintf("the command ran longer than %v and was stopped: set a longer %s, %v at most", timeout, c.TimeoutOf, buildcast.MaxTimeout),
			Tail:   out.tail(),
		}
	}
	return failure(err, out.tail())
}

// run starts the command and waits until it and its group are gone. stopped
// says that limited's end was what ended it.
func (c Command) run(limited context.Context, out *Output) (stopped bool, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return false, err
	}
	defer r.Close()
	// Not bound to the context: it would kill the shell alone, and leave its children.
	cmd := exec.CommandContext(context.WithoutCancel(limited), "/bin/sh", "-c", c.Script) //nolint:gosec // running the plan's commands is what it is for
	cmd.Dir, cmd.Env = c.Dir, c.Env
	cmd.Stdout, cmd.Stderr = w, w // one pipe, so that the order of the lines is kept
	cmd.SysProcAttr = processAttr()
	err = cmd.Start()
	w.Close()
	if err != nil {
		return false, err
	}

	var parts sync.WaitGroup
	parts.Go(func() { out.readFrom(r) })
	exited := make(chan struct{})
	var stopper sync.WaitGroup
	stopper.Go(func() { stopped = stopGroup(limited, cmd.Process.Pid, exited) })

	reap := awaitExit(cmd)
	close(exited)
	stopper.Wait()
	signalGroup(cmd.Process.Pid, syscall.SIGKILL) // what the shell left running
	err = reap()
	_ = r.SetReadDeadline(time.Now().Add(pipeGrace))
	parts.Wait()
	out.Close()
	return stopped, err
}

// stopGroup ends the group when ctx ends before the command has exited.
func stopGroup(ctx context.Context, pid int, exited <-chan struct{}) bool {
	select {
	case <-exited:
		return false
	case <-ctx.Done():
	}
	signalGroup(pid, syscall.SIGTERM)
	patience := time.NewTimer(killAfter)
	defer patience.Stop()
	select {
	case <-exited:
	case <-patience.C:
		signalGroup(pid, syscall.SIGKILL)
	}
	return true
}

// signalGroup gives no error: a group without processes is what it is for.
func signalGroup(pid int, s syscall.Signal) { _ = syscall.Kill(-pid, s) }

func failure(err error, tail string) *Failure {
	f := &Failure{Tail: tail}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err // without the server's own path
		}
		f.Reason = fmt.Sprintf("the command cannot be started: %v", err)
		return f
	}
	code := exit.ExitCode()
	f.Reason = fmt.Sprintf("the command ended with exit code %d", code)
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		code = 128 + int(ws.Signal())
		f.Reason = fmt.Sprintf("the command was ended by signal %d (%v)", int(ws.Signal()), ws.Signal())
	}
	f.ExitCode = &code
	return f
}
