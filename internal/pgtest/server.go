package pgtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startTimeout = 2 * time.Minute // initdb and the start on a busy machine
	logLines     = 20              // of the server's log that an error shows
)

// Server is a Postgres that belongs to this process.
type Server struct {
	bin  string // the directory of the binaries
	dir  string
	port int

	mu  sync.Mutex // of the calls that start and stop
	run *running   // nil: stopped
}

// running is the server's process, behind its shell.
type running struct {
	shell *exec.Cmd
	hold  io.WriteCloser // a line: stop and keep the directory; closed: stop and remove it
	log   *logReader
}

// Run starts a server. The caller closes it.
func Run() (*Server, error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "buildcast-postgres-")
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir, port: port}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

// URL returns the URL of the database postgres.
func (s *Server) URL() string { return s.DatabaseURL("postgres") }

// DatabaseURL returns the URL of the named database, which need not exist.
func (s *Server) DatabaseURL(name string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, name)
}

// Close ends the server and removes its data. It may be called twice.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return os.RemoveAll(s.dir) // stopped before
	}
	err := s.run.end("")
	s.run = nil
	return err
}

// stop ends the server at once, as a crash does, and keeps its data.
func (s *Server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return nil
	}
	err := s.run.end("keep\n")
	s.run = nil
	return err
}

// watchdog creates the data directory if it does not exist, starts the server and
// waits for a word, or the end, of its standard input. The server's log is the shell's
// standard error. The shell itself closes that, so the log ends when the server ends.
const watchdog = `
bin=$1 dir=$2; shift 2
cd "$dir" || exit
if [ ! -e data/PG_VERSION ]; then
	"$bin/initdb" -D data -U postgres --auth=trust --no-locale -E UTF8 --no-sync </dev/null >&2 || exit
fi
"$bin/postgres" -D data "$@" </dev/null >&2 &
server=$!
exec 2>/dev/null
read -r word || word=
kill -QUIT "$server"
wait "$server"
if [ -z "$word" ]; then cd / && rm -rf "$dir"; fi
`

// start starts the server and waits until it accepts connections.
func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil {
		return fmt.Errorf("the server runs already")
	}
	r, err := s.launch()
	if err != nil {
		return err
	}
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-r.log.ready:
		s.run = r
		return nil
	case <-r.log.ended:
		err = fmt.Errorf("Postgres did not start:\n%s", r.log.tail())
	case <-timeout.C:
		err = fmt.Errorf("Postgres did not start within %v:\n%s", startTimeout, r.log.tail())
	}
	return errors.Join(err, r.end("keep\n"))
}

func (s *Server) launch() (*running, error) {
	shell := exec.Command("sh", "-c", watchdog, "sh", s.bin, s.dir,
		"-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "max_connections=300", "-c", "fsync=on", "-c", "synchronous_commit=on")
	shell.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	// Ctrl-C goes to the whole group of a terminal; the server ends after its tests, not with them.
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.unprivileged(shell.SysProcAttr); err != nil {
		return nil, err
	}
	hold, err := shell.StdinPipe()
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	shell.Stderr = write
	err = shell.Start()
	write.Close() // the child has its own
	if err != nil {
		read.Close()
		return nil, fmt.Errorf("starting Postgres: %w", err)
	}
	return &running{shell: shell, hold: hold, log: readLog(read)}, nil
}

// unprivileged has the process run as another user if this one runs as root, which
// Postgres refuses. It gives that user the directory.
func (s *Server) unprivileged(attr *syscall.SysProcAttr) error {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return fmt.Errorf("Postgres does not run as root, and there is neither a user postgres nor nobody: %w", err)
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.dir, int(uid), int(gid))
}

// end sends the word to the shell and waits until the server has ended.
func (r *running) end(word string) error {
	_, _ = io.WriteString(r.hold, word) // it fails if the shell has ended before
	r.hold.Close()
	err := r.shell.Wait()
	<-r.log.ended
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil // a server that is told to quit at once ends with status 2
	}
	return err
}

// logReader reads the server's log until the server ends.
type logReader struct {
	ready chan struct{} // closed once the server accepts connections
	ended chan struct{} // closed at the log's end

	mu   sync.Mutex
	last []string
}

func readLog(f *os.File) *logReader {
	l := &logReader{ready: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		defer f.Close()
		ready := false
		for lines := bufio.NewReader(f); ; {
			line, err := lines.ReadString('\n')
			l.add(line)
			if !ready && strings.Contains(line, "ready to accept connections") {
				ready = true
				close(l.ready)
			}
			if err != nil {
				return
			}
		}
	}()
	return l
}

func (l *logReader) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) == logLines {
		l.last = l.last[1:]
	}
	l.last = append(l.last, line)
}

func (l *logReader) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.last, "")
}

// freePort finds a port below the range that the kernel uses for outgoing
// connections: one of that range could be taken while a test has stopped the server.
func freePort() (int, error) {
	var last error
	for range 100 {
		port := 20000 + rand.IntN(12000)
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("no port is free: %w", last)
}

// findBinaries returns the directory of the newest Postgres with postgres and initdb.
func findBinaries() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			found = append(found, path)
		}
	}
	return choose(found)
}

func choose(found []string) (string, error) {
	newest, best := "", -1.0
	for _, path := range found {
		dir := filepath.Dir(path)
		if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err != nil {
			continue
		}
		if v := version(path); v > best {
			newest, best = dir, v
		}
	}
	if newest == "" {
		return "", errors.New("the tests need PostgreSQL (postgres and initdb), which is not here: install it: apt-get install -y postgresql")
	}
	return newest, nil
}

// version reads "postgres (PostgreSQL) 15.8 …"; 0 if it cannot.
func version(path string) float64 {
	out, err := exec.Command(path, "--version").Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) < 3 {
		return 0
	}
	v, err := strconv.ParseFloat(fields[2], 64)
	if err != nil {
		return 0
	}
	return v
}
