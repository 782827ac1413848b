//go:build linux

package runner

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/buildcast/buildcast/internal/runner/sandbox"
)

// attacker returns a command line that runs an attack inside the sandbox: this test
// binary is there.
func attacker(attack string, args ...string) string {
	return fmt.Sprintf("ATTACK='%s' %s -test.run='^TestAttacker$' -test.v | grep -v -e RUN -e PASS -e ok", strings.Join(append([]string{attack}, args...), " "), sandbox.InnerPath)
}

// TestAttacker is not a test: it attacks from inside a sandbox, and prints what came
// of it.
func TestAttacker(*testing.T) {
	args := strings.Fields(os.Getenv("ATTACK"))
	if len(args) == 0 {
		return
	}
	fmt.Println(args[0]+":", attacks[args[0]](args[1:]))
}

var attacks = map[string]func(args []string) string{
	"io_uring": func([]string) string { return call(425, 8, uintptr(unsafe.Pointer(new([120]byte)))) },
	"tiocsti": func([]string) string {
		return call(unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(new(byte))))
	},
	"vsock":      func([]string) string { return call(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0) },
	"clone3":     func([]string) string { return call(unix.SYS_CLONE3, 0, 0) },
	"unshare":    func([]string) string { return call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER) },
	"clone_user": func([]string) string { return call(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD)) },
	"ptrace":     func([]string) string { return call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(os.Getppid()), 0) },
	"vm_read":    func([]string) string { return call(unix.SYS_PROCESS_VM_READV, uintptr(os.Getppid()), 0, 0) },
	"mount":      func([]string) string { return answer(unix.Mount("none", "/tmp", "tmpfs", 0, "")) },
	"setuid":     func([]string) string { return setuidFiles() },
	"dial": func(args []string) string {
		conn, err := net.DialTimeout(args[0], args[1], 2*time.Second)
		if err != nil {
			return answer(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("x")); err != nil { // what UDP says of its route
			return answer(err)
		}
		return "reached"
	},
	"bridge": func(args []string) string {
		conn, err := net.Dial("tcp", args[0])
		if err != nil {
			return answer(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "question")
		_ = conn.(*net.TCPConn).CloseWrite()
		b, err := io.ReadAll(conn)
		return string(b) + answer(err)
	},
}

func setuidFiles() string {
	if err := os.WriteFile("file", nil, 0o755); err != nil {
		return answer(err)
	}
	var all []string
	for _, err := range []error{
		unix.Chmod("file", 0o4755),
		unix.Fchmodat(unix.AT_FDCWD, "file", 0o2755, 0),
		func() error {
			f, err := os.Open("file")
			if err != nil {
				return err
			}
			defer f.Close()
			return unix.Fchmod(int(f.Fd()), 0o4755)
		}(),
		func() error {
			fd, err := unix.Open("new", unix.O_CREAT|unix.O_WRONLY, 0o4755)
			unix.Close(fd)
			return err
		}(),
		unix.Mknod("node", unix.S_IFREG|0o4755, 0),
	} {
		all = append(all, answer(err))
	}
	return strings.Join(all, " ")
}

func call(nr uintptr, args ...uintptr) string {
	var a [3]uintptr
	copy(a[:], args)
	pid, _, errno := syscall.RawSyscall(nr, a[0], a[1], a[2])
	if nr == unix.SYS_CLONE && errno == 0 && pid == 0 {
		syscall.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
	}
	if errno == 0 {
		return "done"
	}
	return answer(errno)
}

func answer(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return unix.ErrnoName(errno)
	}
	if err != nil {
		return err.Error()
	}
	return "done"
}
