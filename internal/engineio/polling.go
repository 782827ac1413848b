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
	// The server's own time limit is for answers that do not wait for events.
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
	case s.poll != nil: // two GETs at once: the client has lost its mind, or is two
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

// await returns when p is answered. A client that goes away while its GET is
// pending may have lost what was sent, so its session is closed.
func (s *Session) await(p *poll, r *http.Request) {
	var noop <-chan time.Time
	s.mu.Lock()
	if s.probe != nil && s.poll == p {
		timer := time.NewTimer(noopWait)
		defer timer.Stop()
		noop = timer.C
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
	body, err := s.readBody(w, r)
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		payloadTooLarge.write(w)
		return
	}
	if err != nil {
		s.Close(TransportError)
		badRequest.write(w)
		return
	}
	for p, err := range payload(body) {
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

// lastPollWait is how long a client's close waits for its GET where none is pending.
const lastPollWait = 50 * time.Millisecond

// awaitLastPoll waits for the client's GET. A client that polls has one pending
// or on its way; one that is overtaken by the close on another connection is
// to be answered like one that came before it.
func (s *Session) awaitLastPoll(r *http.Request) {
	s.mu.Lock()
	if s.closed || s.ws != nil || s.poll != nil {
		s.mu.Unlock()
		return
	}
	polled := make(chan struct{})
	s.polled = polled
	s.mu.Unlock()
	timer := time.NewTimer(lastPollWait)
	defer timer.Stop()
	select {
	case <-polled:
	case <-timer.C:
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

// isBinaryBody recognises the body of version 3 of the protocol.
func isBinaryBody(r *http.Request) bool {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/octet-stream")
}

// readBody reads the whole body. A body that is declared too long is refused unread.
func (s *Session) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit := int64(s.server.config.MaxPayload)
	if r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(s.server.config.PingTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		_ = control.SetReadDeadline(time.Time{})
	}
	return body, err
}

func writePayload(w http.ResponseWriter, frames []*Frame) {
	size := 0
	for _, f := range frames {
		size += 1 + f.Size()
	}
	writeText(w, appendPayload(make([]byte, 0, size), frames))
}

func writeText(w http.ResponseWriter, body []byte) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=UTF-8")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that is gone is noticed by its next request, or by the heartbeat
}
