package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/buildcast/buildcast/internal/runner/sandbox"
)

// The modes of a Config.
const (
	SandboxAuto  = "auto"  // bwrap if it works; else none, if nobody else can reach the server
	SandboxBwrap = "bwrap" // or the server does not start
	SandboxOff   = "off"
)

// The sandboxes that commands may have.
const (
	sandboxNone  = "none"
	sandboxBwrap = "bwrap"
)

// probeTimeout bounds the command that tries the sandbox out. A loaded machine needs
// seconds.
const probeTimeout = time.Minute

// Config configures a Runner.
type Config struct {
	Sandbox string // SandboxAuto, SandboxBwrap or SandboxOff
	// Exposed says that others may start commands: the server listens beyond loopback,
	// or has keys. Then SandboxAuto runs nothing without a sandbox.
	Exposed bool
	Limits  Limits
	// Read are directories that commands may read, besides /usr and what PATH needs.
	Read []string
	// Hidden are the server's own directories: no command may see them.
	Hidden []string
	Dir    string // for the files of the probe; it must exist, and be this process's alone
}

// New returns a runner. It tries the sandbox out with the options that commands get.
// It returns an error if a directory of cfg.Read may not be shown, and for SandboxBwrap if
// the sandbox does not work.
func New(ctx context.Context, cfg Config) (*Runner, error) {
	r := &Runner{limits: cfg.Limits}
	if cfg.Sandbox == SandboxOff {
		return r, nil
	}
	r.strict = true
	if err := checkRead(cfg); err != nil {
		return nil, err
	}
	err := r.enter(ctx, cfg)
	if err == nil {
		return r, nil
	}
	r.box = nil
	r.problem = fmt.Errorf("the sandbox does not work here: %w", err)
	if cfg.Sandbox == SandboxBwrap {
		return nil, r.problem
	}
	r.closed = cfg.Exposed
	return r, nil
}

// checkRead refuses directories that would show commands what they must not see.
func checkRead(cfg Config) error {
	home, _ := os.UserHomeDir()
	for _, dir := range cfg.Read {
		for _, h := range append([]string{home}, cfg.Hidden...) {
			if h, err := filepath.Abs(h); err == nil && (sandbox.Below(h, dir) || sandbox.Below(dir, h) && h != home) {
				return fmt.Errorf("commands may not read %s: it has %s in it, or is a part of that; name a directory with nothing of the server's own", dir, h)
			}
		}
	}
	return nil
}

// Problem returns why there is no sandbox, although one was wanted.
func (r *Runner) Problem() error { return r.problem }

// May returns why commands do not run here; nil if they do. planned is as in Spec.
func (r *Runner) May(planned bool) error {
	switch {
	case r.problem != nil && r.closed:
		return fmt.Errorf("this server runs no commands: others can reach it, and %w; or accept the risk with --sandbox off", r.problem)
	case r.problem != nil && planned && r.strict:
		return fmt.Errorf("what a planner made does not run without a sandbox, and %w; or accept the risk with --sandbox off", r.problem)
	}
	return nil
}

// enter makes the sandbox and runs a command in it.
func (r *Runner) enter(ctx context.Context, cfg Config) (err error) {
	if r.box, err = newBox(cfg); err != nil {
		return err
	}
	dir, err := filepath.Abs(filepath.Join(cfg.Dir, "sandbox-probe"))
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil { // it is there if a server was killed
		return err
	}
	defer os.RemoveAll(dir)
	spec := Spec{
		Script: "true", Dir: filepath.Join(dir, "work"), Home: filepath.Join(dir, "home"), Temp: filepath.Join(dir, "tmp"),
		Env: []string{"PATH=" + os.Getenv("PATH")}, Timeout: probeTimeout, TimeoutOf: "time to try the sandbox",
	}
	for _, d := range []string{spec.Dir, spec.Home, spec.Temp} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	_, err = r.Run(ctx, spec)
	if f, ok := errors.AsType[*Failure](err); ok && f.Err != nil && errors.Is(f.Err, errSandbox) {
		return errors.New(f.cause)
	}
	return err
}
