package live

import (
	"strconv"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deflate"
)

// Batch is a run of consecutive events of one build: at least one. It is shared
// by every cursor that stood at the same id and must not be changed. Each of its
// forms is encoded when it is first asked for, once for all readers.
type Batch struct {
	BuildID string
	Events  []buildcast.Event
	// Status is the build's status after the batch's last event, or after a later one.
	Status buildcast.Status

	made  time.Time
	size  int  // approximate, of the events as JSON, in bytes
	piece bool // it was made small, and more events follow at once
	share share
	sse   struct {
		sync.Once
		b []byte
	}
	deflated struct {
		sync.Once
		b []byte
	}
	frame struct {
		sync.Once
		v Sized
	}
}

func newBatch(buildID string, events []buildcast.Event, status buildcast.Status) *Batch {
	b := &Batch{BuildID: buildID, Events: events, Status: status, made: time.Now()}
	for i := range events {
		b.size += eventSize(&events[i])
	}
	return b
}

// First returns the id of the batch's first event.
func (b *Batch) First() int64 { return b.Events[0].ID }

// Last returns the id of the batch's last event: the cursor of a reader that has it.
func (b *Batch) Last() int64 { return b.Events[len(b.Events)-1].ID }

// Ended reports whether the build is finished and no event follows this batch.
func (b *Batch) Ended() bool {
	return b.Status.Phase.Terminal() && b.Last() >= b.Status.LastEventID
}

// Size returns the approximate size of the events as JSON, in bytes.
func (b *Batch) Size() int { return b.size }

// AppendJSON appends the events as a JSON array.
func (b *Batch) AppendJSON(out []byte) []byte {
	out = append(out, '[')
	for i := range b.Events {
		if i > 0 {
			out = append(out, ',')
		}
		out = b.Events[i].AppendJSON(out)
	}
	return append(out, ']')
}

// SSE returns the events as server-sent events, each with id and data. They have no
// event field, so that a browser's onmessage gets all of them.
func (b *Batch) SSE() []byte {
	b.sse.Do(func() {
		out := make([]byte, 0, b.size+24*len(b.Events))
		for i := range b.Events {
			e := &b.Events[i]
			out = append(out, "id: "...)
			out = strconv.AppendInt(out, e.ID, 10)
			out = append(out, "\ndata: "...)
			out = e.AppendJSON(out)
			out = append(out, "\n\n"...)
		}
		b.sse.b = out
		b.share.grow(cap(out))
	})
	return b.sse.b
}

// Deflated returns SSE as a piece of a gzip stream; see deflate.Member.
func (b *Batch) Deflated() []byte {
	b.deflated.Do(func() {
		b.deflated.b = deflate.Piece(b.SSE())
		b.share.grow(cap(b.deflated.b))
	})
	return b.deflated.b
}

// Frame returns the batch in a form that this package does not know, such as a
// Socket.IO packet. Only the first call encodes, so all callers must pass the same
// encode.
func (b *Batch) Frame(encode func(*Batch) Sized) Sized {
	b.frame.Do(func() {
		b.frame.v = encode(b)
		b.share.grow(b.frame.v.Size())
	})
	return b.frame.v
}

// Sized is an encoding that knows its size in bytes.
type Sized interface{ Size() int }

// eventSize returns the approximate size of an event that is encoded once, in bytes.
func eventSize(e *buildcast.Event) int { return len(e.Data) + buildcast.EventOverhead }
