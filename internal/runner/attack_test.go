//go:build linux

package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buildcast/buildcast/internal/runner/sandbox"
)

// Each test is one attack of a command on its server, in the real sandbox.

// attack runs the script in the sandbox and returns its output, and how it ended.
func attack(t *testing.T, script string, change ...func(*Config)) (string, error) {
	t.Helper()
	r := boxedRunner(t, change...)
	s, out := inBox(t, script)
	_, err := r.Run(t.Context(), s)
	return out(), err
}

// refusedWith runs the attacks, and fails unless each was refused with its error.
func refusedWith(t *testing.T, want map[string]string) {
	t.Helper()
	for line, errno := range want {
		name, args, _ := strings.Cut(line, " ")
		if out, err := attack(t, attacker(name, args)); out != name+": "+errno {
			t.Errorf("%s: %q, %v; want %s", line, out, err, errno)
		}
	}
}

// endsBy fails unless the limit has ended the command, in much less than its timeout.
func endsBy(t *testing.T, flag, script string) {
	t.Helper()
	out, err := attack(t, script)
	f, ok := errors.AsType[*Failure](err)
	if !ok || !strings.Contains(f.Reason, flag) {
		t.Errorf("%v (%q); want an error that names %s", err, out, flag)
	}
}

func TestAttackServersEnvironment(t *testing.T) {
	t.Setenv("BUILDCAST_TEST_KEY", "secret-of-the-server")
	out, _ := attack(t, fmt.Sprintf(`env; cat /proc/[0-9]*/environ /proc/%d/environ /proc/%d/environ | tr '\0' '\n'; echo end`, os.Getpid(), os.Getppid()))
	if strings.Contains(out, "secret-of-the-server") || !strings.Contains(out, "end") {
		t.Error(out)
	}
}

// The variables of a command, which hold its secrets, are in no process list, and in
// the environment of no process outside the sandbox.
func TestAttackProcessLists(t *testing.T) {
	r := boxedRunner(t)
	s, out := inBox(t, `echo "$TOKEN"; echo ready; exec sleep 60`)
	s.Env = append(s.Env, "TOKEN=secret-of-the-build")
	ctx, cancel := context.WithCancel(t.Context())
	output := s.Output
	s.Output = func(l []string) {
		output(l)
		for _, file := range []string{"cmdline", "environ"} {
			lists, _ := filepath.Glob("/proc/[0-9]*/" + file)
			for _, list := range lists {
				exe, _ := os.Readlink(filepath.Dir(list) + "/exe")
				inside := file == "environ" && (strings.HasSuffix(exe, "sleep") || strings.Contains(exe, "/init"))
				if b, _ := os.ReadFile(list); !inside && strings.Contains(string(b), "secret-of-the-build") {
					if link, _ := os.Readlink(filepath.Dir(list) + "/ns/pid"); link == pidNamespace(t) {
						t.Errorf("%s of %s has it", list, exe)
					}
				}
			}
		}
		cancel()
	}
	_, _ = r.Run(ctx, s)
	if !strings.Contains(out(), "secret-of-the-build") {
		t.Error(out())
	}
}

func pidNamespace(t *testing.T) string {
	t.Helper()
	link, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	return link
}

func TestAttackDataDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "buildcast.db"), []byte("data-of-the-server"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`for d in '%[1]s' /proc/1/root'%[1]s' /proc/1/cwd'%[1]s' /oldroot'%[1]s' /newroot'%[1]s' ../..'%[1]s'; do ls -la "$d"; cat "$d/buildcast.db"; done; find / -name buildcast.db 2>/dev/null; echo end`, dir)
	for _, change := range []func(*Config){
		func(*Config) {},
		func(c *Config) { c.Hidden = []string{dir} },
	} {
		out, _ := attack(t, script, change)
		if strings.Contains(out, "data-of-the-server") || strings.Contains(out, "/buildcast.db\n") || !strings.Contains(out, "end") {
			t.Error(out)
		}
	}
}

// What an operator lets commands read never includes the server's own directories.
func TestReadableDirectories(t *testing.T) {
	base := t.TempDir()
	data := filepath.Join(base, "data")
	t.Setenv("HOME", filepath.Join(base, "home", "operator"))
	for _, dir := range []string{data, base, data + "/builds", "/", filepath.Join(base, "home")} {
		_, err := New(t.Context(), Config{Sandbox: SandboxAuto, Dir: base, Hidden: []string{data}, Read: []string{dir}})
		if err == nil || !strings.Contains(err.Error(), "may not read") {
			t.Errorf("%s: %v", dir, err)
		}
	}
	tool := filepath.Join("/var/tmp", fmt.Sprintf("buildcast-tool-%d", os.Getpid()))
	if err := os.MkdirAll(tool, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tool)
	if out, err := attack(t, `ls -d `+tool, func(c *Config) { c.Read = []string{tool} }); out != tool || err != nil {
		t.Error(out, err)
	}
	if out, _ := attack(t, `ls -d `+tool); out == tool {
		t.Error("it is seen without the setting")
	}
}

// A data directory below a directory that commands see is covered.
func TestAttackDataDirectoryInPath(t *testing.T) {
	base := filepath.Join("/var/tmp", fmt.Sprintf("buildcast-lib-%d", os.Getpid()))
	data := filepath.Join(base, "lib", "data")
	if err := errors.Join(os.MkdirAll(data, 0o755), os.Mkdir(filepath.Join(base, "bin"), 0o755), os.WriteFile(data+"/buildcast.db", []byte("data-of-the-server"), 0o644)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	t.Setenv("PATH", base+"/bin:"+os.Getenv("PATH"))
	out, _ := attack(t, `cat `+data+`/*; ls `+data+`; echo end`, func(c *Config) { c.Hidden = []string{data} })
	if strings.Contains(out, "data-of-the-server") || strings.Contains(out, "buildcast.db") || !strings.HasSuffix(out, "end") {
		t.Error(out)
	}
}

func TestAttackRemount(t *testing.T) {
	out, _ := attack(t, `mount -o remount,rw,bind /usr; mount -o remount,rw /; mount -t tmpfs x /tmp; umount /ws; touch /usr/buildcast-attack /buildcast-attack && echo written; echo end`)
	if _, err := os.Stat("/usr/buildcast-attack"); err == nil || strings.Contains(out, "written") || !strings.Contains(out, "end") {
		_ = os.Remove("/usr/buildcast-attack")
		t.Error(out, err)
	}
	refusedWith(t, map[string]string{"mount": "EPERM"})
}

func TestAttackWritingOutside(t *testing.T) {
	name := fmt.Sprintf("buildcast-attack-%d", os.Getpid())
	out, _ := attack(t, fmt.Sprintf(`for d in / /usr /usr/bin /bin /lib /etc /etc/ssl /root /home /run /run/buildcast /var /dev /sys /proc/sys/kernel; do ( echo x > $d/%[1]s ) 2>/dev/null && echo "wrote to $d"; done
		echo x >> /etc/passwd && echo 'wrote passwd'; echo x >> %[2]s && echo 'wrote the program'; echo temp > /tmp/%[1]s; ls /tmp; echo end`, name, sandbox.InnerPath))
	if strings.Contains(out, "wrote") || !strings.Contains(out, name) || !strings.HasSuffix(out, "end") {
		t.Error(out)
	}
	for _, dir := range []string{"/", "/usr", "/etc", "/tmp", "/root", "/run", "/dev"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s was written to", dir)
		}
	}
}

// A command leaves symbolic links, by all names that a sandbox has mount points for,
// to a directory of the host. The next one's sandbox must not follow them
// (CVE-2026-87766).
func TestAttackSymlinksInTheWorkspace(t *testing.T) {
	r := boxedRunner(t)
	target := t.TempDir()
	s, out := inBox(t, fmt.Sprintf(`for n in usr etc proc dev run ws tmp home build oldroot newroot .; do for d in /ws ~ /tmp; do ln -sfn '%s' $d/$n; ln -sfn / $d/root-$n; done; done
		mv /ws /elsewhere; rm -rf /ws/../home/build; rmdir /ws; ln -sfn / /ws; echo end`, target))
	for range 2 {
		if _, err := r.Run(t.Context(), s); err != nil || !strings.Contains(out(), "end") {
			t.Fatal(err, out())
		}
	}
	if entries, err := os.ReadDir(target); err != nil || len(entries) > 0 {
		t.Error(entries, err)
	}
	if info, err := os.Lstat(s.Dir); err != nil || !info.IsDir() {
		t.Error(info, err)
	}
}

func TestAttackForkBomb(t *testing.T) {
	endsBy(t, "--limit-processes", `b() { b | b & }; b; sleep 300`)
}

func TestAttackThreadBomb(t *testing.T) {
	endsBy(t, "--limit-processes", `i=0; while [ $i -lt 1000 ]; do sleep 300 & i=$((i+1)); done; wait`)
}

func TestAttackLargeFile(t *testing.T) {
	endsBy(t, "--limit-file-size", `exec head -c 10G /dev/zero > file`)
	endsBy(t, "--limit-file-size", `exec truncate -s 10G file`)
}

func TestAttackDisk(t *testing.T) {
	for _, dir := range []string{"/ws", "/tmp", "/home/build"} {
		endsBy(t, "--limit-disk", fmt.Sprintf(`i=0; while [ $i -lt 1000 ]; do head -c 4M /dev/zero > %s/f$i; i=$((i+1)); done; sleep 300`, dir))
	}
}

// What is removed while it is open stays on the disk, and an empty file takes an inode.
func TestAttackDiskUnseen(t *testing.T) {
	endsBy(t, "--limit-disk", `for i in 1 2 3 4; do { exec sh -c 'rm f$0; head -c 30M /dev/zero >&9; sleep 300' $i 9>f$i & }; done; wait`)
	endsBy(t, "--limit-disk", `exec awk 'BEGIN { for (i = 0; i < 30000; i++) { f = "empty" i; printf "" > f; close(f) } while (1) system("sleep 300") }'`)
}

func TestAttackMemory(t *testing.T) {
	endsBy(t, "--limit-memory", `head -c 2G /dev/zero | tail | sleep 300`)
}

// Files in memory count for no process: what the sandbox has of them is small.
func TestAttackMemoryFiles(t *testing.T) {
	out, _ := attack(t, `for d in /dev/shm /dev /run /; do head -c 30M /dev/zero > $d/a; head -c 30M /dev/zero > $d/b; head -c 30M /dev/zero > $d/c && echo "$d has room"; done; mount | grep -c 'tmpfs (rw'; echo end`)
	if strings.Contains(out, "has room") || !strings.HasSuffix(out, "end") {
		t.Error(out)
	}
}

// killAll is the part of a script that kills every process it may. It does nothing in
// the host's own process namespace: if the sandbox is broken, the test must fail, and
// not end everything on the machine.
func killAll(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf(`[ "$(readlink /proc/self/ns/pid)" != '%s' ] && [ -n "$(readlink /proc/self/ns/pid)" ] && kill -9 -1;`, pidNamespace(t))
}

func TestAttackKillingTheServer(t *testing.T) {
	other := exec.CommandContext(t.Context(), "sleep", "300")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	out, err := attack(t, fmt.Sprintf(`kill -9 %d %d %d && echo killed; echo end; %s kill -9 $PPID; sleep 1; echo alive`, os.Getpid(), os.Getppid(), other.Process.Pid, killAll(t)))
	if strings.Contains(out, "killed") || !strings.Contains(out, "end") || err == nil {
		t.Error(out, err)
	}
	if !alive(fmt.Sprint(other.Process.Pid)) {
		t.Error("another process of the user was killed")
	}
	_ = other.Process.Kill()
	_ = other.Wait()
}

func TestAttackTracing(t *testing.T) {
	refusedWith(t, map[string]string{"ptrace": "EPERM", "vm_read": "EPERM"})
	out, _ := attack(t, `cat /proc/$PPID/mem; cat /proc/$PPID/environ; for f in /proc/$PPID/fd/*; do readlink $f || cat $f || echo x > $f; done && echo seen; cat /proc/$PPID/maps; echo end`)
	if strings.Contains(out, "seen") || strings.Contains(out, "pipe:") || strings.Contains(out, sandbox.InnerPath) || strings.Contains(out, "PATH=") || !strings.HasSuffix(out, "end") {
		t.Error("the first process can be looked into: ", out)
	}
}

func TestAttackTerminal(t *testing.T) {
	refusedWith(t, map[string]string{"tiocsti": "EPERM"})
	if out, _ := attack(t, `(: > /dev/tty) 2>/dev/null && echo has a terminal; echo end`); out != "end" {
		t.Error(out)
	}
}

func TestAttackIOUring(t *testing.T) {
	refusedWith(t, map[string]string{"io_uring": "ENOSYS"})
}

func TestAttackNestedNamespaces(t *testing.T) {
	refusedWith(t, map[string]string{"unshare": "EPERM", "clone_user": "EPERM", "clone3": "ENOSYS"})
	out, _ := attack(t, `cat /proc/sys/user/max_user_namespaces; grep -h -e CapEff -e CapBnd -e NoNewPrivs -e Seccomp: /proc/self/status; echo 100 > /proc/sys/user/max_user_namespaces && echo raised`)
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(out, want) || strings.Contains(out, "raised") {
			t.Errorf("%s: want %s", out, want)
		}
	}
}

func TestAttackSetuidFiles(t *testing.T) {
	refusedWith(t, map[string]string{"setuid": "EPERM EPERM EPERM EPERM EPERM"})
}

func TestAttackDevices(t *testing.T) {
	out, _ := attack(t, `mknod disk b 8 0 && echo made; mknod mem c 1 1 && echo made; ls /dev; [ -e /dev/vda ] && echo seen; echo end`)
	if strings.Contains(out, "made") || strings.Contains(out, "seen") || strings.Contains(out, "pipe:") || strings.Contains(out, sandbox.InnerPath) || !strings.HasSuffix(out, "end") {
		t.Error(out)
	}
}

func TestAttackAbstractSockets(t *testing.T) {
	name := fmt.Sprintf("@buildcast-attack-%d", os.Getpid())
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	refusedWith(t, map[string]string{"dial unix " + name: "ECONNREFUSED"})
}

func TestAttackLoopback(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	refusedWith(t, map[string]string{"dial tcp " + l.Addr().String(): "ECONNREFUSED"})
}

// No stage has a route anywhere: not to private networks, not to the metadata address
// of clouds, not by UDP, not to the machine that a virtual machine runs on.
func TestAttackNetwork(t *testing.T) {
	want := map[string]string{"vsock": "EAFNOSUPPORT"}
	for _, addr := range []string{"169.254.169.254:80", "10.0.0.1:80", "172.17.0.1:80", "192.168.1.1:80", "1.1.1.1:443"} {
		want["dial tcp "+addr], want["dial udp "+addr] = "ENETUNREACH", "ENETUNREACH"
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			want["dial tcp "+net.JoinHostPort(ip.IP.String(), "22")] = "ENETUNREACH"
		}
	}
	refusedWith(t, want)
}

// A bridge carries both ways, each to its own end. There is nothing else.
func TestBridge(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(c) // returns when the other half is closed
			_, _ = io.WriteString(c, "answer to "+string(b))
			c.Close()
		}
	}()
	r := boxedRunner(t)
	s, out := inBox(t, attacker("bridge", "127.0.0.1:4000")+"; "+attacker("bridge", "127.0.0.1:4000")+"; "+attacker("bridge", "127.0.0.1:4001"))
	s.Bridges = []Bridge{{4000, socket}}
	if _, err := r.Run(t.Context(), s); err != nil || out() != "bridge: answer to questiondone\nbridge: answer to questiondone\nbridge: ECONNREFUSED" {
		t.Error(err, out())
	}
}

// A command in a sandbox ends soon after it is told to, with its daemons; politely, if
// it listens.
func TestBoxedCancel(t *testing.T) {
	r := boxedRunner(t)
	for script, want := range map[string]string{
		`trap 'echo polite; exit 0' TERM; echo ready; while :; do sleep 0.02; done`:  "polite",
		`trap '' TERM; setsid sleep 1000 & echo ready; while :; do sleep 0.02; done`: "",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		s, out := inBox(t, script)
		output := s.Output
		s.Output = func(l []string) { output(l); cancel() }
		if _, err := r.Run(ctx, s); !errors.Is(err, context.Canceled) || !strings.Contains(out(), want) {
			t.Error(err, out())
		}
		if n, err := KillMarked(envWorkspace + "=" + s.Dir); n != 0 || err != nil {
			t.Errorf("%d processes are left, %v", n, err)
		}
	}
}

// A sandbox ends with a server and a supervisor that are killed, or is found by its mark.
func TestBoxedCommandDiesWithTheServer(t *testing.T) {
	if dir := os.Getenv("BUILDCAST_TEST_BOXED_SERVER"); dir != "" {
		r, err := New(t.Context(), Config{Sandbox: SandboxBwrap, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = r.Run(t.Context(), Spec{
			Script: `setsid sleep 1000 & echo ready > pid.new; mv pid.new pid; trap '' TERM; while :; do sleep 0.05; done`,
			Dir:    dir, Home: dir, Temp: dir, Env: []string{"PATH=" + os.Getenv("PATH"), "BUILDCAST_BUILD_ID=b1"},
		})
		return
	}
	dir := t.TempDir()
	server := startSelf(t, "^TestBoxedCommandDiesWithTheServer$", "BUILDCAST_TEST_BOXED_SERVER="+dir)
	deadline := time.After(time.Minute)
	for {
		if _, err := os.Stat(filepath.Join(dir, "pid")); err == nil {
			break
		}
		select {
		case <-deadline:
			t.Fatal("the command did not start")
		case <-time.After(5 * time.Millisecond):
		}
	}
	mark := []string{envWorkspace + "=" + dir, "BUILDCAST_BUILD_ID=b1"}
	marked, err := markedProcesses(mark)
	if err != nil || len(marked) == 0 {
		t.Fatalf("no process has the mark: %v", err)
	}
	if err := server.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_, _ = server.Wait()
	if _, err := KillMarked(mark...); err != nil {
		t.Fatal(err)
	}
	for _, pid := range marked {
		waitGone(t, fmt.Sprint(pid))
	}
}
