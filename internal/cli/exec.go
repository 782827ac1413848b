package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

type execCmd struct {
	Command []string `arg:"" passthrough:"" name:"cmd" placeholder:"CMD" help:"The command and its arguments, after --."`
	verb.Connection
	Build   string `placeholder:"ID" help:"Report the command as a task of this build, which stays open. Default: a build of its own, which ends with the command."`
	ID      string `placeholder:"ID" help:"The id of the command's own build. Default: a new one."`
	Project string `placeholder:"NAME" help:"The project of the command's own build."`
	Task    string `placeholder:"NAME" help:"The task's name. Default: the command's, without its arguments, which may hold secrets."`
}

// Help is shown below the summary.
func (execCmd) Help() string {
	return `
Examples:

    buildcast exec -- make all
    buildcast exec --build nightly --task "Unit tests" -- go test ./...

The command gets this process's stdin, and its stdout and stderr are passed on
byte for byte as they come; signals are passed to it. The exit code is the
command's: 128+N where signal N ended it, 127 where it is not found, 126 where
it cannot be run. Its lines of output are reported as build_log events.

Reporting never fails or delays the command: while the server is away events
wait in memory, and what could not be sent a few seconds after the command's
end is given up, with one line on stderr.`
}

// Exit codes of what could not be started, as in shells.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128
)

// pipeGrace is how long output is awaited after the command's end: a child that
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
	var found atomic.Bool
	found.Store(c.Server != "") // one that is named is worth waiting for
	r := newReporter(s.Context, c.taskName(), own, c.sender(id, &found))
	code := c.run(s, r)
	r.finish(s, found.Load())
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
		return errors.New("--build is a build that is there already: leave out --id and --project")
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

// run runs the command and gives the exit code to leave with.
func (c *execCmd) run(s *verb.Session, r *reporter) int {
	cmd := exec.CommandContext(s.Context, c.Command[0], c.Command[1:]...) //nolint:gosec // running what the user names is what the verb is for
	cmd.Stdin = s.Stdin
	cmd.Stdout = r.tee("stdout", s.Stdout)
	cmd.Stderr = r.tee("stderr", s.Stderr)
	cmd.WaitDelay = pipeGrace

	signals := make(chan os.Signal, 16)
	signal.Notify(signals, passedOn...)
	defer signal.Stop(signals)
	r.started()
	if err := cmd.Start(); err != nil {
		code, why := notStarted(err)
		fmt.Fprintf(s.Stderr, "buildcast: exec: %s: %s\n", c.Command[0], why)
		r.ended(code, why)
		return code
	}
	err := passSignals(cmd, signals)
	code, why := outcome(cmd.ProcessState, err)
	r.ended(code, why)
	return code
}

// passedOn are the signals that the command gets too. SIGPIPE is not among
// them, but taken: a closed stdout must not end the reporting.
var passedOn = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE,
}

// passSignals waits for the command and passes signals on to it meanwhile.
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

// sentByTerminal reports whether the command got the signal already: the
// terminal's keys signal all processes in its foreground, and a second Ctrl-C
// means to many programs that they should end at once.
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

// outcome is the code as a shell gives it, and why it is not 0.
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

// splitLines gives the whole lines of text, and the rest that has no end yet.
func splitLines(text string) (lines []string, rest string) {
	for {
		line, after, ok := strings.Cut(text, "\n")
		if !ok {
			return lines, text
		}
		lines = append(lines, strings.TrimSuffix(line, "\r"))
		text = after
	}
}
