package engineio

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// poll is a pending GET. Session.mu guards it until done is closed.
type poll struct {
	frames []*Frame
	bytes  int
	status int
	done   chan struct{}
}

// answer ends the pending GET. mu is held.
func (s *Session) answer(status int) {
	s.poll.status = status
	close(s.poll.done)
	s.poll = nil
}

// get serves a client's GET: it waits until there is something to send.
func (s *Session) get(w http.ResponseWriter, r *http.Request) {
	p, refusal := s.startPoll()
	if refusal != nil {
		refusal.write(w)
		return
	}
	// The server's own write deadline is for answers that do not wait for events.
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{})
	s.pump()
	s.await(p, r)
	if p.status != http.StatusOK {
		badRequest.write(w)
		return
	}
	_ = control.SetWriteDeadline(time.Now().Add(s.server.config.PingTimeout))
	writePayload(w, p.frames)
	_ = control.Flush()
	_ = control.SetWriteDeadline(time.Time{})
}

// startPoll makes the GET the pending one.
func (s *Session) startPoll() (*poll, *refusal) {
	s.mu.Lock()
	defer s.unlock()
	switch {
	case s.closed:
		return nil, unknownSession
	case s.ws != nil:
		return nil, badRequest
	case s.poll != nil: // two GETs at once: the client is broken, or there are two
		s.close(TransportError, closeFrame)
		return nil, badRequest
	}
	s.poll = &poll{done: make(chan struct{})}
	if s.polled != nil {
		close(s.polled)
		s.polled = nil
	}
	return s.poll, nil
}

// await returns when p is answered. If the client disconnects while its GET is
// pending, its session is closed, because frames may have been lost.
func (s *Session) await(p *poll, r *http.Request) {
	var noop <-chan time.Time
	s.mu.Lock()
	if s.probe != nil && s.poll == p {
		noop = time.After(noopWait)
	}
	s.mu.Unlock()
	select {
	case <-p.done:
		return
	case <-noop:
		s.mu.Lock()
		if s.poll == p {
			p.frames = append(p.frames, noopFrame)
			s.answer(http.StatusOK)
		}
		s.unlock()
	case <-r.Context().Done():
		s.mu.Lock()
		if s.poll == p {
			s.close(TransportError, closeFrame)
		}
		s.unlock()
	}
	<-p.done
}

// post serves a client's POST: its body is a payload of packets.
func (s *Session) post(w http.ResponseWriter, r *http.Request) {
	if refusal := s.startPost(r); refusal != nil {
		refusal.write(w)
		return
	}
	defer func() {
		s.mu.Lock()
		s.posting = false
		s.mu.Unlock()
	}()
	body := &heldBody{session: s}
	defer func() { s.Release(body.holds) }()
	b, err := s.readBody(w, r, body)
	switch tooLarge := new(http.MaxBytesError); {
	case errors.As(err, &tooLarge):
		payloadTooLarge.write(w)
		return
	case errors.Is(err, errOverloaded):
		s.Close(Overloaded)
		overloaded.write(w)
		return
	case err != nil:
		s.Close(TransportError)
		badRequest.write(w)
		return
	}
	for p, err := range payload(b) {
		if err != nil {
			s.Close(ParseError)
			badRequest.write(w)
			return
		}
		if p.kind == typeClose {
			s.awaitLastPoll(r)
		}
		s.receive(p)
	}
	writeText(w, []byte("ok"))
}

// lastPollWait is how long a close waits for the client's GET if none is pending.
const lastPollWait = 50 * time.Millisecond

// awaitLastPoll waits for the client's GET. A polling client has one pending or
// under way. If the close arrives first, on another connection, the GET is answered
// as if it had arrived before the close.
func (s *Session) awaitLastPoll(r *http.Request) {
	s.mu.Lock()
	if s.closed || s.ws != nil || s.poll != nil {
		s.mu.Unlock()
		return
	}
	polled := make(chan struct{})
	s.polled = polled
	s.mu.Unlock()
	select {
	case <-polled:
	case <-time.After(lastPollWait):
	case <-r.Context().Done():
	}
}

func (s *Session) startPost(r *http.Request) *refusal {
	s.mu.Lock()
	defer s.unlock()
	switch {
	case s.closed:
		return unknownSession
	case s.ws != nil:
		return badRequest
	case s.posting, isBinaryBody(r):
		s.close(TransportError, closeFrame)
		return badRequest
	}
	s.posting = true
	return nil
}

// isBinaryBody reports whether the body is of version 3 of the protocol.
func isBinaryBody(r *http.Request) bool {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/octet-stream")
}

// readBody reads the whole body. A body that is declared too long is refused unread.
func (s *Session) readBody(w http.ResponseWriter, r *http.Request, body *heldBody) ([]byte, error) {
	limit := int64(s.server.config.MaxPayload)
	if r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(s.server.config.PingTimeout))
	body.from = http.MaxBytesReader(w, r.Body, limit)
	b, err := io.ReadAll(body)
	if err == nil {
		_ = control.SetReadDeadline(time.Time{})
	}
	return b, err
}

// heldBody counts the bytes of a body against the budget as they arrive.
type heldBody struct {
	session *Session
	from    io.Reader
	holds   int
}

func (b *heldBody) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if !b.session.Hold(n) {
		return 0, errOverloaded
	}
	b.holds += n
	return n, err
}

var separators = []byte{separator}

// writePayload writes the frames one by one: they are shared with other sessions,
// and a copy would use memory until the client has read it.
func writePayload(w http.ResponseWriter, frames []*Frame) {
	size := len(frames) - 1 // separators
	for _, f := range frames {
		size += f.pollingSize()
	}
	textHeader(w, size)
	for i, f := range frames {
		if i > 0 {
			_, _ = w.Write(separators)
		}
		if _, err := w.Write(f.polling()); err != nil {
			return // the heartbeat closes the session of a client that has disconnected
		}
	}
}

func writeText(w http.ResponseWriter, body []byte) {
	textHeader(w, len(body))
	_, _ = w.Write(body) // the heartbeat closes the session of a client that has disconnected
}

func textHeader(w http.ResponseWriter, size int) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=UTF-8")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(size))
}
