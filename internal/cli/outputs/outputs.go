// Package outputs passes on what a command writes to its stdout and its stderr,
// and records both in the order in which the command wrote them.
//
// Two pipes have no common order: a reader that finds data in both cannot know
// which came first. On Linux a pipe of this package holds one write at a time, and
// the kernel queues the pipes in the order in which they became readable, so the
// order is that of the writes. A write then waits until the one before it on the
// same pipe is read, except in bulk: the order of a flood is less exact. Elsewhere
// the order is that of the reads.
//
// One output that cannot be passed on at the moment does not hold up the other.
package outputs

import (
	"os"
	"time"
)

// Stream is one of a command's outputs.
type Stream int

// The streams.
const (
	Stdout Stream = iota
	Stderr
)

func (s Stream) String() string { return [...]string{"stdout", "stderr"}[s] }

// Record is called with each piece of output after it was passed on. Calls do not
// overlap. It must not keep the piece.
type Record func(s Stream, piece []byte)

// Outputs are the two outputs of one command. Open, give the command the ends
// that Ends returns, then call Start if it was started, Close if it was not.
type Outputs struct {
	ends   [2]*os.File
	copier copier
	done   chan struct{}
}

// copier is how the platform copies.
type copier interface {
	run()   // copies both pipes to their ends
	stop()  // makes run return once it has passed on what it has read
	close() // closes the reading ends
}

// Open makes the pipes. What is written to them goes to stdout and stderr.
func Open(stdout, stderr *os.File, record Record) (*Outputs, error) {
	o := &Outputs{done: make(chan struct{})}
	var err error
	o.ends, o.copier, err = open([2]*os.File{stdout, stderr}, record)
	if err != nil {
		return nil, err
	}
	return o, nil
}

// Ends returns the ends that the command writes to.
func (o *Outputs) Ends() (stdout, stderr *os.File) { return o.ends[Stdout], o.ends[Stderr] }

// Start begins to copy. The command must have been started.
func (o *Outputs) Start() {
	o.closeEnds()
	go func() { // ends in Wait
		defer close(o.done)
		o.copier.run()
	}()
}

// Wait waits until all output is passed on. A process that the command left in
// the background may hold the pipes open: after the grace period nothing more is
// read from them.
func (o *Outputs) Wait(grace time.Duration) {
	over := time.NewTimer(grace)
	defer over.Stop()
	select {
	case <-o.done:
	case <-over.C:
		o.copier.stop()
		<-o.done
	}
	o.copier.close()
}

// Close closes the pipes of a command that was not started.
func (o *Outputs) Close() {
	o.closeEnds()
	o.copier.close()
}

func (o *Outputs) closeEnds() {
	for _, f := range o.ends {
		f.Close()
	}
}
