package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcast/buildcast/internal/runner/sandbox"
)

// box is the sandbox that all commands of a runner get.
type box struct {
	bwrap, program string
	filter         []byte
	binds          []sandbox.Bind
	hidden         []string
	limits         Limits
}

// newBox finds what a sandbox needs. It does not try it.
func newBox(cfg Config) (*box, error) {
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		return nil, errors.New("the program bwrap is not installed: install the package bubblewrap (apt-get install bubblewrap)")
	}
	if err := unprivileged(bwrap); err != nil {
		return nil, err
	}
	b := &box{bwrap: bwrap, limits: cfg.Limits}
	if b.filter, err = sandbox.Filter(runtime.GOARCH); err != nil {
		return nil, err
	}
	if b.program, err = os.Executable(); err != nil {
		return nil, err
	}
	var hidden []string
	for _, dir := range cfg.Hidden {
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, err
		}
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			dir = real
		}
		hidden = append(hidden, dir)
	}
	b.binds, b.hidden = sandbox.Binds(os.Getenv("PATH"), cfg.Read, hidden)
	return b, nil
}

// unprivileged refuses a bwrap that gets rights from its file: commands could then
// reach a program with rights that the server itself does not have (CVE-2026-41163).
func unprivileged(bwrap string) error {
	info, err := os.Stat(bwrap)
	if err != nil {
		return err
	}
	_, err = unix.Getxattr(bwrap, "security.capability", nil)
	if info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 || err == nil {
		return fmt.Errorf("%s is setuid, or has capabilities: remove them (chmod u-s,g-s %s; setcap -r %s)", bwrap, bwrap, bwrap)
	}
	return nil
}

// boxed is what the server holds of one command's sandbox.
type boxed struct {
	files  []*os.File // for bwrap and the first process, in the order of sandbox.FirstFD
	stop   *os.File   // a byte asks the command to end
	status *os.File   // bwrap's
	report *os.File   // the first process's
}

// open makes the descriptors of one command's sandbox.
func (b *box) open(spec *Spec) (x *boxed, err error) {
	if spec.Home == "" || spec.Temp == "" {
		return nil, errors.New("a command in a sandbox needs a home and a temporary directory")
	}
	x = &boxed{}
	defer func() {
		if err != nil {
			x.closeFiles()
			x.close()
		}
	}()
	layout := sandbox.Layout{
		Dir: spec.Dir, Home: spec.Home, Temp: spec.Temp, Program: b.program, Binds: b.binds, Hidden: b.hidden,
		Env: append(spec.Env[:len(spec.Env):len(spec.Env)], "HOME="+sandbox.Home, "TMPDIR="+sandbox.Temp, envWorkspace+"="+sandbox.Workspace),
	}
	in := sandbox.Inner{Script: spec.Script, Limits: b.limits.rlimits(true)}
	for _, bridge := range spec.Bridges {
		layout.Sockets = append(layout.Sockets, bridge.Socket)
		in.Ports = append(in.Ports, bridge.Port)
	}
	args, err := sandbox.Arguments(layout)
	if err != nil {
		return nil, err
	}
	inner, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		x.give(args), x.give(b.filter), x.hear(&x.status),
		x.give([]byte(sandbox.Passwd)), x.give([]byte(sandbox.Group)), x.give([]byte(sandbox.Hosts)),
		x.give(inner), x.hear(&x.report), x.tell(&x.stop))
	return x, err
}

// give adds a file with the content.
func (x *boxed) give(content []byte) error {
	fd, err := unix.MemfdCreate("buildcast", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "memfd")
	x.files = append(x.files, f)
	if _, err := f.Write(content); err != nil {
		return err
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// hear adds the writing end of a pipe, and sets the reading end.
func (x *boxed) hear(end **os.File) error {
	r, w, err := os.Pipe()
	if err == nil {
		*end, x.files = r, append(x.files, w)
	}
	return err
}

// tell adds the reading end of a pipe, and sets the writing end.
func (x *boxed) tell(end **os.File) error {
	r, w, err := os.Pipe()
	if err == nil {
		*end, x.files = w, append(x.files, r)
	}
	return err
}

func (x *boxed) closeFiles() {
	for _, f := range x.files {
		f.Close()
	}
}

func (x *boxed) close() {
	for _, f := range []*os.File{x.stop, x.status, x.report} {
		if f != nil {
			f.Close()
		}
	}
}

// verdict returns how the command ended. outside is how bwrap ended.
func (x *boxed) verdict(outside exit) (exit, error) {
	var r sandbox.Report
	if b := readRest(x.report); json.Unmarshal(b, &r) == nil {
		if r.Error != "" {
			return exit{}, errors.New(r.Error)
		}
		return exit{Code: r.Code, Signal: r.Signal}, nil
	}
	began := bytes.Contains(readRest(x.status), []byte(`"exit-code"`))
	switch {
	case outside.Signal != 0: // it was stopped
		return outside, nil
	case began && outside.Code > 128: // the first process was killed
		return exit{Signal: syscall.Signal(outside.Code - 128)}, nil
	}
	return exit{}, errSandbox
}

// readRest returns what was written to the pipe. Its writers have ended.
func readRest(r *os.File) []byte {
	_ = r.SetReadDeadline(time.Now().Add(pipeGrace))
	b, _ := io.ReadAll(io.LimitReader(r, 16<<10))
	return b
}

// rlimits returns the limits that the kernel holds for each process. alone says that
// the command's user has no other processes in its user namespace.
func (l Limits) rlimits(alone bool) (all []sandbox.Rlimit) {
	if l == (Limits{}) {
		return nil
	}
	all = append(all, sandbox.Rlimit{Resource: unix.RLIMIT_CORE}, sandbox.Rlimit{Resource: unix.RLIMIT_NOFILE, Value: openFiles})
	if l.FileSize > 0 {
		all = append(all, sandbox.Rlimit{Resource: unix.RLIMIT_FSIZE, Value: uint64(l.FileSize)})
	}
	if l.CPU > 0 {
		all = append(all, sandbox.Rlimit{Resource: unix.RLIMIT_CPU, Value: uint64(math.Ceil(l.CPU.Seconds()))})
	}
	if l.Processes > 0 && alone { // somewhat more, so that the watcher comes first and says why
		all = append(all, sandbox.Rlimit{Resource: unix.RLIMIT_NPROC, Value: uint64(l.Processes + l.Processes/4 + 64)})
	}
	return all
}

// marks returns the entries that [KillMarked] finds the processes by that are outside
// the sandbox. The others may be secret, and only the command needs them.
func (s *Spec) marks() (env []string) {
	for _, e := range s.Env {
		if strings.HasPrefix(e, "BUILDCAST_") {
			env = append(env, e)
		}
	}
	return append(env, envWorkspace+"="+s.Dir)
}
