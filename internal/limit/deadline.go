package limit

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// answerTimeout is how long the client may take for one piece of an answer.
	answerTimeout = 30 * time.Second
	// pieceBytes is the longest piece. With answerTimeout it makes the slowest
	// client that is served: 2 kB/s.
	pieceBytes = 64 << 10
	// bodyTimeout is how long a request's body may take, unless the handler sets
	// a read deadline of its own.
	bodyTimeout = time.Minute
	// unreadTimeout is how long a body that no handler reads may take.
	unreadTimeout = 5 * time.Second
	// maxUnread is the longest body that is read and dropped.
	maxUnread = 64 << 10
)

// Deadlines bounds the time of each answer and each body. http.Server's own timeouts
// bound a whole answer and would end streams.
//
// The client must take each piece of an answer within answerTimeout, so an answer
// may last as long as its client reads. If a handler sets a write deadline, that
// deadline holds until the handler sets the zero time.
//
// The body of a GET, which no handler reads, is dropped before the handler runs:
// net/http notices that a client has left only once the body is read.
func Deadlines(h http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := &writer{ResponseWriter: rw, conn: http.NewResponseController(rw)}
		w.renew(time.Now()) // the previous request's deadline may have passed
		defer w.end()
		if r.ContentLength != 0 {
			defer w.takeBody(r)()
		}
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions:
			if r.ContentLength != 0 && !w.dropBody(r) {
				w.Header().Set("Connection", "close")
				http.Error(w, "a "+r.Method+" takes no body: send the request without one", http.StatusBadRequest)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

// writer sets a deadline before each piece of an answer.
type writer struct {
	http.ResponseWriter
	conn     *http.ResponseController
	renewed  time.Time
	own      bool // the handler has set a deadline
	hijacked bool
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) renew(now time.Time) {
	w.renewed = now
	_ = w.conn.SetWriteDeadline(now.Add(answerTimeout)) // fails for a recorder in a test, which needs no deadline
}

// prepare renews the deadline for a piece if needed. Renewing costs more than reading
// the clock, so pieces in quick succession share a deadline.
func (w *writer) prepare() {
	if w.own {
		return
	}
	if now := time.Now(); now.Sub(w.renewed) > answerTimeout/16 {
		w.renew(now)
	}
}

func (w *writer) WriteHeader(status int) {
	w.prepare()
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(b []byte) (written int, err error) {
	for {
		w.prepare()
		piece := b[:min(len(b), pieceBytes)]
		n, err := w.ResponseWriter.Write(piece)
		written += n
		if b = b[len(piece):]; err != nil || len(b) == 0 {
			return written, err
		}
	}
}

// FlushError is what http.ResponseController calls.
func (w *writer) FlushError() error {
	w.prepare()
	return w.conn.Flush()
}

// Hijack is what http.ResponseController calls. net/http removes the deadlines.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := w.conn.Hijack()
	w.hijacked = w.hijacked || err == nil
	return conn, buffers, err
}

// SetWriteDeadline is called by the handler through http.ResponseController.
func (w *writer) SetWriteDeadline(deadline time.Time) error {
	if w.own = !deadline.IsZero(); w.own {
		return w.conn.SetWriteDeadline(deadline)
	}
	w.renew(time.Now())
	return nil
}

// end renews the deadline for the bytes that net/http sends after the handler.
func (w *writer) end() {
	if !w.hijacked {
		w.renew(time.Now())
	}
}

// takeBody bounds the time of the request's body. The caller calls the returned
// function at the end of the request, because net/http then reads the rest.
func (w *writer) takeBody(r *http.Request) (end func()) {
	_ = w.conn.SetReadDeadline(time.Now().Add(bodyTimeout))
	b := &body{ReadCloser: r.Body, conn: w.conn}
	r.Body = b
	return func() {
		if !w.hijacked && !b.over.Load() {
			_ = w.conn.SetReadDeadline(time.Now().Add(unreadTimeout))
		}
	}
}

// body removes the deadline once it is read. net/http continues to read, to notice
// when the client disconnects, and would mistake the deadline for that.
type body struct {
	io.ReadCloser
	conn *http.ResponseController
	over atomic.Bool // read to its end, or failed
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !b.over.Swap(true) && errors.Is(err, io.EOF) {
		_ = b.conn.SetReadDeadline(time.Time{})
	}
	return n, err
}

// dropBody reads and drops a body. It returns false if the body is too long or does
// not arrive in time.
func (w *writer) dropBody(r *http.Request) bool {
	_ = w.conn.SetReadDeadline(time.Now().Add(unreadTimeout))
	n, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxUnread+1))
	return err == nil && n <= maxUnread
}
