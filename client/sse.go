package client

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxLine and maxMessage bound what a stream can make this process keep, in
	// bytes. An event's data is 64 KiB at most.
	maxLine    = 1 << 20
	maxMessage = 1 << 20
)

var errTooLong = fmt.Errorf("%w: it has a line or a message of more than 1 MiB", errDefect)

// message is one server-sent event.
type message struct {
	event string // its type; empty: none is given
	data  []byte
}

// parser takes a stream of server-sent events in pieces as they come, cut
// anywhere, and returns the messages that are complete. The rules are those of the
// HTML standard; the field id is passed over, as an event names its own.
type parser struct {
	retry time.Duration // that the server asks for; 0: it did not

	line   []byte // the last one, as far as it has come
	begun  bool   // the first line has ended
	cr     bool   // it ended with CR: an LF that follows belongs to it
	event  string
	data   []byte
	filled bool // there is data, perhaps empty
}

// feed takes the next piece. After an error the stream cannot be read further;
// the messages before it are given all the same.
func (p *parser) feed(piece []byte) (complete []message, err error) {
	for len(piece) > 0 {
		if p.cr && piece[0] == '\n' {
			p.cr, piece = false, piece[1:]
			continue
		}
		p.cr = false
		end := bytes.IndexAny(piece, "\r\n")
		part := piece
		if end >= 0 {
			part = piece[:end]
		}
		if len(p.line)+len(part) > maxLine {
			return complete, errTooLong
		}
		p.line = append(p.line, part...)
		if end < 0 {
			break
		}
		p.cr, piece = piece[end] == '\r', piece[end+1:]
		m, ok, err := p.endLine()
		if err != nil {
			return complete, err
		}
		if ok {
			complete = append(complete, m)
		}
	}
	return complete, nil
}

// endLine takes the line that is complete now. An empty one completes a message.
func (p *parser) endLine() (m message, ok bool, err error) {
	line := p.line
	p.line = p.line[:0]
	if !p.begun {
		p.begun, line = true, bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	if len(line) == 0 {
		m, ok = message{p.event, bytes.TrimSuffix(p.data, []byte("\n"))}, p.filled
		p.event, p.data, p.filled = "", nil, false
		return m, ok, nil
	}
	name, value, _ := bytes.Cut(line, []byte(":")) // a line that begins with : is a comment
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "data":
		if len(p.data)+len(value)+1 > maxMessage {
			return m, false, errTooLong
		}
		p.data = append(append(slices.Grow(p.data, len(value)+1), value...), '\n')
		p.filled = true
	case "event":
		p.event = string(value)
	case "retry":
		digits := string(value)
		if ms, err := strconv.ParseUint(digits, 10, 31); err == nil && !strings.HasPrefix(digits, "+") {
			p.retry = time.Duration(ms) * time.Millisecond
		}
	}
	return m, false, nil
}
