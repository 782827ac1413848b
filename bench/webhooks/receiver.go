package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// receiver takes deliveries. It reads HTTP/1.1 by hand, so that on a small machine
// it costs little beside the server that is measured.
type receiver struct {
	net.Listener
	mu                sync.Mutex
	last              map[string]int64 // by build
	disorder, doubled int
	left              int
	all               chan struct{}
	times             []time.Duration
}

func newReceiver() (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{Listener: l, last: map[string]int64{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(c)
		}
	}()
	return r, nil
}

func (r *receiver) url() string { return "http://" + r.Addr().String() + "/hook" }

// expect begins a run of n events.
func (r *receiver) expect(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left, r.all, r.times = n, make(chan struct{}), nil
}

func (r *receiver) wait() { <-r.all }

func (r *receiver) took() []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(slices.Values(r.times))
}

func (r *receiver) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	var body []byte
	for {
		length := 0
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) <= 2 {
				break
			}
			if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("content-length")) {
				length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
			}
		}
		body = slices.Grow(body[:0], length)[:length]
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		r.note(body, time.Now())
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
			return
		}
	}
}

func (r *receiver) note(body []byte, now time.Time) {
	build := field(body, `"buildId":"`, '"')
	id, _ := strconv.ParseInt(field(body, `"id":`, ','), 10, 64)
	sent, _ := strconv.ParseInt(strings.TrimSpace(field(body, `"sent":`, ',')), 10, 64)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch last := r.last[build]; {
	case id <= last:
		r.doubled++
		return
	case id != last+1:
		r.disorder++
	}
	r.last[build] = id
	if sent > 0 {
		r.times = append(r.times, now.Sub(time.Unix(0, sent)))
	}
	if r.left--; r.left == 0 {
		close(r.all)
	}
}

func field(body []byte, before string, end byte) string {
	_, rest, ok := bytes.Cut(body, []byte(before))
	if !ok {
		return ""
	}
	if i := bytes.IndexByte(rest, end); i >= 0 {
		rest = rest[:i]
	}
	return string(rest)
}

// newStuck is a receiver that accepts and never answers.
func newStuck() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		var kept []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				for _, c := range kept {
					c.Close()
				}
				return
			}
			kept = append(kept, c)
		}
	}()
	return l, nil
}

// cpu is what the server and Postgres have used. Of Postgres it is that of all its
// processes here: nothing else should run beside a measurement.
func (s *server) cpu() time.Duration {
	total := ticks(strconv.Itoa(s.cmd.Process.Pid))
	if s.postgres {
		all, _ := filepath.Glob("/proc/[0-9]*/comm")
		for _, name := range all {
			if comm, _ := os.ReadFile(name); strings.TrimSpace(string(comm)) == "postgres" {
				total += ticks(filepath.Base(filepath.Dir(name)))
			}
		}
	}
	return time.Duration(total) * 10 * time.Millisecond
}

// ticks are hundredths of a second of a process and of its children that have ended.
func ticks(pid string) (sum int64) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	for _, at := range []int{11, 12, 13, 14} {
		n, _ := strconv.ParseInt(fields[at], 10, 64)
		sum += n
	}
	return sum
}
