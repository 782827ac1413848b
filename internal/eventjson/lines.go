package eventjson

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/buildcast/buildcast"
)

const (
	// MaxLine bounds a line: the data, with room for the type, the key and the timestamp.
	MaxLine = buildcast.MaxEventData + 8<<10

	arenaSize = 16 << 10 // lines share pieces of memory of this size
)

// Lines reads one event a line. Blank lines count, and are passed over.
type Lines struct {
	from   *bufio.Reader
	arena  []byte
	number int
	ended  bool
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, MaxLine+2) }}

// NewLines reads from r. Close it.
func NewLines(r io.Reader) *Lines {
	from := readers.Get().(*bufio.Reader)
	from.Reset(r)
	return &Lines{from: from}
}

// Close gives the buffer back. It does not close the reader below.
func (l *Lines) Close() {
	l.from.Reset(nil)
	readers.Put(l.from)
	l.from = nil
}

// Next reads the next line. blank: it has no event. It returns io.EOF after the last
// line, and errors of the reader below as they are.
func (l *Lines) Next() (e buildcast.NewEvent, blank bool, err error) {
	if l.ended {
		return e, false, io.EOF
	}
	l.number++
	line, err := l.from.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull) || len(line) > MaxLine+1:
		return e, false, buildcast.Errorf(buildcast.TooLarge, "line %d is longer than %d bytes: send less data in one event, at most %d bytes", l.number, MaxLine, buildcast.MaxEventData)
	case errors.Is(err, io.EOF):
		l.ended = true
	case err != nil:
		return e, false, err
	}
	if line = bytes.TrimSpace(line); len(line) == 0 {
		return e, true, nil
	}
	e, err = DecodeLine(l.keep(line))
	return e, false, err
}

// Number is the number of the last line, from 1.
func (l *Lines) Number() int { return l.number }

// keep copies the line to where the event may hold on to it. Small lines share a
// piece of memory. It is never used again once it is full.
func (l *Lines) keep(line []byte) []byte {
	if cap(l.arena)-len(l.arena) < len(line) {
		l.arena = make([]byte, 0, max(arenaSize, len(line)))
	}
	n := len(l.arena)
	l.arena = append(l.arena, line...)
	return l.arena[n:len(l.arena):len(l.arena)]
}
