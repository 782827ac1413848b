package chaostest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/pgtest"
)

// 32 clients append to one build over two processes on one Postgres. A poller that
// reads meanwhile sees 1, 2, 3, … once each.
func TestTwoNodesOnOnePostgres(t *testing.T) {
	database := pgtest.URL(t)
	nodes := []*node{newNode(t, database), newNode(t, database)}
	for _, n := range nodes {
		n.start()
	}
	const appenders, each = 32, 50
	var acked acknowledged
	var all sync.WaitGroup
	for i := range appenders {
		all.Go(func() {
			c := nodes[i%2].client()
			for k := range each {
				appendUntilAcknowledged(t, c, &acked, "shared", fmt.Sprintf("%d.%d", i, k))
			}
		})
	}
	var last int64
	reader := nodes[1].client()
	for last < appenders*each {
		p, err := reader.Events(t.Context(), "shared", last, 100, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Events {
			if e.ID != last+1 {
				t.Fatalf("event %d after %d", e.ID, last)
			}
			last = e.ID
		}
	}
	all.Wait()
	if n := checkAcknowledged(t, reader, "shared", acked.ids["shared"]); n != appenders*each {
		t.Errorf("%d acknowledged", n)
	}
}

// Postgres is stopped in the middle of 10 builds. The builds continue, the API answers
// 503 with Retry-After, and afterwards every event is stored.
func TestPostgresStopped(t *testing.T) {
	pg := pgtest.Start(t)
	n := newNode(t, pg.URL(), "--builds", "10")
	n.start()
	c := n.client()
	runs := t.TempDir()
	var builds sync.WaitGroup
	for i := range 10 {
		id := fmt.Sprintf("b%d", i)
		builds.Go(func() { runBuild(t, c, id, runs) })
	}
	// Every build has begun, none can be over: its tasks take longer.
	for i := range 10 {
		waitUntil(t, "a task runs", func() bool {
			_, err := os.Stat(fmt.Sprintf("%s/b%d", runs, i))
			return err == nil
		})
	}
	pg.Stop()
	if err := expectUnavailable(t.Context(), n.url); err != nil {
		t.Error(err)
	}
	// The builds finish their work while the store is away.
	waitUntil(t, "all tasks of all builds have ended", func() bool {
		for i := range 10 {
			b, _ := os.ReadFile(fmt.Sprintf("%s/b%d", runs, i))
			if !strings.Contains(string(b), "end five") {
				return false
			}
		}
		return true
	})
	if os.Getenv("BUILDCAST_CHAOS_ROUNDS") != "" {
		pause(20 * time.Second)
	}
	pg.Restart()
	builds.Wait()
	for i := range 10 {
		checkBuild(t, c, fmt.Sprintf("b%d", i), runs)
	}
}

func expectUnavailable(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/builds/x/events", strings.NewReader(`{"type":"x"}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		return fmt.Errorf("while Postgres is away: %s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	c, err := client.New(url)
	if err != nil {
		return err
	}
	if _, err := c.Status(ctx, "b1"); buildcast.CodeOf(err) != buildcast.StoreUnavailable {
		return errors.Join(errors.New("reading while Postgres is away does not return store_unavailable"), err)
	}
	return nil
}
