package httpapi

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deflate"
	"github.com/buildcast/buildcast/internal/httpapi/body"
)

const (
	// pieceBytes is about how much of a page is in memory at once, in bytes of
	// events' data; pieceEvents bounds it if they have little.
	pieceBytes  = 24 << 10
	pieceEvents = pieceBytes / buildcast.EventOverhead
	// pageBytes is about how long a page gets, whatever its limit.
	pageBytes = 4 << 20
	// zipFrom is the shortest answer that is compressed.
	zipFrom = 1 << 10
)

// pageWriter sends a page of events in pieces, so that a slow client holds one
// piece in memory and not the whole page. What is under way to all clients is
// bounded by the hub. A page that fits one piece is sent as a whole.
type pageWriter struct {
	w   http.ResponseWriter
	hub Hub
	zip bool

	buf    *[]byte // of pageBuffers: the piece; nil before the page begins
	begun  bool    // something was sent
	left   bool    // the client has
	size   int     // bytes sent
	events int     // how many were taken
	at     int64   // the last event that was taken
	sent   int64   // the last event that was sent
	member deflate.Member
	headed bool // the gzip stream has its header
}

var pageBuffers = sync.Pool{New: func() any { return new([]byte) }}

const maxPooled = 256 << 10 // bytes; larger buffers are left to the collector

func newPageWriter(w http.ResponseWriter, r *http.Request, hub Hub) *pageWriter {
	return &pageWriter{w: w, hub: hub, zip: acceptsGzip(r)}
}

func (p *pageWriter) close() {
	if p.begun {
		_ = http.NewResponseController(p.w).SetWriteDeadline(time.Time{}) // the next answer's time is its own
	}
	if p.buf != nil && cap(*p.buf) <= maxPooled {
		pageBuffers.Put(p.buf)
	}
}

// page sends the events of the span. read returns the next ones after an id, about
// a piece of them. It reports false, with nothing sent, if the first ones are no
// longer kept. A page that cannot be read or sent to its end is ended early: the
// client asks for the rest.
func (p *pageWriter) page(s span, read func(after int64) ([]buildcast.Event, error)) (done bool, err error) {
	p.buf = pageBuffers.Get().(*[]byte)
	*p.buf = append((*p.buf)[:0], `{"events":[`...)
	p.at, p.sent = s.after, s.after
	for p.at < s.end && p.size < pageBytes && !p.left {
		goOn, err := p.next(read)
		if !p.begun && (err != nil || p.events == 0) {
			return false, err
		}
		if !goOn {
			break
		}
	}
	b := append(*p.buf, `],"firstEventId":`...)
	b = strconv.AppendInt(b, s.first, 10)
	b = append(b, `,"lastEventId":`...)
	b = strconv.AppendInt(b, p.at, 10)
	b = append(b, `,"hasMore":`...)
	b = strconv.AppendBool(b, s.last > p.at)
	*p.buf = append(b, '}')
	return true, p.finish()
}

// next takes the next events, and sends the piece if it is full. The events are let
// go before the client is waited for.
func (p *pageWriter) next(read func(after int64) ([]buildcast.Event, error)) (goOn bool, err error) {
	events, err := read(p.at)
	if err != nil || len(events) == 0 || events[0].ID != p.at+1 {
		return false, err
	}
	for i := range events {
		if p.events > 0 {
			*p.buf = append(*p.buf, ',')
		}
		*p.buf = events[i].AppendJSON(*p.buf)
		p.events++
	}
	p.at = events[len(events)-1].ID
	if len(*p.buf) < pieceBytes {
		return true, nil
	}
	if err := p.flush(); err != nil {
		*p.buf, p.at = (*p.buf)[:0], p.sent
		return false, err
	}
	return true, nil
}

// flush sends the piece. Overloaded: too much is under way; the piece is not sent.
func (p *pageWriter) flush() error {
	n := cap(*p.buf)
	if err := p.hub.Reserve(n); err != nil {
		return err
	}
	defer p.hub.Release(n)
	if !p.begun {
		p.head()
		p.w.WriteHeader(http.StatusOK)
	}
	p.begun, p.sent, p.size = true, p.at, p.size+len(*p.buf)
	p.write(p.encoded())
	*p.buf = (*p.buf)[:0]
	return nil
}

// finish sends the last piece, or all of a short page.
func (p *pageWriter) finish() error {
	n := cap(*p.buf)
	if err := p.hub.Reserve(n); err != nil && !p.begun {
		return err
	} else if err == nil {
		defer p.hub.Release(n)
	}
	if p.begun {
		p.write(p.encoded())
		if p.zip {
			p.write(p.member.Trailer())
		}
		return nil
	}
	p.zip = p.zip && len(*p.buf) >= zipFrom
	p.head()
	out := p.encoded()
	if p.zip {
		out = append(out, p.member.Trailer()...)
	}
	body.Send(p.w, http.StatusOK, body.JSON, out)
	return nil
}

func (p *pageWriter) head() {
	h := p.w.Header()
	h.Set("Content-Type", body.JSON)
	if p.zip {
		h.Set("Content-Encoding", "gzip")
	}
}

// encoded is the piece as it is sent.
func (p *pageWriter) encoded() []byte {
	if !p.zip {
		return *p.buf
	}
	p.member.Add(*p.buf)
	piece := deflate.Piece(*p.buf)
	if p.headed {
		return piece
	}
	p.headed = true
	return append([]byte(deflate.Header), piece...)
}

// write sends bytes. A client has body.SendTimeout for each piece.
func (p *pageWriter) write(b []byte) {
	_ = http.NewResponseController(p.w).SetWriteDeadline(time.Now().Add(body.SendTimeout))
	_, err := p.w.Write(b) //nolint:gosec // JSON, and sent as such
	p.left = p.left || err != nil
}

// pieceOf returns the events that make about a piece: at least one.
func pieceOf(events []buildcast.Event) []buildcast.Event {
	size := 0
	for i := range events {
		if size += len(events[i].Data) + buildcast.EventOverhead; size > pieceBytes && i > 0 {
			return events[:i]
		}
	}
	return events
}
