// Command webhooks measures deliveries: how many a second reach one receiver while
// the events are appended over the API in the same run, what they cost, how long
// an event takes from its POST to its arrival, and what a stuck endpoint does to a
// healthy one. Everything runs on this machine: the server, Postgres, the load and
// the receiver. Trust the ratios.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/buildcast/buildcast/bench/process"
	"github.com/buildcast/buildcast/internal/pgtest"
)

var (
	builds  = flag.Int("builds", 50, "builds that events are appended to")
	events  = flag.Int("events", 60_000, "events of the throughput run")
	batch   = flag.Int("batch", 10, "events of one append there")
	rate    = flag.Int("rate", 100, "events a second of the latency run")
	seconds = flag.Int("seconds", 20, "length of the latency run")
	rounds  = flag.Int("rounds", 5, "rounds of the latency run, with and without a stuck endpoint in turn; medians are printed")
	stores  = flag.String("stores", "postgres,sqlite", "which stores to measure on")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "buildcast-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := process.Build(ctx, dir)
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(*stores, ",") {
		if err := on(ctx, bin, filepath.Join(dir, name), name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// on measures on one store.
func on(ctx context.Context, bin, dir, name string) error {
	s := &server{addr: process.FreeAddr()}
	database := ""
	if name == "postgres" {
		pg, err := pgtest.Run()
		if err != nil {
			return err
		}
		defer pg.Close()
		database, s.postgres = pg.URL(), true
	}
	s.cmd = exec.CommandContext(ctx, bin, "serve", "--listen", s.addr, "--preview-listen", process.FreeAddr(), "--data-dir", dir, "--database", database)
	if err := process.Start(s.cmd, "http://"+s.addr+"/readyz"); err != nil {
		return err
	}
	defer process.Kill(s.cmd)
	r, err := newReceiver()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := acceptance(s, name); err != nil {
		return err
	}
	if _, err := s.endpoint(r.url()); err != nil {
		return err
	}
	if err := throughput(s, r, name); err != nil {
		return err
	}
	return latency(s, r, name)
}

// acceptance is how fast events are accepted with an endpoint that is not there,
// beside none: what it costs a build that a receiver is broken.
func acceptance(s *server, name string) error {
	id, err := s.endpoint("http://" + process.FreeAddr())
	if err != nil {
		return err
	}
	took := map[bool][]time.Duration{}
	for i := range 2 * *rounds {
		with := i%2 == 1
		if err := s.enable(id, with); err != nil {
			return err
		}
		begun := time.Now()
		if err := s.appendAll(fmt.Sprintf("a%d-", i), *events / *builds); err != nil {
			return err
		}
		took[with] = append(took[with], time.Since(begun))
	}
	without, with := middle(took[false]), middle(took[true])
	log.Printf("%-9s %d events accepted in %v without an endpoint, in %v with a broken one: %.2f times", name, *events, without.Round(time.Millisecond), with.Round(time.Millisecond), float64(with)/float64(without))
	return s.send(http.MethodDelete, "/api/webhooks/endpoints/"+id, "", nil)
}

func middle(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// appendAll appends so many events to each build, as fast as they are accepted.
func (s *server) appendAll(prefix string, each int) error {
	return parallel(*builds, func(b int) error {
		for sent := 0; sent < each; sent += *batch {
			if err := s.append(fmt.Sprintf("%s%d", prefix, b), *batch, 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// throughput appends as fast as it is accepted and waits for the last delivery.
func throughput(s *server, r *receiver, name string) error {
	r.expect(*events)
	before, begun := s.cpu(), time.Now()
	if err := s.appendAll("t", *events / *builds); err != nil {
		return err
	}
	accepted := time.Since(begun)
	r.wait()
	took, spent := time.Since(begun), s.cpu()-before
	log.Printf("%-9s %6.0f deliveries/s to one receiver across %d builds; %.3f CPU s per 1,000 (server and database); %d events accepted in %v; %d out of order, %d twice",
		name, float64(*events)/took.Seconds(), *builds, spent.Seconds()/float64(*events)*1000, *events, accepted.Round(time.Millisecond), r.disorder, r.doubled)
	return nil
}

// latency appends events one by one at a steady rate, with and without a stuck
// endpoint beside the healthy one.
func latency(s *server, r *receiver, name string) error {
	stuck, err := newStuck()
	if err != nil {
		return err
	}
	defer stuck.Close()
	id, err := s.endpoint("http://" + stuck.Addr().String())
	if err != nil {
		return err
	}
	results := map[bool][][2]time.Duration{}
	for i := range 2 * *rounds {
		with := i%2 == 1
		if err := s.enable(id, with); err != nil {
			return err
		}
		p50, p99, err := steady(s, r, fmt.Sprintf("l%d-", i))
		if err != nil {
			return err
		}
		log.Printf("%-9s %d events/s, stuck endpoint %-5v p50 %v p99 %v from POST to arrival", name, *rate, with, p50.Round(10*time.Microsecond), p99.Round(10*time.Microsecond))
		results[with] = append(results[with], [2]time.Duration{p50, p99})
	}
	median := func(with bool, i int) time.Duration {
		all := results[with]
		slices.SortFunc(all, func(a, b [2]time.Duration) int { return cmp.Compare(a[i], b[i]) })
		return all[len(all)/2][i]
	}
	log.Printf("%-9s medians: p50 %v, p99 %v; beside a stuck endpoint %v, %v: %.2f of the p99; %d out of order",
		name, median(false, 0), median(false, 1), median(true, 0), median(true, 1), float64(median(true, 1))/float64(median(false, 1)), r.disorder)
	return nil
}

func steady(s *server, r *receiver, prefix string) (p50, p99 time.Duration, err error) {
	// The builds are there already: the first event of each has a claim to wait for.
	r.expect(*builds)
	for i := range *builds {
		if err := s.append(fmt.Sprintf("%s%d", prefix, i), 1, 0); err != nil {
			return 0, 0, err
		}
	}
	r.wait()
	n := *rate * *seconds
	r.expect(n)
	begun := time.Now()
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / time.Duration(*rate))))
		wg.Go(func() {
			if err := s.append(fmt.Sprintf("%s%d", prefix, i%*builds), 1, time.Now().UnixNano()); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return 0, 0, err
	default:
	}
	r.wait()
	took := r.took()
	return took[len(took)/2], took[len(took)*99/100], nil
}

// server is the buildcast that is measured.
type server struct {
	cmd      *exec.Cmd
	addr     string
	postgres bool
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}}

func (s *server) send(method, path, body string, answer any) error {
	req, err := http.NewRequest(method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s %s", method, path, resp.Status, text.String())
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text.Bytes(), answer)
}

func (s *server) endpoint(url string) (string, error) {
	var made struct{ ID string }
	err := s.send(http.MethodPost, "/api/webhooks/endpoints", fmt.Sprintf(`{"url":%q}`, url), &made)
	return made.ID, err
}

func (s *server) enable(id string, on bool) error {
	return s.send(http.MethodPatch, "/api/webhooks/endpoints/"+id, fmt.Sprintf(`{"enabled":%v}`, on), nil)
}

// append appends n events that say when they were sent.
func (s *server) append(build string, n int, sent int64) error {
	event := fmt.Sprintf(`{"type":"task_completed","data":{"sent":%d,"taskName":"Create HTML Test Page","filesCreated":1,"message":"Created index.html"}}`, sent)
	return s.send(http.MethodPost, "/api/builds/"+build+"/events", "["+strings.Repeat(event+",", n-1)+event+"]", nil)
}

func parallel(n int, do func(int) error) error {
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- do(i) }()
	}
	for range n {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}
