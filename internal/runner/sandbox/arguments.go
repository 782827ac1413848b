package sandbox

import (
	"fmt"
	"strings"
)

// The descriptors that bwrap gets, from FirstFD on, in this order. bwrap reads the
// first ones; the last three are the first process's own.
const (
	FirstFD = 5

	argsFD    = FirstFD + iota - 1 // the arguments, which no process list shows
	seccompFD                      // the filter
	statusFD                       // what bwrap reports
	passwdFD
	groupFD
	hostsFD
	innerFD  // what the first process has to do
	reportFD // how the command ended
	stopFD   // a byte asks the command to end
)

// Passwd, Group and Hosts are files of the sandbox.
const (
	Passwd = "root:x:0:0:root:/:/usr/sbin/nologin\nbuild:x:1000:1000:build:" + Home + ":/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
	Group  = "root:x:0:\nbuild:x:1000:\nnogroup:x:65534:\n"
	Hosts  = "127.0.0.1 localhost build\n::1 localhost\n"
)

// shmSize bounds /dev/shm, in bytes.
const shmSize = "67108864"

// Layout is what one command sees. All paths are the host's.
type Layout struct {
	Dir, Home, Temp string
	Program         string // this program
	Binds           []Bind // read-only
	Hidden          []string
	Sockets         []string // of the bridges
	Env             []string // all of it, as KEY=value
}

// Bind shows the host's Source at Target. A Link is a symbolic link to Source.
type Bind struct {
	Source, Target string
	Link           bool
}

// Arguments returns bwrap's arguments, ended by NUL, for its --args.
//
// No mount point is below a directory that the command can write to: while bwrap makes
// mount points it follows symbolic links, which an earlier command may have planted
// there (CVE-2026-87766). So all of them are in bwrap's own root, and the writable
// directories are mounted last.
func Arguments(l Layout) ([]byte, error) {
	args := []string{
		"--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try", "--unshare-net", "--disable-userns",
		"--uid", "1000", "--gid", "1000", "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--hostname", "build",
		"--json-status-fd", fmt.Sprint(statusFD), "--seccomp", fmt.Sprint(seccompFD),
	}
	for _, b := range l.Binds {
		how := "--ro-bind"
		if b.Link {
			how = "--symlink"
		}
		args = append(args, how, b.Source, b.Target)
	}
	for _, dir := range l.Hidden {
		args = append(args, "--tmpfs", dir, "--remount-ro", dir)
	}
	args = append(args,
		"--ro-bind-data", fmt.Sprint(passwdFD), "/etc/passwd", "--ro-bind-data", fmt.Sprint(groupFD), "/etc/group", "--ro-bind-data", fmt.Sprint(hostsFD), "/etc/hosts",
		"--proc", "/proc", "--dev", "/dev", "--size", shmSize, "--tmpfs", "/dev/shm",
		"--ro-bind", l.Program, InnerPath,
	)
	for i, s := range l.Sockets {
		args = append(args, "--ro-bind", s, socketPath(i))
	}
	// A tmpfs that can be written to is memory that no process has.
	args = append(args, "--dir", Temp, "--dir", Home, "--dir", Workspace, "--remount-ro", "/dev", "--remount-ro", "/",
		"--bind", l.Temp, Temp, "--bind", l.Home, Home, "--bind", l.Dir, Workspace, "--chdir", Workspace, "--clearenv")
	for _, e := range l.Env {
		if name, value, ok := strings.Cut(e, "="); ok && name != "" {
			args = append(args, "--setenv", name, value)
		}
	}
	for _, a := range args {
		if strings.ContainsRune(a, 0) {
			return nil, fmt.Errorf("a path or variable of the command has a NUL byte")
		}
	}
	return []byte(strings.Join(args, "\x00") + "\x00"), nil
}

// Argv returns bwrap's command line, which process lists show.
func Argv(bwrap string) []string {
	return []string{bwrap, "--args", fmt.Sprint(argsFD), "--", InnerPath}
}

// socketPath is where the i-th bridge's socket is inside.
func socketPath(i int) string { return fmt.Sprintf("%s/%d.sock", own, i) }
