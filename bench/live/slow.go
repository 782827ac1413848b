package main

import (
	"context"
	"fmt"
	"log"
	"slices"
	"sync"
	"time"
)

const (
	slowBuilds  = 10
	slowReaders = 200 // and as many that never read
	slowEvents  = 200_000
	slowSize    = 1000   // bytes of an event's data
	slowRate    = 10_000 // events a second
	slowBatch   = 50
)

// slow has readers keep up with 200,000 events, twice without sockets that never
// read and twice beside them, in turn.
func slow(s *server) error {
	ctx := context.Background()
	time.Sleep(2 * time.Second)
	idle := s.rss()
	log.Printf("the server at rest: %.0f MB", idle)
	var p99 [2][]time.Duration
	for i := range 4 {
		with := i % 2
		var stuck []*socket
		for j := range with * slowReaders {
			c, err := subscribe(ctx, s.addr, buildOf(i, j), 0, 4096)
			if err != nil {
				return err
			}
			stuck = append(stuck, c)
		}
		took, most, err := keepUp(ctx, s, i)
		if err != nil {
			return err
		}
		for _, c := range stuck {
			c.Close()
		}
		at := func(share float64) time.Duration { return took[int(float64(len(took)-1)*share)] }
		log.Printf("%3d sockets never read: %d readers had every event once; p50 %v, p99 %v; the server had %.0f MB at most, %.0f above rest",
			with*slowReaders, slowReaders, at(0.5).Round(10*time.Microsecond), at(0.99).Round(10*time.Microsecond), most, most-idle)
		p99[with] = append(p99[with], at(0.99))
	}
	log.Printf("p99 beside them: %.2f times that without", float64(slices.Min(p99[1]))/float64(slices.Min(p99[0])))
	return nil
}

func buildOf(run, i int) string { return fmt.Sprintf("s%d-%d", run, i%slowBuilds) }

// keepUp makes the readers read all events, and returns how long frames took and the
// most memory that the server had.
func keepUp(ctx context.Context, s *server, run int) (took []time.Duration, most float64, err error) {
	var readers sync.WaitGroup
	var mu sync.Mutex
	for j := range slowReaders {
		c, err := subscribe(ctx, s.addr, buildOf(run, j), 0, 0)
		if err != nil {
			return nil, 0, err
		}
		readers.Go(func() {
			defer c.Close()
			mine, failure := readAll(c, slowEvents/slowBuilds)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			if failure != nil {
				err = failure
			}
		})
	}
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
				most = max(most, s.rss())
			}
		}
	})
	begun := time.Now()
	for n := 0; n < slowEvents; n += slowBatch {
		time.Sleep(time.Until(begun.Add(time.Duration(n) * time.Second / slowRate)))
		if _, err := s.append(buildOf(run, n/slowBatch), slowBatch, slowSize); err != nil {
			return nil, 0, err
		}
	}
	readers.Wait()
	close(done)
	watching.Wait()
	slices.Sort(took)
	return took, most, err
}

// readAll reads n events and checks that none is missing or comes twice.
func readAll(c *socket, n int64) (took []time.Duration, err error) {
	for last := int64(0); last < n; {
		u, err := c.next()
		if err != nil {
			return nil, err
		}
		if u.first != last+1 {
			return nil, fmt.Errorf("event %d came after %d", u.first, last)
		}
		last = u.last
		took = append(took, time.Since(u.sent))
	}
	return took, nil
}
