package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cli/outputs"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

type execCmd struct {
	Command []string `arg:"" passthrough:"" name:"cmd" placeholder:"CMD" help:"The command and its arguments, after --."`
	verb.Connection
	Build   string `placeholder:"ID" help:"Report the command as a task of this build, which stays open. Default: the command gets a build of its own, which ends with it."`
	ID      string `placeholder:"ID" help:"The id of the command's own build. Default: a new one."`
	Project string `placeholder:"NAME" help:"The project of the command's own build."`
	Task    string `placeholder:"NAME" help:"The task's name. Default: the command's name. Arguments are never reported: they may hold secrets."`
}

// Help returns the text below the summary in the verb's help.
func (execCmd) Help() string {
	return `
Examples:

    buildcast exec -- make all
    buildcast exec --build nightly --task "Unit tests" -- go test ./...

It prints the build's id and address on stderr, then runs the command. The
command reads this process's stdin. Its stdout and stderr are passed on byte for
byte, and their lines are reported as build_log events in the order in which they
were written. Signals are passed to the command.

The exit code is the command's: 128+N if signal N ended it, 127 if it is not
found, 126 if it cannot be run.

Reporting never fails the command and never makes it wait: while no server
answers, events wait in memory. Events that could not be sent a few seconds after
the command's end are dropped, with one line on stderr.`
}

// Exit codes of commands that could not be started or that a signal ended, as in shells.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128
)

// pipeGrace is how long output is awaited after the command's end: a process that
// it left in the background may hold the pipes open.
const pipeGrace = 2 * time.Second

func (c *execCmd) Run(s *verb.Session) error {
	if len(c.Command) > 0 && c.Command[0] == "--" {
		c.Command = c.Command[1:]
	}
	if err := c.check(); err != nil {
		return &verb.ExitError{Code: verb.ExitUsage, Err: err}
	}
	own, id := c.Build == "", c.Build
	if own {
		if id = c.ID; id == "" {
			id = ulid.Make().String()
		}
	}
	to := newSender(&c.Connection, id, c.Project, func(server string) {
		s.Note("buildcast: build %s: %s", id, verb.PageURL(server, id))
	})
	r := newReporter(s.Context, c.taskName(), own, to.append)
	r.started()
	to.wait()
	code := c.run(s, r)
	r.finish(s, to.found.Load())
	if code == 0 {
		return nil
	}
	return &verb.ExitError{Code: code}
}

func (c *execCmd) check() error {
	switch {
	case len(c.Command) == 0:
		return errors.New("exec needs a command: buildcast exec -- make all")
	case c.Build != "" && (c.ID != "" || c.Project != ""):
		return errors.New("--build names a build that others started: leave out --id and --project")
	}
	for _, id := range []string{c.Build, c.ID} {
		if id != "" {
			if err := buildcast.ValidateBuildID(id); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *execCmd) taskName() string {
	if c.Task != "" {
		return c.Task
	}
	return filepath.Base(c.Command[0])
}

// run runs the command and returns the exit code to leave with.
func (c *execCmd) run(s *verb.Session, r *reporter) int {
	cmd := exec.CommandContext(s.Context, c.Command[0], c.Command[1:]...) //nolint:gosec // running what the user names is what the verb is for
	out, err := outputs.Open(s.Stdout, s.Stderr, r.record)
	if err != nil {
		s.Note("buildcast: exec: %v", err)
		return exitNotExecutable
	}
	cmd.Stdin = s.Stdin
	cmd.Stdout, cmd.Stderr = out.Ends()

	signals := make(chan os.Signal, 16)
	signal.Notify(signals, passedOn...)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		out.Close()
		code, why := notStarted(err)
		s.Note("buildcast: exec: %s: %s", c.Command[0], why)
		r.ended(code, why)
		return code
	}
	out.Start()
	err = passSignals(cmd, signals)
	out.Wait(pipeGrace)
	code, why := outcome(cmd.ProcessState, err)
	r.ended(code, why)
	return code
}

// passedOn are the signals that are passed on to the command. SIGPIPE is caught
// only so that a closed stdout does not end the reporting.
var passedOn = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE,
}

// passSignals waits for the command to end. Until then it passes signals on to it.
func passSignals(cmd *exec.Cmd, signals <-chan os.Signal) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			if sig != syscall.SIGPIPE && !sentByTerminal(sig) {
				_ = cmd.Process.Signal(sig) // it may have ended just now
			}
		case err := <-ended:
			return err
		}
	}
}

// sentByTerminal reports whether the terminal has sent the signal to the command
// too: its keys signal all processes in its foreground. Many programs take a second
// SIGINT as an order to end at once, so it must not be passed on.
func sentByTerminal(sig os.Signal) bool {
	if sig != syscall.SIGINT && sig != syscall.SIGQUIT {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

func notStarted(err error) (code int, why string) {
	switch {
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		return exitNotFound, "not found"
	case errors.Is(err, fs.ErrPermission):
		return exitNotExecutable, "permission denied"
	}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return exitNotExecutable, err.Error()
}

// outcome returns the exit code as a shell does, and why it is not 0.
func outcome(state *os.ProcessState, err error) (code int, why string) {
	if state == nil {
		return verb.ExitFailed, err.Error()
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return exitSignal + int(ws.Signal()), fmt.Sprintf("the command was ended by signal %d (%v)", int(ws.Signal()), ws.Signal())
	}
	if code = state.ExitCode(); code != 0 {
		return code, fmt.Sprintf("the command ended with exit code %d", code)
	}
	return 0, ""
}
