package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Inner is what the first process of a sandbox does.
type Inner struct {
	Script string
	Limits []Rlimit
	Ports  []int // of the bridges
}

// Rlimit is a limit of the kernel for each process.
type Rlimit struct {
	Resource int
	Value    uint64
}

// Report is how the command ended. The zero value is success.
type Report struct {
	Code   int            `json:"code,omitempty"`
	Signal syscall.Signal `json:"signal,omitempty"`
	Error  string         `json:"error,omitempty"` // why the command was not started
}

// maxInner bounds the encoded Inner: a script may have 64 KiB.
const maxInner = 1 << 20

// init takes over before main, in every program that contains this package. The name
// is a path that exists only inside.
func init() {
	if os.Args[0] == InnerPath && len(os.Args) == 1 {
		inner()
	}
}

// inner runs the command and ends the process. The command is hostile, and has the
// same user: so its memory and descriptors are closed to other processes.
func inner() {
	runtime.LockOSThread() // the kernel kills the shell when the thread that started it ends
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	r := runInner()
	out := os.NewFile(reportFD, "report")
	_ = json.NewEncoder(out).Encode(&r) // an error: nobody waits for it
	code := r.Code
	if r.Signal != 0 {
		code = 128 + int(r.Signal)
	}
	if r.Error != "" {
		code = 126
	}
	syscall.Exit(code)
}

func runInner() (r Report) {
	var in Inner
	if err := json.NewDecoder(io.LimitReader(os.NewFile(innerFD, "inner"), maxInner)).Decode(&in); err != nil {
		return Report{Error: "the sandbox did not get its command: " + err.Error()}
	}
	for i, port := range in.Ports {
		if err := bridge(port, socketPath(i)); err != nil {
			return Report{Error: "a service of the sandbox cannot listen: " + err.Error()}
		}
	}
	pid, err := startShell(in)
	if err != nil {
		return Report{Error: err.Error()}
	}
	go func() {
		if n, _ := os.NewFile(stopFD, "stop").Read(make([]byte, 1)); n == 1 {
			_ = syscall.Kill(-pid, syscall.SIGTERM)
		}
	}()
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(pid, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return Report{Error: err.Error()}
		case got == pid && ws.Signaled():
			return Report{Signal: ws.Signal()}
		case got == pid && ws.Exited():
			return Report{Code: ws.ExitStatus()}
		}
	}
}

// startShell sets the limits and starts the shell, which inherits them. This process
// has them too: it opens and starts little.
func startShell(in Inner) (pid int, err error) {
	if err := SetLimits(in.Limits); err != nil {
		return 0, err
	}
	return syscall.ForkExec("/bin/sh", []string{"/bin/sh", "-c", in.Script}, &syscall.ProcAttr{ //nolint:gosec // running the plan's commands is what it is for
		Env: os.Environ(), Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
}

// SetLimits sets limits of this process for good. It keeps those that are lower
// already.
func SetLimits(limits []Rlimit) error {
	for _, l := range limits {
		var old syscall.Rlimit
		if err := syscall.Getrlimit(l.Resource, &old); err != nil {
			return err
		}
		n := min(l.Value, old.Max)
		if err := syscall.Setrlimit(l.Resource, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	return nil
}
