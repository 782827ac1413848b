package sqlite

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// childVariable holds the database file that this binary opens as another
// process, to append to it until it is killed.
const childVariable = "BUILDCAST_SQLITE_CHILD"

const childBuilds = 4

// runChild appends from several callers and prints each id once it is acknowledged.
func runChild(path string) {
	ctx := context.Background()
	s, err := Open(ctx, path)
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	var print sync.Mutex
	var all sync.WaitGroup
	for i := range childBuilds {
		all.Go(func() {
			id := fmt.Sprint("b", i)
			for n := 1; ; n++ {
				e := buildcast.NewEvent{Type: "step", Data: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))}
				answers, err := s.AppendEvents(ctx, []store.Append{{BuildID: id, Events: []buildcast.NewEvent{e, e}}})
				if err != nil {
					panic(err)
				}
				print.Lock()
				for _, e := range answers[0].Events {
					fmt.Println(id, e.ID)
				}
				print.Unlock()
			}
		})
	}
	all.Wait()
}

// child starts this binary as another process on the file. It is killed when the test
// ends, if not before.
func child(t *testing.T, path string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), childVariable+"="+path)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(out)
}

func TestSecondProcessIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.db")
	s := open(t, path)
	other, out := child(t, path)
	said, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	for _, want := range []string{path + " is in use by another buildcast", fmt.Sprintf("(pid %d)", os.Getpid()), "--data-dir", "--database"} {
		if !strings.Contains(string(said), want) {
			t.Errorf("the second process says %q, not %q", said, want)
		}
	}
	// The first process still works.
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

// What was acknowledged is stored after kill -9, and no event is stored in part.
func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.db")
	acked := map[string]int64{}
	for range 4 {
		c, out := child(t, path)
		killAfter, lines := 1+rand.IntN(150), 0
		for {
			line, err := out.ReadString('\n')
			if err != nil {
				break // killed; what was printed before has been read
			}
			var id string
			var n int64
			if _, err := fmt.Sscan(line, &id, &n); err != nil {
				t.Fatalf("the child says %q", line)
			}
			if n != acked[id]+1 {
				t.Fatalf("%s: event %d was acknowledged after %d", id, n, acked[id])
			}
			acked[id] = n
			if lines++; lines == killAfter {
				if err := c.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = c.Wait()
		if lines < killAfter {
			t.Fatalf("the child ended after %d of %d lines", lines, killAfter)
		}
		checkLogs(t, path, acked)
	}
}

// checkLogs fails unless the logs have all acknowledged events. Each may have one more
// append, which was committed before the process could acknowledge it.
func checkLogs(t *testing.T, path string, acked map[string]int64) {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range childBuilds {
		id := fmt.Sprint("b", i)
		stored, err := s.ReadEvents(t.Context(), id, 0, 1e6, 1e9)
		if err != nil {
			t.Fatal(err)
		}
		if n := int64(len(stored)); n < acked[id] || n > acked[id]+2 || n%2 != 0 { // each append has two
			t.Errorf("%s: %d events stored, %d acknowledged", id, n, acked[id])
		}
		for j, e := range stored {
			if e.ID != int64(j+1) {
				t.Fatalf("%s: event %d in place of %d", id, e.ID, j+1)
			}
		}
		bounds, err := s.Bounds(t.Context(), []string{id})
		if err != nil || bounds[id].Last != int64(len(stored)) {
			t.Errorf("%s: last id %d of %d events, %v", id, bounds[id].Last, len(stored), err)
		}
		acked[id] = int64(len(stored))
	}
}
