// Package command is the planner that runs a program of the server's operator: it
// reads the request as JSON from its standard input and writes the answer as JSON to
// its standard output. Lines on its standard error are shown as output of the build.
//
// The program runs outside any sandbox, because the operator chose it, with the
// supervisor that all commands have: nothing that it starts outlives it or the server.
// Of the server's environment it has PATH, HOME, TMPDIR and the variables in passed.
package command

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/buildcast/buildcast/internal/planner"
	"github.com/buildcast/buildcast/internal/runner"
)

// Config configures the planner.
type Config struct {
	Command string // for /bin/sh -c
	// Dir is for the files of requests that are under way. It is made if it is absent.
	Dir     string
	Timeout time.Duration // of one answer; 0: buildcast.DefaultTimeout
}

// Planner asks the command. It may be used by many goroutines.
type Planner struct{ config Config }

var _ planner.Planner = (*Planner)(nil)

// New returns a planner.
func New(cfg Config) *Planner { return &Planner{cfg} }

// The names of the files of a request, which are the command's standard input and
// output.
const (
	requestFile = "request.json"
	answerFile  = "answer.json"
)

// fileBlocks bounds the files that the command writes, its answer among them, in the
// blocks of 512 bytes that ulimit counts.
const fileBlocks = planner.MaxAnswer/512 + 1

// passed are the variables that the command gets of the server's environment.
var passed = []string{"USER", "LOGNAME", "LANG", "TZ"}

// Ask runs the command.
func (p *Planner) Ask(ctx context.Context, req planner.Request, progress func(planner.Progress)) (answer planner.Answer, err error) {
	if err := os.MkdirAll(p.config.Dir, 0o700); err != nil {
		return answer, cannot("make room for the request", err)
	}
	dir, err := os.MkdirTemp(p.config.Dir, "request-")
	if err != nil {
		return answer, cannot("make room for the request", err)
	}
	defer os.RemoveAll(dir)
	request, err := json.Marshal(req)
	if err != nil {
		return answer, cannot("encode the request", err)
	}
	if err := os.WriteFile(filepath.Join(dir, requestFile), append(request, '\n'), 0o600); err != nil {
		return answer, cannot("write the request", err)
	}
	c := runner.Spec{
		Script: script(dir, p.config.Command),
		Home:   os.Getenv("HOME"), Temp: os.TempDir(),
		Env:     environment(),
		Timeout: p.config.Timeout, TimeoutOf: "--planner-timeout of the server",
		Output: func(lines []string) { progress(planner.Progress{Lines: lines}) },
	}
	if c.Dir, err = os.Getwd(); err != nil {
		return answer, cannot("find the working directory", err)
	}
	if _, err := runner.Direct().Run(ctx, c); err != nil {
		return answer, failed(ctx, err)
	}
	answer.Body, err = readAnswer(filepath.Join(dir, answerFile))
	return answer, err
}

// script returns the command with its input and output.
func script(dir, cmd string) string {
	return fmt.Sprintf("ulimit -f %d\n{ %s\n} <%s >%s", fileBlocks, cmd, quote(filepath.Join(dir, requestFile)), quote(filepath.Join(dir, answerFile)))
}

// quote quotes the text for the shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func environment() []string {
	env := []string{"PATH=" + cmp.Or(os.Getenv("PATH"), "/usr/local/bin:/usr/bin:/bin")}
	for _, name := range passed {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// readAnswer returns the answer, which must be one value of JSON.
func readAnswer(path string) (json.RawMessage, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, cannot("read the answer", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, planner.MaxAnswer+1))
	switch {
	case err != nil:
		return nil, cannot("read the answer", err)
	case len(b) > planner.MaxAnswer:
		return nil, &planner.Error{Message: fmt.Sprintf("the planner command's answer has more than %d bytes: let it answer with less", planner.MaxAnswer)}
	case len(bytes.TrimSpace(b)) == 0:
		return nil, &planner.Error{Message: "the planner command answered nothing: let it write the answer as JSON to its standard output"}
	case !json.Valid(b):
		return nil, &planner.Error{Message: fmt.Sprintf("the planner command's answer is not JSON: let it write only the answer to its standard output, and everything else to its standard error; it begins with %.80q", b)}
	}
	return b, nil
}

// failed explains why the command failed.
func failed(ctx context.Context, err error) error {
	f, ok := errors.AsType[*runner.Failure](err)
	if !ok || ctx.Err() != nil {
		return err
	}
	reason := strings.Replace(f.Reason, "the command", "the planner command", 1)
	if f.ExitCode != nil && *f.ExitCode == 128+int(syscall.SIGXFSZ) {
		reason += fmt.Sprintf(": it wrote a file of more than %d bytes", planner.MaxAnswer)
	}
	if line := lastLine(f.Tail); line != "" {
		reason += "; its last line of output is: " + line
	}
	return &planner.Error{Message: reason, Err: f.Err}
}

func lastLine(text string) string {
	return text[strings.LastIndexByte(text, '\n')+1:]
}

func cannot(what string, err error) error {
	return &planner.Error{Message: "the server cannot " + what + " for the planner command; its log says why", Err: err}
}
