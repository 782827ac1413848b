package runner

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcast/buildcast/internal/runner/sandbox"
)

const (
	// supervisorName is the argv[0] that makes this program a supervisor.
	supervisorName = "buildcast-command"

	controlFD = 3
	reportFD  = 4
)

// A supervisor is this program, started again. init takes over before main, in
// every program that contains this package, so that it can become nothing else.
func init() {
	if os.Args[0] == supervisorName && len(os.Args) > 2 {
		supervise(os.Args[1], os.Args[2:])
	}
}

// supervise runs the program and ends the process. It handles signals instead of
// ignoring them: the program would inherit that.
func supervise(task string, argv []string) {
	runtime.LockOSThread() // the kernel kills the program when the thread that started it ends
	signal.Notify(make(chan os.Signal, 1))
	closeOnExec()
	out, code := os.NewFile(reportFD, "report"), 0
	r, err := runProgram(task, argv, out)
	if err != nil {
		r.Errno, _ = errors.AsType[syscall.Errno](err)
		r.Errno = cmp.Or(r.Errno, syscall.EINVAL)
	}
	if err := json.NewEncoder(out).Encode(&r); err != nil {
		code = 1
	}
	syscall.Exit(code) // not os.Exit: no exit hooks of the server may run here
}

// closeOnExec keeps all descriptors from the program, unless it is given them: the
// server may have inherited some, such as a file with keys (SECURITY.md).
func closeOnExec() {
	if unix.CloseRange(controlFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) != nil { // Linux before 5.11
		syscall.CloseOnExec(controlFD)
		syscall.CloseOnExec(reportFD)
	}
}

func runProgram(task string, argv []string, out io.Writer) (r report, err error) {
	var j job
	if err := json.Unmarshal([]byte(task), &j); err != nil {
		return r, err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return r, err
	}
	if err := sandbox.SetLimits(j.Rlimits); err != nil {
		return r, err
	}
	files := []uintptr{0, 1, 2, controlFD: ^uintptr(0), reportFD: ^uintptr(0)} // these two are not passed on
	for i := range j.Pass {
		files = append(files, uintptr(sandbox.FirstFD+i))
	}
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{ //nolint:gosec // running the plan's commands is what it is for
		Env: os.Environ(), Files: files,
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return r, err
	}
	for i := range j.Pass {
		_ = syscall.Close(sandbox.FirstFD + i) // the program's ends alone remain
	}
	_, _ = out.Write([]byte{started}) // an error: the server has died, which obey notices
	g := &group{pid: pid, sudden: j.Sudden}
	go g.obey(os.NewFile(controlFD, "control"))
	over := g.watch(&watcher{limits: j.Limits, dirs: j.Dirs})
	r.exit = exitOf(g.wait())
	endDescendants()
	r.Limit = over()
	r.Result = used()
	return r, nil
}

// used returns what all processes used that this one, and those below it, have waited
// for.
func used() (u Result) {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_CHILDREN, &r) == nil {
		u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
		u.MaxRSS = r.Maxrss << 10
	}
	return u
}

// group is the shell's process group.
type group struct {
	pid    int
	sudden bool

	mu   sync.Mutex
	gone bool // the shell is reaped: another process may have its pid
}

// obey waits for the server. A byte asks for an orderly stop; the end of the pipe
// means that the server has died.
func (g *group) obey(control *os.File) {
	if n, _ := control.Read(make([]byte, 1)); n == 1 {
		if !g.sudden {
			g.signal(syscall.SIGTERM)
		}
		<-time.After(killAfter)
	}
	g.signal(syscall.SIGKILL)
}

// watch kills the group when it exceeds a limit. The returned function ends the watch,
// and returns that limit.
func (g *group) watch(w *watcher) (over func() string) {
	if w.limits.Memory <= 0 && w.limits.Processes <= 0 && w.limits.Disk <= 0 {
		return func() string { return "" }
	}
	done, exceeded := make(chan struct{}), make(chan string, 1)
	go func() {
		name := w.watch(done)
		if name != "" {
			g.signal(syscall.SIGKILL)
		}
		exceeded <- name
	}()
	return func() string {
		close(done)
		return <-exceeded
	}
}

func (g *group) signal(s syscall.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.gone {
		_ = syscall.Kill(-g.pid, s) // an error: no process is left in the group
	}
}

// wait reaps every process that ends, until the shell has ended.
func (g *group) wait() syscall.WaitStatus {
	for {
		// The shell stays a zombie, which keeps its pid, until gone can be set.
		_ = unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		g.mu.Lock()
		var ws syscall.WaitStatus
		pid, _ := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		g.gone = pid == g.pid
		g.mu.Unlock()
		if g.gone {
			return ws
		}
	}
}

// endDescendants kills every process that the command left behind. It kills only
// children of this process: nobody else reaps them, so a pid cannot be reused in
// between. The children of a killed process become children of this one, and are
// killed next.
func endDescendants() {
	for deadline := time.Now().Add(goneWithin); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if errors.Is(err, syscall.ECHILD) {
				return
			}
			if pid == 0 {
				break
			}
		}
		for _, pid := range children() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// children returns the processes whose parent is this one.
func children() (pids []int) {
	proc, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	self := strconv.Itoa(os.Getpid())
	for _, d := range proc {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		stat, _ := os.ReadFile("/proc/" + d.Name() + "/stat")
		_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == self {
			pids = append(pids, pid)
		}
	}
	return pids
}
