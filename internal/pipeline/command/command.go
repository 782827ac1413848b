// Package command runs one shell command of a build and reads its output as
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
package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/buildcast/buildcast"
)

const (
	// killAfter is the time between SIGTERM and SIGKILL for a stopped command. A
	// cancelled build must end within a second.
	killAfter = 500 * time.Millisecond
	// pipeGrace bounds the wait for the rest of the output if a process that could
	// not be killed holds the pipe open.
	pipeGrace = 250 * time.Millisecond
)

// Command is a shell command.
type Command struct {
	Script string // for /bin/sh -c
	Dir    string
	Env    []string // all of the environment, as KEY=value
	// Timeout bounds the run; zero means buildcast.DefaultTimeout. TimeoutOf
	// names the plan's field that sets it, for the error.
	Timeout   time.Duration
	TimeoutOf string
	// Output receives the lines, see [Output]. It must not block.
	Output func(lines []string)
}

// Failure describes a command that failed.
type Failure struct {
	Reason string // what is wrong, and the fix if there is one
	// ExitCode is the shell's, 128+n after signal n; nil if the command was
	// stopped by its timeout or could not be started.
	ExitCode *int
	Tail     string // the last output
	Err      error  // why it could not be started; nil if it was
}

func (f *Failure) Error() string { return f.Reason }

func (f *Failure) Unwrap() error { return f.Err }

// Run runs the command to its end. It returns nil, a *Failure, or the cause of
// ctx's end: a command that was stopped has not failed, whatever its exit code.
func (c Command) Run(ctx context.Context) error {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = buildcast.DefaultTimeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	out := newOutput(c.Output)
	end, stopped, err := c.run(limited, out)
	switch {
	case err == nil && end == exit{} && !stopped:
		return nil // even if ctx has ended meanwhile: completed work is not repeated
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case stopped:
		return &Failure{
			Reason: fmt.Sprintf("the command ran longer than %v and was stopped: set a longer %s, %v at most", timeout, c.TimeoutOf, buildcast.MaxTimeout),
			Tail:   out.tail(),
		}
	case err != nil:
		return notStarted(err)
	}
	return end.failure(out.tail())
}

// run starts the command and waits until all its processes have ended. stopped
// reports whether it was stopped because limited ended.
func (c Command) run(limited context.Context, out *Output) (end exit, stopped bool, err error) {
	r, w, err := os.Pipe() // one pipe for both streams, so that the order of the lines is kept
	if err != nil {
		return exit{}, false, err
	}
	defer r.Close()
	shell, err := c.start(limited, w)
	w.Close()
	if err != nil {
		return exit{}, false, err
	}
	var parts sync.WaitGroup
	parts.Go(func() { out.readFrom(r) })
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
	_ = r.SetReadDeadline(time.Now().Add(pipeGrace))
	parts.Wait()
	out.Close()
	return end, stopped, err
}

// exit reports how the shell ended; the zero value is success.
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
