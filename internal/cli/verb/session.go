// Package verb holds what the verbs of the command line have in common: the
// session they run in, exit codes, how they find a server, and how they print.
package verb

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	ExitFailed    = 1
	ExitUsage     = 2
	ExitCancelled = 130 // what a shell returns for a process that Ctrl-C ended
)

// ExitError ends the session with an exit code. A nil Err means that the reason
// is on the terminal already.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// Usage returns an error in the command line itself.
func Usage(format string, args ...any) error {
	return &ExitError{ExitUsage, fmt.Errorf(format, args...)}
}

// Session is one run of the command line. Results go to Stdout and everything
// else to Stderr, so that output can be piped.
type Session struct {
	Context               context.Context
	Stdin, Stdout, Stderr *os.File
}

// Note prints a line that is not part of the result.
func (s *Session) Note(format string, args ...any) { fmt.Fprintf(s.Stderr, format+"\n", args...) }

// Print prints a line of the result.
func (s *Session) Print(format string, args ...any) { fmt.Fprintf(s.Stdout, format+"\n", args...) }

// PrintJSON prints each value as one line.
func (s *Session) PrintJSON(values ...any) error {
	e := json.NewEncoder(s.Stdout)
	e.SetEscapeHTML(false)
	for _, v := range values {
		if err := e.Encode(v); err != nil {
			return err
		}
	}
	return nil
}

// UntilInterrupted returns a context that ends at the first Ctrl-C or SIGTERM.
// The second one kills the process: the handler is removed before the context
// ends, so before any clean-up that could take long begins.
func (s *Session) UntilInterrupted() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(s.Context)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Stop(signals)
		cancel()
	}()
	return ctx, cancel
}
