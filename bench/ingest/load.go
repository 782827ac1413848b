package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// event is the body that every server is sent: the seed's own example.
const event = `{"type":"task_completed","data":{"taskName":"Create HTML Test Page","filesCreated":1,"message":"Created index.html with the page's structure"}}`

// result is what one load measured.
type result struct {
	events   int
	took     time.Duration
	p50, p99 time.Duration // of one request
}

func (r result) rate() float64 { return float64(r.events) / r.took.Seconds() }

// posts sends single-event POSTs over conns keep-alive connections for the given
// time. It writes HTTP/1.1 by hand, so that on a small machine the load costs
// little beside the server that is measured.
func posts(addr string, conns int, d time.Duration) (result, error) {
	var mu sync.Mutex
	var all []time.Duration
	var firstErr error
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range conns {
		wg.Go(func() {
			lat, err := postLoop(addr, fmt.Sprintf("r%d", i), begin.Add(d))
			mu.Lock()
			defer mu.Unlock()
			all = append(all, lat...)
			if firstErr == nil {
				firstErr = err
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	slices.Sort(all)
	if firstErr != nil || len(all) == 0 {
		return result{}, fmt.Errorf("load on %s: %d requests, %w", addr, len(all), firstErr)
	}
	return result{len(all), took, all[len(all)/2], all[len(all)*99/100]}, nil
}

func postLoop(addr, build string, until time.Time) ([]time.Duration, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	req := fmt.Appendf(nil, "POST /api/builds/%s/events HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", build, addr, len(event), event)
	var lat []time.Duration
	for now := time.Now(); now.Before(until); {
		if _, err := c.Write(req); err != nil {
			return lat, err
		}
		if err := readAnswer(r); err != nil {
			return lat, err
		}
		after := time.Now()
		lat = append(lat, after.Sub(now))
		now = after
	}
	return lat, nil
}

// readAnswer reads one answer with a Content-Length and wants it to be 201.
func readAnswer(r *bufio.Reader) error {
	status, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if line == "\r\n" {
			break
		}
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(k, "content-length") {
			length, _ = strconv.Atoi(strings.TrimSpace(v))
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	if !strings.Contains(status, " 201 ") {
		return fmt.Errorf("%s: %s", strings.TrimSpace(status), body)
	}
	return nil
}

// stream sends n events as NDJSON in one request of chunks.
func stream(addr, build string, n int) (result, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return result{}, err
	}
	defer c.Close()
	begin := time.Now()
	w := bufio.NewWriterSize(c, 1<<17)
	fmt.Fprintf(w, "POST /api/builds/%s/events HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n", build, addr)
	lines := bytes.Repeat([]byte(event+"\n"), 500)
	for sent := 0; sent < n; sent += 500 {
		fmt.Fprintf(w, "%x\r\n", len(lines))
		if _, err := w.Write(append(lines[:len(lines):len(lines)], "\r\n"...)); err != nil {
			return result{}, err
		}
	}
	fmt.Fprint(w, "0\r\n\r\n")
	if err := w.Flush(); err != nil {
		return result{}, err
	}
	if err := readAnswer(bufio.NewReader(c)); err != nil {
		return result{}, err
	}
	return result{events: n, took: time.Since(begin)}, nil
}
