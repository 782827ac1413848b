// Command builds starts many builds of a plan at once on one server, follows each of
// them, and prints how many are done in a minute and what processor time one takes. It
// fails if a build does not complete, or if a watcher sees an event twice or misses one.
//
//	go run ./bench/builds
//	go run ./bench/builds -builds 500 -at-once 32 -plan examples/docs-site/plan.yaml
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/bench/process"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/planfile"
)

var (
	builds = flag.Int("builds", 100, "builds that are started at once")
	atOnce = flag.Int("at-once", 16, "builds that the server runs at once (--builds)")
	plan   = flag.String("plan", "examples/hello-site/plan.yaml", "what is built")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	p, err := planfile.Read(*plan)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "buildcast-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := process.Build(ctx, dir)
	if err != nil {
		return err
	}
	addr := process.FreeAddr()
	server := exec.CommandContext(ctx, bin, "serve", "--listen", addr, "--preview-listen", process.FreeAddr(),
		"--data-dir", filepath.Join(dir, "data"), "--builds", strconv.Itoa(*atOnce), "--log-level", "error")
	if err := process.Start(server, "http://"+addr+"/readyz"); err != nil {
		return err
	}
	defer process.Kill(server)
	c, err := client.New("http://" + addr)
	if err != nil {
		return err
	}
	before, began := processorTime(server.Process.Pid), time.Now()
	all, ctx := errgroup.WithContext(ctx)
	events := make([]int64, *builds)
	for i := range *builds {
		all.Go(func() (err error) {
			events[i], err = watch(ctx, c, fmt.Sprint("b", i), p)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	took, used := time.Since(began), processorTime(server.Process.Pid)-before
	total := int64(0)
	for _, n := range events {
		total += n
	}
	fmt.Printf("%d builds of %s, %d at once: all completed in %.2fs, %.0f a minute; %d events, each seen once by its watcher; %.1f ms of processor time a build\n",
		*builds, *plan, *atOnce, took.Seconds(), float64(*builds)/took.Minutes(), total, float64(used.Microseconds())/1000/float64(*builds))
	return nil
}

// watch starts a build and follows it to its end. The client would hide an event that
// comes twice, so the ids are checked here as well.
func watch(ctx context.Context, c *client.Client, id string, p *buildcast.Plan) (seen int64, err error) {
	if _, err := c.CreateBuild(ctx, client.CreateBuild{ID: id, Plan: p}); err != nil {
		return 0, err
	}
	for e, err := range c.Follow(ctx, id, 0) {
		if err != nil {
			return seen, fmt.Errorf("%s: %w", id, err)
		}
		if seen++; e.ID != seen {
			return seen, fmt.Errorf("%s: event %d came in the place of event %d", id, e.ID, seen)
		}
	}
	status, err := c.Status(ctx, id)
	if err == nil && (status.Phase != buildcast.Completed || status.LastEventID != seen) {
		err = fmt.Errorf("%s: %s after %d of %d events: %s", id, status.Phase, seen, status.LastEventID, status.Error)
	}
	return seen, err
}

// processorTime is what the process and the children that it has waited for have used.
func processorTime(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	ticks := 0
	for _, field := range f[11:15] { // utime, stime, cutime, cstime, in hundredths of a second
		n, _ := strconv.Atoi(field)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
