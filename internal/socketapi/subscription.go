package socketapi

import (
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/socketio"
)

// subscription is one socket's cursor on one build. It is the source of the
// socket's frames.
type subscription struct {
	server  *Server
	socket  *socketio.Socket
	buildID string
	cursor  *live.Cursor
	stream  *socketio.Stream

	mu      sync.Mutex
	started bool
	closed  bool
	reading bool        // the store is asked for the next batch
	woken   bool        // there may be more events than the read returns
	read    *live.Batch // the result of the read
}

func (s *Server) newSubscription(socket *socketio.Socket, buildID string, start buildcast.Start) *subscription {
	sub := &subscription{server: s, socket: socket, buildID: buildID}
	sub.stream = socket.Stream(sub)
	sub.cursor = s.hub.WatchFrom(buildID, start, sub.stream.Wake)
	return sub
}

// start starts the updates. Before it, Next returns nil.
func (sub *subscription) start() {
	sub.mu.Lock()
	sub.started = true
	sub.mu.Unlock()
	sub.stream.Wake()
}

// Next implements socketio.Source. It never waits: another goroutine reads a batch
// that is not in memory, and then wakes the stream.
func (sub *subscription) Next() *socketio.Frame {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.woken = true
	if !sub.started || sub.closed || sub.reading {
		return nil
	}
	sub.woken = false
	b, stored := sub.read, false
	if sub.read = nil; b == nil {
		b, stored = sub.cursor.Ready()
	}
	if stored {
		sub.reading = true
		sub.server.reads.Go(sub.readStore)
	}
	if b == nil {
		return nil
	}
	return b.Frame(update).(*socketio.Frame)
}

func (sub *subscription) readStore() {
	b, err := sub.cursor.Take(sub.socket.Context())
	sub.mu.Lock()
	sub.reading, sub.read = false, b
	woken := sub.woken
	sub.mu.Unlock()
	if _, lost := errors.AsType[*buildcast.CursorError](err); lost {
		clientOf(sub.socket).drop(sub.buildID, sub)
		_ = sub.socket.Emit(subscribeError, refusalOf(sub.buildID, err)) // the log was cut: the client must begin elsewhere
		return
	}
	if err != nil {
		time.AfterFunc(retryEvery, sub.stream.Wake) // the store is unreachable; the socket waits
		return
	}
	if b != nil || woken { // otherwise there is no batch now, or no room: the hub wakes the stream
		sub.stream.Wake()
	}
}

func (sub *subscription) close() {
	sub.mu.Lock()
	sub.closed = true
	sub.mu.Unlock()
	sub.stream.Close()
	sub.cursor.Close()
}

// update encodes a batch as the packet that every socket gets: the same fields as a
// poll's answer, and the status.
func update(b *live.Batch) live.Sized {
	arg := make([]byte, 0, b.Size()+600)
	arg = append(arg, `{"buildId":"`...)
	arg = append(arg, b.BuildID...)
	arg = append(arg, `","events":`...)
	arg = b.AppendJSON(arg)
	arg = append(arg, `,"firstEventId":`...)
	arg = strconv.AppendInt(arg, b.Status.FirstEventID, 10)
	arg = append(arg, `,"lastEventId":`...)
	arg = strconv.AppendInt(arg, b.Last(), 10)
	arg = append(arg, `,"status":`...)
	status, err := json.Marshal(&b.Status)
	if err != nil {
		status = []byte("null") // unreachable: a status has only strings and numbers
	}
	arg = append(append(arg, status...), '}')
	return socketio.NewFrame("/", "update", arg)
}
