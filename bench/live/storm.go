package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	stormSubscribers = 5000
	stormBuilds      = 50
	stormEvents      = 20 // of each build before
)

// subscriber follows a build through all it takes.
type subscriber struct {
	build string
	last  atomic.Int64
	wrong atomic.Bool
}

// storm has 5,000 subscribers lose the server in the middle of 50 builds, and says
// how long after its return each of them has every event again.
func storm(s *server) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	for b := range stormBuilds {
		if _, err := s.append(stormBuild(b), stormEvents, 100); err != nil {
			return err
		}
	}
	subscribers := make([]*subscriber, stormSubscribers)
	var running sync.WaitGroup
	for i := range subscribers {
		sub := &subscriber{build: stormBuild(i)}
		subscribers[i] = sub
		running.Go(func() { sub.follow(ctx, s.addr) })
	}
	whole := func(ids []int64) int {
		n := 0
		for i, sub := range subscribers {
			if sub.last.Load() >= ids[i%stormBuilds] {
				n++
			}
		}
		return n
	}
	before := slices.Repeat([]int64{stormEvents}, stormBuilds)
	for whole(before) < stormSubscribers {
		time.Sleep(20 * time.Millisecond)
	}
	log.Printf("%d subscribers on %d builds, the server has %.0f MB", stormSubscribers, stormBuilds, s.rss())

	var appending sync.WaitGroup
	killed := make(chan struct{})
	appending.Go(func() { // events are appended until the server dies, so that it dies during appends
		for n := 0; ; n++ {
			if _, err := s.append(stormBuild(n), 1, 100); err != nil {
				return
			}
			if n == 200 {
				close(killed)
			}
		}
	})
	<-killed
	s.kill()
	appending.Wait()
	time.Sleep(time.Second)
	if err := s.start(); err != nil {
		return err
	}
	back := time.Now()
	after := make([]int64, stormBuilds)
	for b := range after {
		var err error
		if after[b], err = s.append(stormBuild(b), 1, 100); err != nil {
			return err
		}
	}
	for _, share := range []float64{0.5, 0.9, 0.99, 1} {
		for whole(after) < int(share*stormSubscribers) {
			time.Sleep(5 * time.Millisecond)
		}
		log.Printf("%3.0f %% of them have every event again %.2f s after its return", share*100, time.Since(back).Seconds())
	}
	stop()
	running.Wait()
	for _, sub := range subscribers {
		if sub.wrong.Load() {
			return fmt.Errorf("a subscriber of %s missed an event or had one twice", sub.build)
		}
	}
	log.Printf("each of them had each event once; the server has %.0f MB", s.rss())
	return nil
}

func stormBuild(i int) string { return fmt.Sprintf("storm-%d", i%stormBuilds) }

// follow connects again and again, as the JavaScript client does: first within
// 250 ms, then after 0.5 to 1 s, then doubling.
func (sub *subscriber) follow(ctx context.Context, addr string) {
	wait := rand.N(2 * time.Second) // the first time they come one after the other
	for try := 0; ; try++ {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		c, err := subscribe(ctx, addr, sub.build, sub.last.Load(), 0)
		if err == nil {
			try = -1
			sub.read(ctx, c)
		}
		wait = rand.N(250 * time.Millisecond)
		if try > 0 {
			wait = time.Duration(float64(time.Second<<min(try-1, 5)) * (0.5 + rand.Float64()/2))
		}
	}
}

func (sub *subscriber) read(ctx context.Context, c *socket) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	for {
		u, err := c.next()
		if err != nil {
			return
		}
		if u.first != sub.last.Load()+1 {
			sub.wrong.Store(true)
		}
		sub.last.Store(u.last)
	}
}
