package chaostest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
)

// receiverEnv makes this binary a receiver of webhooks at the address.
const receiverEnv = "BUILDCAST_TEST_RECEIVER"

// TestFaultyReceiver sends the events of 20 builds to a receiver in another process,
// which fails in many ways, is killed, and comes back. Every event arrives, and in
// order when the receiver is healthy.
func TestFaultyReceiver(t *testing.T) {
	n := newNode(t, "", "--webhook-retries", strings.TrimSuffix(strings.Repeat("100ms,", 20), ","))
	n.start()
	c := n.client()
	p := newReceiverProcess(t)
	p.start("faulty")
	url := "http://" + p.addr + "/hook"
	timeout := 1000
	if _, err := c.CreateEndpoint(t.Context(), buildcast.EndpointChange{URL: &url, TimeoutMS: &timeout}); err != nil {
		t.Fatal(err)
	}
	const builds, each = 20, 12
	appendAll := func() {
		for range each {
			for b := range builds {
				if _, err := c.Append(t.Context(), fmt.Sprintf("b%d", b), buildcast.NewEvent{Type: "task_started"}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	arrived := func(upTo int64) func() bool {
		return func() bool {
			for b := range builds {
				for id := int64(1); id <= upTo; id++ {
					if !p.has(fmt.Sprintf("b%d", b), id) {
						return false
					}
				}
			}
			return true
		}
	}
	appendAll()
	waitUntil(t, "all events have arrived in spite of faults", arrived(each))
	if p.failed() < each {
		t.Errorf("only %d requests failed: the test did not test", p.failed())
	}

	p.kill()
	appendAll() // builds do not wait for a receiver
	p.start("healthy")
	waitUntil(t, "all events that waited for the receiver have arrived", arrived(2*each))

	from := p.count()
	appendAll()
	waitUntil(t, "all events have arrived at a healthy receiver", arrived(3*each))
	for build, ids := range p.since(from) {
		for i, id := range ids {
			if id != int64(2*each+i+1) {
				t.Fatalf("%s: a healthy receiver got %v", build, ids)
			}
		}
	}
}

// receiverProcess is a receiver that can be killed. It writes a line for each request.
type receiverProcess struct {
	t    *testing.T
	addr string
	cmd  *exec.Cmd
	read sync.WaitGroup

	mu    sync.Mutex
	lines []line
	taken map[string]bool
}

// line is a receiver's report of a request.
type line struct {
	Build   string
	ID      int64
	Outcome string // 200: taken
}

func newReceiverProcess(t *testing.T) *receiverProcess {
	p := &receiverProcess{t: t, addr: freeAddr(t), taken: map[string]bool{}}
	t.Cleanup(p.kill)
	return p
}

func (p *receiverProcess) start(mood string) {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), receiverEnv+"="+p.addr+" "+mood)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ready := make(chan struct{})
	p.read.Go(func() { p.collect(out, ready) })
	<-ready
}

// collect reads the receiver's reports until it ends. The first line is empty.
func (p *receiverProcess) collect(out io.Reader, ready chan struct{}) {
	in := bufio.NewScanner(out)
	in.Scan()
	close(ready)
	for in.Scan() {
		var l line
		if json.Unmarshal(in.Bytes(), &l) != nil {
			continue // killed in the middle of it
		}
		p.mu.Lock()
		p.lines = append(p.lines, l)
		if l.Outcome == "200" {
			p.taken[l.Build+" "+strconv.FormatInt(l.ID, 10)] = true
		}
		p.mu.Unlock()
	}
}

func (p *receiverProcess) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	p.read.Wait()
	_ = p.cmd.Wait()
	p.cmd = nil
}

func (p *receiverProcess) has(build string, id int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken[build+" "+strconv.FormatInt(id, 10)]
}

func (p *receiverProcess) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

func (p *receiverProcess) failed() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lines {
		if l.Outcome != "200" {
			n++
		}
	}
	return n
}

// since returns the ids that came after the first n requests, by build.
func (p *receiverProcess) since(n int) map[string][]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := map[string][]int64{}
	for _, l := range p.lines[n:] {
		ids[l.Build] = append(ids[l.Build], l.ID)
	}
	return ids
}

// receive runs the receiver in its process.
func receive(addr, mood string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println()
	var mu sync.Mutex
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e buildcast.WebhookPayload
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			return
		}
		outcome := "200"
		if mood == "faulty" && rand.N(4) == 0 {
			outcome = faults[rand.N(len(faults))]
		}
		text, _ := json.Marshal(line{e.BuildID, e.ID, outcome})
		mu.Lock()
		fmt.Printf("%s\n", text)
		mu.Unlock()
		misbehave(w, r, outcome)
	}))
}

var faults = []string{"500", "500", "reset", "reset", "half a body", "slow drip", "silence", "a redirect to a private address"}

func misbehave(w http.ResponseWriter, r *http.Request, outcome string) {
	switch outcome {
	case "500":
		w.WriteHeader(http.StatusInternalServerError)
	case "reset":
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	case "half a body":
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
	case "slow drip":
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, ".")
			_ = http.NewResponseController(w).Flush()
			pause(200 * time.Millisecond)
		}
	case "silence":
		<-r.Context().Done()
	case "a redirect to a private address":
		http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusTemporaryRedirect)
	}
}
