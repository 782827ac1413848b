package browsertest

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/buildcast/buildcast/internal/cli"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/server"
)

// asBuildcast in the environment makes the test program behave as buildcast: a
// process that can be killed.
const asBuildcast = "BUILDCAST_BROWSERTEST_SERVES"

func TestMain(m *testing.M) {
	if os.Getenv(asBuildcast) != "" {
		os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// startServer runs a server within the test and returns its URL.
func startServer(t *testing.T, tweak ...func(*config.Config)) string {
	t.Helper()
	cfg := config.Config{Listen: "127.0.0.1:0", PreviewListen: "127.0.0.1:0", DataDir: filepath.Join(t.TempDir(), "data"), Builds: 1, Tasks: 1, DrainTimeout: time.Second, PreviewKeep: time.Hour, Sandbox: "off"}
	for _, do := range tweak {
		do(&cfg)
	}
	s, err := server.New(t.Context(), cfg, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s.URL()
}

// node is a server in a process of its own, always on the same port and data.
type node struct {
	addr, url string
	args      []string
	cmd       *exec.Cmd
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{addr: freeAddr(t)}
	n.url = "http://" + n.addr
	n.args = []string{"serve", "--listen", n.addr, "--preview-listen", freeAddr(t), "--data-dir", filepath.Join(t.TempDir(), "data")}
	t.Cleanup(n.kill)
	return n
}

// start returns when the server answers.
func (n *node) start(t *testing.T) {
	t.Helper()
	n.cmd = exec.Command(os.Args[0], n.args...)
	n.cmd.Env = append(os.Environ(), asBuildcast+"=1")
	n.cmd.Stdout, n.cmd.Stderr = t.Output(), t.Output()
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond) // another process, which sends no signal
	defer tick.Stop()
	for range 1000 {
		if c, err := net.Dial("tcp", n.addr); err == nil {
			c.Close()
			return
		}
		<-tick.C
	}
	t.Fatal("the server did not start")
}

// kill is SIGKILL.
func (n *node) kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
	n.cmd = nil
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
