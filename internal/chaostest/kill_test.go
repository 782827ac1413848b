package chaostest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/pgtest"
)

func TestKillOnSQLite(t *testing.T)   { killTest(t, "") }
func TestKillOnPostgres(t *testing.T) { killTest(t, pgtest.URL(t)) }

// killTest kills the server with SIGKILL repeatedly while 20 builds run and 8 clients
// append. In the end every build is finished, every acknowledged event is stored once,
// ids are 1..n, and no completed task ran again.
func killTest(t *testing.T, database string) {
	n := newNode(t, database, "--builds", "20", "--tasks", "2")
	n.start()
	c := n.client()
	runs := t.TempDir()
	var stopping atomic.Bool
	var builds, appenders sync.WaitGroup
	var finished sync.Map
	for slot := range 20 {
		builds.Go(func() {
			for i := 0; !stopping.Load(); i++ {
				id := fmt.Sprintf("b%d-%d", slot, i)
				runBuild(t, c, id, runs)
				finished.Store(id, true)
			}
		})
	}
	var acked acknowledged
	for worker := range 8 {
		appenders.Go(func() {
			for i := 0; !stopping.Load(); i++ {
				appendUntilAcknowledged(t, c, &acked, fmt.Sprintf("external-%d", worker%3), fmt.Sprintf("%d.%d", worker, i))
			}
		})
	}
	for range rounds(t, 6) {
		randomPause(1500 * time.Millisecond)
		n.kill()
		n.start()
	}
	stopping.Store(true)
	builds.Wait()
	appenders.Wait()

	count := 0
	finished.Range(func(id, _ any) bool {
		checkBuild(t, c, id.(string), runs)
		count++
		return true
	})
	events := 0
	for build, keys := range acked.ids {
		events += checkAcknowledged(t, c, build, keys)
	}
	if count < 20 || events == 0 {
		t.Errorf("only %d builds and %d events: the test did not test", count, events)
	}
	t.Logf("%d builds, %d acknowledged events", count, events)
}

// runBuild starts a build and follows it to its end through all restarts.
func runBuild(t *testing.T, c *client.Client, id, runs string) {
	record := filepath.Join(runs, id)
	task := func(name string, needs ...string) buildcast.Task {
		return buildcast.Task{Name: name, Needs: needs, Run: fmt.Sprintf(
			// In a child: if the server is killed, only the next buildcast ends it.
			`(echo "start $BUILDCAST_TASK $$ $(date +%%s%%N)" >> %[1]s; sleep 0.1; echo "end $BUILDCAST_TASK $$" >> %[1]s) & wait`, record)}
	}
	plan := &buildcast.Plan{Name: id, Output: "site", Tasks: []buildcast.Task{
		{Name: "page", Files: map[string]buildcast.File{"site/index.html": {Content: []byte(id)}}},
		task("one"), task("two"), task("three", "one"), task("four", "one", "two"), task("five", "four"),
	}}
	retry(t, func(ctx context.Context) error {
		_, err := c.CreateBuild(ctx, client.CreateBuild{ID: id, Plan: plan})
		return err
	})
	for _, err := range c.Follow(t.Context(), id, 0) {
		if err != nil {
			t.Errorf("following %s: %v", id, err)
			return
		}
	}
}

func appendUntilAcknowledged(t *testing.T, c *client.Client, acked *acknowledged, build, key string) {
	retry(t, func(ctx context.Context) error {
		ids, err := c.Append(ctx, build, buildcast.NewEvent{Type: "step", Key: key, Data: json.RawMessage(strconv.Quote(key))})
		if err == nil {
			acked.add(build, key, ids[0])
		}
		return err
	})
}

// retry repeats the call until it succeeds.
func retry(t *testing.T, call func(context.Context) error) {
	for try := 0; ; try++ {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := call(ctx)
		cancel()
		if err == nil {
			return
		}
		if c := buildcast.CodeOf(err); try > 2000 || c == buildcast.InvalidArgument || c == buildcast.Conflict {
			t.Errorf("gave up: %v", err)
			return
		}
		pause(20 * time.Millisecond)
	}
}

func readAll(t *testing.T, c *client.Client, id string) []buildcast.Event {
	t.Helper()
	var all []buildcast.Event
	for {
		p, err := c.Events(t.Context(), id, int64(len(all)), 1000, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Events {
			all = append(all, e)
			if e.ID != int64(len(all)) {
				t.Fatalf("%s: event %d stands at place %d", id, e.ID, len(all))
			}
		}
		if !p.HasMore {
			return all
		}
	}
}

func checkBuild(t *testing.T, c *client.Client, id, runs string) {
	t.Helper()
	events := readAll(t, c, id)
	completed := map[string]time.Time{}
	types := map[string]int{}
	for _, e := range events {
		types[e.Type]++
		var d struct{ TaskName string }
		_ = json.Unmarshal(e.Data, &d)
		if e.Type == buildcast.TaskCompleted {
			if _, twice := completed[d.TaskName]; twice {
				t.Errorf("%s: task %s completed twice", id, d.TaskName)
			}
			completed[d.TaskName] = e.Timestamp.Std()
		}
	}
	for _, typ := range []string{buildcast.PlanStarted, buildcast.PlanGenerated, buildcast.DeployStarted, buildcast.BuildStarted, buildcast.DeployCompleted} {
		if types[typ] != 1 {
			t.Errorf("%s: %d times %s", id, types[typ], typ)
		}
	}
	if len(completed) != 6 || types[buildcast.TaskStarted] != 6 {
		t.Errorf("%s: %d tasks started, %d completed", id, types[buildcast.TaskStarted], len(completed))
	}
	if s, err := c.Status(t.Context(), id); err != nil || s.Phase != buildcast.Completed || s.Progress != 100 {
		t.Errorf("%s: %+v, %v", id, s, err)
	}
	checkRuns(t, id, filepath.Join(runs, id), completed)
}

// checkRuns reads the record that the tasks themselves have written: none started
// after its completion was stored, and no run of a killed server overlapped with the
// next one.
func checkRuns(t *testing.T, id, record string, completed map[string]time.Time) {
	t.Helper()
	b, err := os.ReadFile(record)
	if err != nil {
		t.Error(err)
		return
	}
	running := map[string]string{} // task -> pid of its latest start
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case len(f) == 4 && f[0] == "start":
			running[f[1]] = f[2]
			ns, _ := strconv.ParseInt(f[3], 10, 64)
			if at := time.Unix(0, ns); at.After(completed[f[1]].Add(time.Millisecond)) {
				t.Errorf("%s: task %s ran at %v, after it had completed at %v", id, f[1], at, completed[f[1]])
			}
		case len(f) == 3 && f[0] == "end":
			if running[f[1]] != f[2] {
				t.Errorf("%s: a run of task %s overlapped with the next one", id, f[1])
			}
		}
	}
	if len(running) != 5 {
		t.Errorf("%s: %d tasks ran", id, len(running))
	}
}

func checkAcknowledged(t *testing.T, c *client.Client, build string, keys map[string]int64) int {
	t.Helper()
	events := readAll(t, c, build)
	seen := map[string]int{}
	for _, e := range events {
		var key string
		_ = json.Unmarshal(e.Data, &key)
		seen[key]++
		if id, ok := keys[key]; ok && id != e.ID {
			t.Errorf("%s: %s was acknowledged as event %d and is event %d", build, key, id, e.ID)
		}
	}
	var wrong []string
	for key := range keys {
		if seen[key] != 1 {
			wrong = append(wrong, fmt.Sprintf("%s %d times", key, seen[key]))
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		t.Errorf("%s: acknowledged once, but stored: %v", build, wrong)
	}
	return len(keys)
}
