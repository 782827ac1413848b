package chaostest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/pgtest"
)

var binary string // the buildcast under test, built once

func TestMain(m *testing.M) {
	if addr, mood, ok := strings.Cut(os.Getenv(receiverEnv), " "); ok {
		fmt.Fprintln(os.Stderr, receive(addr, mood))
		os.Exit(1)
	}
	os.Exit(pgtest.Main(buildThenRun{m}))
}

type buildThenRun struct{ m *testing.M }

func (b buildThenRun) Run() int {
	dir, err := os.MkdirTemp("", "buildcast-chaos")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "buildcast")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/buildcast/buildcast/cmd/buildcast").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building buildcast: %v\n%s", err, out)
		return 1
	}
	return b.m.Run()
}

// output is what a process has printed so far. It may be read while the process runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// node is one buildcast process that can be killed and started again.
type node struct {
	t    *testing.T
	url  string
	args []string
	temp string // its TMPDIR, if not the tests'
	log  output
	cmd  *exec.Cmd
}

// newNode prepares a node with its own ports. database is empty for SQLite.
func newNode(t *testing.T, database string, args ...string) *node {
	t.Helper()
	addr := freeAddr(t)
	n := &node{t: t, url: "http://" + addr}
	n.args = append([]string{
		"serve", "--sandbox", "off", "--listen", addr, "--preview-listen", freeAddr(t),
		"--data-dir", filepath.Join(t.TempDir(), "data"), "--database", database,
	}, args...)
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			t.Logf("the last of the server's log:\n%s", tail([]byte(n.log.String()), 8<<10))
		}
	})
	return n
}

func (n *node) start() {
	n.t.Helper()
	n.run(exec.Command(binary, n.args...))
}

// startWithDescriptors starts it with a limit of open files that cannot be raised.
func (n *node) startWithDescriptors(descriptors int) {
	n.t.Helper()
	script := "ulimit -n " + strconv.Itoa(descriptors) + ` && exec "$@"`
	n.run(exec.Command("sh", append([]string{"-c", script, "sh", binary}, n.args...)...))
}

// run returns when the server is ready.
func (n *node) run(cmd *exec.Cmd) {
	n.t.Helper()
	n.cmd = cmd
	n.cmd.Stdout, n.cmd.Stderr = &n.log, &n.log
	if n.temp != "" {
		n.cmd.Env = append(os.Environ(), "TMPDIR="+n.temp)
	}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	waitUntil(n.t, "the server is ready", func() bool {
		resp, err := http.Get(n.url + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (n *node) kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
	n.cmd = nil
}

func (n *node) client() *client.Client {
	n.t.Helper()
	c, err := client.New(n.url)
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

// waitUntil polls every 20 ms: other processes send no signal.
func waitUntil(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited two minutes until %s", what)
		}
	}
}

// pause lets the processes work for a while.
func pause(d time.Duration) { <-time.After(d) }

func randomPause(atMost time.Duration) { pause(rand.N(atMost)) }

func rounds(t *testing.T, usual int) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("BUILDCAST_CHAOS_ROUNDS"))
	if err != nil {
		return usual
	}
	return n
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// acknowledged remembers which events the server has acknowledged.
type acknowledged struct {
	mu  sync.Mutex
	ids map[string]map[string]int64 // build -> key -> id
}

func (a *acknowledged) add(build, key string, id int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ids == nil {
		a.ids = map[string]map[string]int64{}
	}
	if a.ids[build] == nil {
		a.ids[build] = map[string]int64{}
	}
	a.ids[build][key] = id
}
