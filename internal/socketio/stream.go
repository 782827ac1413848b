package socketio

// Source has frames for one socket.
type Source interface {
	// Next gives the next frame, or nil where there is none now; then
	// [Stream.Wake] says that there may be one. It must not block: what takes
	// time is begun here, and wakes the stream when it is done. Calls follow each other.
	Next() *Frame
}

// Stream asks a Source for frames as the client takes them. A socket may have
// several; they take turns.
type Stream struct {
	conn   *conn
	source Source

	// conn.mu guards the rest.
	ready  bool // in conn.ready
	closed bool
	next   *Stream
}

// Stream adds a source to the socket. It is asked first after Wake.
func (s *Socket) Stream(source Source) *Stream {
	return &Stream{conn: s.conn, source: source}
}

// Wake says that the source may have a frame. It sends what the client can take
// now and never waits for the client. It may be called from any goroutine, and
// too often.
func (st *Stream) Wake() {
	st.conn.mu.Lock()
	st.conn.ready.push(st)
	st.conn.mu.Unlock()
	st.conn.session.Wake()
}

// Close ends the stream. A call of the source's Next that is under way is not waited for.
func (st *Stream) Close() {
	st.conn.mu.Lock()
	st.closed = true
	st.conn.mu.Unlock()
}

// streamQueue holds the streams that may have a frame, each once. It is linked
// through the streams, so that an idle client holds nothing for it.
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

// pop gives the next stream that is not closed, nil where there is none.
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
