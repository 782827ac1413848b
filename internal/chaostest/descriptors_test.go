package chaostest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
)

// crowd is a set of clients that open streams and stay connected.
type crowd struct {
	t     *testing.T
	addr  string
	conns []net.Conn
}

// open opens n streams of a build without events, and waits for the beginning of each
// answer.
func (c *crowd) open(n int) {
	c.t.Helper()
	for range n {
		conn, err := net.Dial("tcp", c.addr)
		if err != nil {
			c.t.Fatal(err)
		}
		c.conns = append(c.conns, conn)
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprintf(conn, "GET /events/quiet HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", c.addr)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			c.t.Fatalf("stream %d was not answered: %v", len(c.conns), err)
		}
		if resp.StatusCode != http.StatusOK {
			b, _ := io.ReadAll(resp.Body)
			c.t.Fatalf("stream %d was answered %d %.300s", len(c.conns), resp.StatusCode, b)
		}
	}
}

// Attack: 400 idle streams on a server that may open 256 files. Each stream and
// each request is answered, and a build that runs meanwhile completes: its
// commands, its workspace and the store have descriptors of their own.
func TestWatchersDoNotFailBuilds(t *testing.T) {
	n := newNode(t, "")
	n.startWithDescriptors(256)
	c := n.client()
	plan := &buildcast.Plan{Name: "crowded", Output: "site"}
	for i := range 8 {
		plan.Tasks = append(plan.Tasks, buildcast.Task{
			Name: fmt.Sprintf("task%d", i), Run: "mkdir -p site && for i in 1 2 3 4 5; do cat /dev/null | sh -c 'echo line'; done && echo ok >site/$$.html",
		})
	}
	crowd := &crowd{t: t, addr: strings.TrimPrefix(n.url, "http://")}
	defer func() {
		for _, conn := range crowd.conns {
			conn.Close()
		}
	}()
	crowd.open(200)
	const builds = 6
	for i := range builds {
		if _, err := c.CreateBuild(t.Context(), client.CreateBuild{ID: fmt.Sprintf("b%d", i), Plan: plan}); err != nil {
			t.Fatal(err)
		}
		crowd.open(200 / builds)
	}
	crowd.open(200)
	for i := range builds {
		waitUntil(t, "the build is over", func() bool {
			status, err := c.Status(t.Context(), fmt.Sprintf("b%d", i))
			if err != nil {
				t.Fatal(err)
			}
			if status.Phase.Terminal() && status.Phase != buildcast.Completed {
				t.Fatalf("build %d is %s: %s", i, status.Phase, status.Error)
			}
			return status.Phase == buildcast.Completed
		})
	}
	n.kill() // the server's log is complete now
	if log := n.log.String(); strings.Contains(log, "too many open files") {
		t.Error("the server ran out of descriptors")
	}
}
