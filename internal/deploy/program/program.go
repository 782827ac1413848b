// Package program is the deploy target command: it hands a build's output to a program
// of the server's operator, such as rsync, and takes the address from its last line.
//
// The program runs outside any sandbox, with the operator's rights, so it gets nothing
// that a build could have prepared for it: not the output itself but a copy, which has
// only regular files and directories, and no variable of the server's environment that
// the operator did not name.
package program

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deploy"
	"github.com/buildcast/buildcast/internal/mask"
	"github.com/buildcast/buildcast/internal/runner"
)

// DefaultTimeout bounds a deploy, if nothing else is configured.
const DefaultTimeout = 15 * time.Minute

const (
	// maxURL is the longest address that is taken, in bytes.
	maxURL = 2048
	// maxLastLines is how much of the end of stdout is kept to find the address in it.
	maxLastLines = 16 << 10
)

// envProduction is set for builds that go to production.
const envProduction = "BUILDCAST_PRODUCTION"

// Runner runs a command until all processes that it started have ended. If ctx ends,
// it kills them.
type Runner interface {
	Run(ctx context.Context, spec runner.Spec) (runner.Result, error)
}

// Config is what a Target is made of.
type Config struct {
	Script string // for /bin/sh -c, in an empty directory
	// Dir holds the copies of outputs while they are deployed. What is in it at the first
	// deploy was left by a crash, and is removed.
	Dir string
	// Variables are those that the operator named, by name. Their values are secrets:
	// they are masked in the output.
	Variables map[string]string
	Timeout   time.Duration // default: DefaultTimeout
	Runner    Runner        // without a sandbox
	// Mask hides secrets in what is shown. Default: the values of Variables.
	Mask *mask.Masker
}

// Target runs the program. Its methods may be called from many goroutines.
type Target struct {
	config Config
	clean  func() error // removes once what a crash has left
}

// New makes a target. It touches no files.
func New(c Config) *Target {
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	if c.Mask == nil {
		c.Mask = mask.New(slices.Collect(maps.Values(c.Variables))...)
	}
	return &Target{config: c, clean: sync.OnceValue(func() error { return os.RemoveAll(c.Dir) })}
}

// Deploy copies the output and runs the program on the copy. A repeated deploy runs it
// again: it must be a program that may be repeated, as rsync is. What the program
// prints is passed on as Progress.Output.
func (t *Target) Deploy(ctx context.Context, site deploy.Site, progress func(deploy.Progress)) (deploy.Deployment, error) {
	output, err := deploy.Open(ctx, site.Dir, deploy.Public())
	if err != nil {
		return deploy.Deployment{}, err
	}
	defer output.Close()
	dir, err := t.makeDir()
	if err != nil {
		return deploy.Deployment{}, fmt.Errorf("make a directory for the deploy: %w", err)
	}
	defer os.RemoveAll(dir)
	at := paths{filepath.Join(dir, "output"), filepath.Join(dir, "work"), filepath.Join(dir, "temp"), filepath.Join(dir, "stdout")}
	if err := errors.Join(os.Mkdir(at.work, 0o700), os.Mkdir(at.temp, 0o700)); err != nil {
		return deploy.Deployment{}, fmt.Errorf("make a directory for the deploy: %w", err)
	}
	if err := output.Copy(ctx, deploy.Copy{To: at.output, Doing: "Copying", Done: "Copied"}, progress); err != nil {
		return deploy.Deployment{}, err
	}
	progress(deploy.Progress{Percent: 20, Message: "Running the deploy command"})
	if err := t.run(ctx, site, at, progress); err != nil {
		return deploy.Deployment{}, err
	}
	to, err := t.address(at.stdout)
	return deploy.Deployment{URL: to}, err
}

func (t *Target) run(ctx context.Context, site deploy.Site, at paths, progress func(deploy.Progress)) error {
	_, err := t.config.Runner.Run(ctx, runner.Spec{
		Script: withLastLines(t.config.Script, at.stdout), Env: t.environment(site, at),
		Dir: at.work, Home: cmp.Or(os.Getenv("HOME"), "/"), Temp: at.temp,
		Timeout: t.config.Timeout, TimeoutOf: "--deploy-timeout",
		Output: func(lines []string) { progress(deploy.Progress{Output: lines}) }, Mask: t.config.Mask,
	})
	return err
}

// paths are the parts of one deploy's directory.
type paths struct {
	output string // the copy
	work   string // where the program runs
	temp   string // for its temporary files
	stdout string // the end of what it printed there
}

func (t *Target) makeDir() (string, error) {
	if err := t.clean(); err != nil {
		return "", err
	}
	if err := os.MkdirAll(t.config.Dir, 0o700); err != nil {
		return "", err
	}
	return os.MkdirTemp(t.config.Dir, "")
}

// withLastLines returns a script that runs the other one as it is, and also keeps the
// end of its stdout in a file. The inner braces pass the exit code past the pipe.
func withLastLines(script, file string) string {
	return fmt.Sprintf(`exec 3>&1
code=$( { { /bin/sh -c %s 4>&-; echo $? >&4; } | tee /dev/fd/3 | tail -c %d >%s; } 4>&1 )
exit "${code:-1}"`, quote(script), maxLastLines, quote(file))
}

// quote makes one word of the text for a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func (t *Target) environment(site deploy.Site, at paths) []string {
	env := []string{
		"PATH=" + cmp.Or(os.Getenv("PATH"), "/usr/local/bin:/usr/bin:/bin"),
		"LANG=C.UTF-8",
		"CI=1",
		"BUILDCAST_BUILD_ID=" + site.BuildID,
		"BUILDCAST_BRANCH=" + deploy.Branch(site.BuildID),
		"BUILDCAST_OUTPUT=" + at.output,
	}
	if site.Project != "" {
		env = append(env, "BUILDCAST_PROJECT="+site.Project)
	}
	if site.Production {
		env = append(env, envProduction+"=1")
	}
	for name, value := range t.config.Variables {
		env = append(env, name+"="+value)
	}
	return env
}

// address is the last line of stdout that is not empty.
func (t *Target) address(stdout string) (string, error) {
	b, err := os.ReadFile(stdout)
	if err != nil {
		return "", err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	if last == "" {
		return "", noAddress("it printed nothing on stdout")
	}
	if !isAddress(last) || t.config.Mask.String(last) != last {
		return "", noAddress("its last line is %q", clip(t.config.Mask.String(last)))
	}
	return last, nil
}

func noAddress(format string, args ...any) error {
	return buildcast.Errorf(buildcast.InvalidArgument, "the deploy command did not print where the site is: "+format+
		"; let the last line that it prints on stdout be an http or https URL of at most %d bytes, such as echo https://example.com/", append(args, maxURL)...)
}

// isAddress reports whether the text is a URL that people may be sent to.
func isAddress(text string) bool {
	if len(text) > maxURL || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar }) {
		return false
	}
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil
}

// clip shortens a text for a message.
func clip(text string) string {
	const most = 200
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
