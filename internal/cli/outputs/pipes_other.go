//go:build !linux

package outputs

import (
	"os"
	"sync"
)

// readers copies each pipe in a goroutine of its own.
type readers struct {
	from, to [2]*os.File
	mu       sync.Mutex // serializes record
	record   Record
}

func open(to [2]*os.File, record Record) (ends [2]*os.File, c copier, err error) {
	r := &readers{to: to, record: record}
	for i := range r.from {
		if r.from[i], ends[i], err = os.Pipe(); err != nil {
			if i > 0 {
				r.from[0].Close()
				ends[0].Close()
			}
			return ends, nil, err
		}
	}
	return ends, r, nil
}

func (r *readers) run() {
	var both sync.WaitGroup
	for i := range r.from {
		both.Go(func() { r.copy(Stream(i)) })
	}
	both.Wait()
}

func (r *readers) copy(s Stream) {
	defer r.from[s].Close() // a command that goes on writing gets SIGPIPE
	buf := make([]byte, 64<<10)
	for {
		n, err := r.from[s].Read(buf)
		if n > 0 {
			passed, writeErr := r.to[s].Write(buf[:n])
			r.mu.Lock()
			r.record(s, buf[:passed])
			r.mu.Unlock()
			if writeErr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (r *readers) stop() { r.close() }

func (r *readers) close() {
	for _, f := range r.from {
		f.Close()
	}
}
