package socketio

// Source returns frames for one socket.
type Source interface {
	// Next returns the next frame, or nil if there is none now; when there may be
	// one, the source calls [Stream.Wake]. Next must not block: it may start slow
	// work that wakes the stream at its end. Calls do not overlap.
	Next() *Frame
}

// Stream calls a Source for frames as the client takes them. A socket may have
// several streams; they take turns.
type Stream struct {
	conn   *conn
	source Source

	// conn.mu guards the rest.
	ready  bool // in conn.ready
	closed bool
	next   *Stream
}

// Stream adds a source to the socket. Next is not called before Wake.
func (s *Socket) Stream(source Source) *Stream {
	return &Stream{conn: s.conn, source: source}
}

// Wake is called when the source may have a frame. It sends what the client can
// take now and never waits for the client. It may be called from any goroutine,
// and more often than needed.
func (st *Stream) Wake() {
	st.conn.mu.Lock()
	st.conn.ready.push(st)
	st.conn.mu.Unlock()
	st.conn.session.Wake()
}

// Close ends the stream. It does not wait for a call of the source's Next to return.
func (st *Stream) Close() {
	st.conn.mu.Lock()
	st.closed = true
	st.conn.mu.Unlock()
}

// streamQueue holds the streams that may have a frame, each once. The links are
// in the streams, so the queue of an idle client takes no memory.
type streamQueue struct{ first, last *Stream }

func (q *streamQueue) push(st *Stream) {
	if st.ready || st.closed || st.conn.closed {
		return
	}
	st.ready = true
	if q.last == nil {
		q.first = st
	} else {
		q.last.next = st
	}
	q.last = st
}

// pop returns the next stream that is not closed, or nil.
func (q *streamQueue) pop() *Stream {
	for st := q.first; st != nil; st = q.first {
		if q.first = st.next; q.first == nil {
			q.last = nil
		}
		st.ready, st.next = false, nil
		if !st.closed {
			return st
		}
	}
	return nil
}
