package chaostest

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/planner/anthropic/anthropictest"
)

// model is Anthropic's API for one build, whose answers can be held. Its plan has two
// tasks: the planner writes the files of one, and the other prints its environment.
type model struct {
	*anthropictest.Server
	// at is called before the pieces of an answer; see anthropictest.Reply.Before. call
	// counts the requests of the purpose, from 1.
	at func(purpose string, call, piece int)

	mu    sync.Mutex
	calls map[string]int
}

const (
	modelPlan = `{"name":"Bakery","tasks":[{"name":"page","prompt":"Write the page."},{"name":"look","needs":["page"],"run":"env; ps -ef; ls"}]}`
	modelPage = "<!doctype html><h1>Bread</h1>"
)

func newModel(t *testing.T, at func(purpose string, call, piece int)) *model {
	m := &model{at: at, calls: map[string]int{}}
	m.Server = anthropictest.New(t, func(c anthropictest.Call) anthropictest.Reply {
		m.mu.Lock()
		m.calls[c.Purpose]++
		call := m.calls[c.Purpose]
		m.mu.Unlock()
		input := modelPlan
		if c.Purpose == "files" {
			input = anthropictest.Files("index.html", modelPage)
		}
		m.at(c.Purpose, call, -1)
		return anthropictest.Reply{Input: input, Before: func(piece int) { m.at(c.Purpose, call, piece) }}
	})
	return m
}

// newPlanningNode prepares a node that asks the model.
func newPlanningNode(t *testing.T, m *model, args ...string) *node {
	t.Setenv("ANTHROPIC_API_KEY", anthropictest.Key)
	return newNode(t, "", append([]string{"--anthropic-base-url", m.URL, "--log-level", "debug"}, args...)...)
}

// dataDir returns the node's data directory.
func (n *node) dataDir() string {
	for i, a := range n.args {
		if a == "--data-dir" {
			return n.args[i+1]
		}
	}
	return ""
}

// kept returns how many answers the node has on its disk.
func (n *node) kept() int {
	files, _ := filepath.Glob(filepath.Join(n.dataDir(), "cache", "entries", "*", "planned", "*", "*"))
	kept := 0
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(`"kind":"memo"`)) {
			kept++
		}
	}
	return kept
}

// lock keeps the node from writing to its database, until unlock.
func (n *node) lock(t *testing.T) (unlock func()) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(n.dataDir(), "buildcast.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Error(err)
		return func() {}
	}
	conn, err := db.Conn(context.Background())
	if err == nil {
		_, err = conn.ExecContext(context.Background(), "BEGIN IMMEDIATE")
	}
	if err != nil {
		t.Error(err)
	}
	return func() {
		_, _ = conn.ExecContext(context.Background(), "ROLLBACK")
		conn.Close()
		db.Close()
	}
}

// A server is killed at a point of its planning, and started again. In the end the
// site runs, there is one plan, and no whole answer was paid twice.
func TestKillWhilePlanning(t *testing.T) {
	for name, point := range map[string]struct {
		purpose string
		piece   int // of the first answer, at which the server is killed; -1: before it begins
	}{
		"before the plan's answer":     {"plan", -1},
		"in the plan's answer":         {"plan", 4},
		"at the end of the plan":       {"plan", 0},
		"before the answer with files": {"files", -1},
		"in the answer with files":     {"files", 3},
		"at the end of the files":      {"files", 0},
	} {
		t.Run(name, func(t *testing.T) {
			reached, killed := make(chan struct{}), make(chan struct{})
			m := newModel(t, func(purpose string, call, piece int) {
				if purpose == point.purpose && call == 1 && piece == point.piece {
					close(reached)
					<-killed
					panic(http.ErrAbortHandler) // nobody is there who could have got the rest
				}
			})
			n := newPlanningNode(t, m)
			n.start()
			create(t, n)
			<-reached
			n.kill()
			close(killed)
			n.start()
			checkPlanned(t, n, m)
		})
	}
}

// The server is killed when an answer was paid and is on its disk, and nothing of it is
// in its database.
func TestKillBetweenAnswerAndStore(t *testing.T) {
	for _, purpose := range []string{"plan", "files"} {
		t.Run(purpose, func(t *testing.T) {
			var n *node
			unlock := make(chan func(), 1)
			m := newModel(t, func(p string, call, piece int) {
				if p == purpose && call == 1 && piece == 0 {
					unlock <- n.lock(t) // what comes after the answer cannot be stored
				}
			})
			n = newPlanningNode(t, m)
			n.start()
			before := 0
			if purpose == "files" {
				before = 2 // of the plan
			}
			create(t, n)
			release := <-unlock
			waitUntil(t, "the answer is kept", func() bool { return n.kept() > before })
			n.kill()
			release()
			n.start()
			checkPlanned(t, n, m)
		})
	}
}

// The server is killed as soon as the plan is stored.
func TestKillAfterThePlanIsStored(t *testing.T) {
	killed := make(chan struct{})
	m := newModel(t, func(purpose string, call, _ int) {
		if purpose == "files" && call == 1 {
			<-killed // so that no answer is on its way
			panic(http.ErrAbortHandler)
		}
	})
	n := newPlanningNode(t, m)
	n.start()
	c := create(t, n)
	waitUntil(t, "the plan is stored", func() bool {
		b, err := c.Build(t.Context(), "b1")
		return err == nil && b.Plan != nil
	})
	n.kill()
	close(killed)
	n.start()
	checkPlanned(t, n, m)
}

func create(t *testing.T, n *node) *client.Client {
	t.Helper()
	c := n.client()
	retry(t, func(ctx context.Context) error {
		_, err := c.CreateBuild(ctx, client.CreateBuild{ID: "b1", Prompt: "a bakery"})
		return err
	})
	return c
}

// checkPlanned waits for the build's end and checks what came of it.
func checkPlanned(t *testing.T, n *node, m *model) {
	t.Helper()
	c := n.client()
	for _, err := range c.Follow(t.Context(), "b1", 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	status, err := c.Status(t.Context(), "b1")
	if err != nil || status.Phase != buildcast.Completed {
		t.Fatalf("%+v, %v", status, err)
	}
	paid := map[string]int{}
	for _, call := range m.Paid() {
		paid[call.Purpose]++
	}
	if paid["plan"] != 1 || paid["files"] != 1 {
		t.Errorf("paid %v", paid)
	}
	types, requests := map[string]int{}, map[string]int{}
	events := readAll(t, c, "b1")
	for _, e := range events {
		types[e.Type]++
		if e.Type == buildcast.PlannerUsage {
			var u struct {
				Request string
				Cached  bool
			}
			if err := json.Unmarshal(e.Data, &u); err != nil || u.Cached {
				t.Errorf("%s, %v", e.Data, err)
			}
			requests[u.Request]++
		}
	}
	if types[buildcast.PlanStarted] != 1 || types[buildcast.PlanGenerated] != 1 || types[buildcast.PlannerUsage] != 2 || len(requests) != 2 || types[buildcast.DeployCompleted] != 1 {
		t.Errorf("events %v, requests %v", types, requests)
	}
	if page := get(t, status.PreviewURL); page != modelPage {
		t.Errorf("the site shows %q", page)
	}
	checkKeyIsHidden(t, n, events)
}

// get reads a preview: its host name leads to loopback.
func get(t *testing.T, url string) string {
	t.Helper()
	rest, _ := strings.CutPrefix(url, "http://")
	host, _, _ := strings.Cut(rest, "/")
	_, port, _ := strings.Cut(host, ":")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// checkKeyIsHidden looks for the key in the events, the log, the data directory and
// what /proc tells of the server. The plan's command has printed its environment.
func checkKeyIsHidden(t *testing.T, n *node, events []buildcast.Event) {
	t.Helper()
	places := map[string]string{"log": n.log.String()}
	printed := false
	for _, e := range events {
		places[fmt.Sprintf("event %d", e.ID)] = string(e.Data)
		printed = printed || strings.Contains(string(e.Data), "BUILDCAST_BUILD_ID=b1")
	}
	if !printed {
		t.Error("the command's environment was not printed")
	}
	for _, name := range []string{"environ", "cmdline"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", n.cmd.Process.Pid, name))
		if err == nil { // the environment cannot be read at all by most users
			places["/proc "+name] = string(b)
		}
	}
	_ = filepath.WalkDir(n.dataDir(), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, _ := os.ReadFile(path)
			places[path] = string(b)
		}
		return nil
	})
	for place, text := range places {
		if strings.Contains(text, anthropictest.Key) {
			t.Errorf("the key is in %s", place)
		}
	}
}
