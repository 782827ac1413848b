// Package socketapi serves builds over Socket.IO: subscribe, update, unsubscribe.
//
//	socket.emit("subscribe", {buildId, lastEventId}, ({after, firstEventId, lastEventId, status, error}) => …)
//	socket.on("update", ({buildId, events, firstEventId, lastEventId, status}) => …)
//	socket.on("subscribe_error", ({buildId, error}) => …)
//
// A subscription is a cursor. Its socket asks for the next frame when the client
// can take one, so there is no queue here; cursors at the same id share the frame.
package socketapi

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/socketio"
)

const (
	// maxBuilds is how many builds one socket may watch.
	maxBuilds = 100

	// retryEvery is the pause after a failed read of the store.
	retryEvery = time.Second

	// statusTimeout bounds the answer to a subscribe.
	statusTimeout = 10 * time.Second
)

// Hub creates cursors; see live.Hub.
type Hub interface {
	WatchFrom(buildID string, start buildcast.Start, wake func()) *live.Cursor
}

// Server serves /socket.io/. Run must be running.
type Server struct {
	*socketio.Server
	hub   Hub
	reads sync.WaitGroup // reads of the store that subscriptions have begun
}

// New returns a server over the hub.
func New(hub Hub, config socketio.Config) *Server {
	s := &Server{hub: hub}
	config.Query = append(config.Query, "lastEventId") // see newClient; nothing else of the handshake is kept
	s.Server = socketio.NewServer(config, map[string]socketio.Namespace{"/": {
		Connect:    func(socket *socketio.Socket, auth json.RawMessage) { socket.Data = newClient(socket, auth) },
		Disconnect: func(socket *socketio.Socket, _ socketio.Reason) { clientOf(socket).close() },
		Events: map[string]func(*socketio.Socket, *socketio.Event){
			"subscribe":   s.subscribe,
			"unsubscribe": s.unsubscribe,
		},
	}})
	return s
}

// Run serves until ctx ends. It returns when all goroutines that it started have
// ended.
func (s *Server) Run(ctx context.Context) error {
	defer s.reads.Wait()
	return s.Server.Run(ctx)
}

// client is one socket: its subscriptions by build.
type client struct {
	socket *socketio.Socket
	// lastEventID is where a subscription without a cursor of its own begins.
	lastEventID *int64

	mu            sync.Mutex
	subscriptions map[string]*subscription
	closed        bool
}

func newClient(socket *socketio.Socket, auth json.RawMessage) *client {
	c := &client{socket: socket, subscriptions: make(map[string]*subscription, 1)}
	var said struct {
		LastEventID *int64 `json:"lastEventId"`
	}
	if json.Unmarshal(auth, &said) == nil && said.LastEventID != nil {
		c.lastEventID = said.LastEventID
	} else if n, err := strconv.ParseInt(socket.Handshake().Query().Get("lastEventId"), 10, 64); err == nil {
		c.lastEventID = &n
	}
	return c
}

func clientOf(socket *socketio.Socket) *client { return socket.Data.(*client) }

func (c *client) close() {
	c.mu.Lock()
	all := c.subscriptions
	c.subscriptions, c.closed = nil, true
	c.mu.Unlock()
	for _, sub := range all {
		sub.close()
	}
}

// replace makes sub the client's subscription of its build.
func (c *client) replace(buildID string, sub *subscription) error {
	c.mu.Lock()
	old := c.subscriptions[buildID]
	switch {
	case c.closed:
		c.mu.Unlock()
		return buildcast.Errorf(buildcast.InvalidArgument, "the socket is closed")
	case old == nil && len(c.subscriptions) >= maxBuilds:
		c.mu.Unlock()
		return buildcast.Errorf(buildcast.TooLarge, "this socket watches %d builds already: unsubscribe from one, or open another socket", maxBuilds).At("buildId")
	}
	c.subscriptions[buildID] = sub
	c.mu.Unlock()
	if old != nil {
		old.close()
	}
	return nil
}

// drop forgets the subscription, if it is still the one of its build.
func (c *client) drop(buildID string, sub *subscription) {
	c.mu.Lock()
	if c.subscriptions[buildID] == sub {
		delete(c.subscriptions, buildID)
	}
	c.mu.Unlock()
	sub.close()
}

// request is the argument of subscribe and unsubscribe. LastEventID, From and Tail
// tell where a subscription begins; at most one of them is set.
type request struct {
	BuildID     string `json:"buildId"`
	LastEventID *int64 `json:"lastEventId"`
	From        string `json:"from"` // "latest": only what is appended from now on
	Tail        *int64 `json:"tail"` // the last so many events
}

// start returns where the subscription begins. If the request has no cursor, it
// begins at the client's own cursor, otherwise.
func (r *request) start(otherwise *int64) (buildcast.Start, error) {
	given := 0
	for _, set := range []bool{r.LastEventID != nil, r.From != "", r.Tail != nil} {
		if set {
			given++
		}
	}
	switch {
	case given > 1:
		return buildcast.Start{}, buildcast.Errorf(buildcast.InvalidArgument, "a subscription has at most one of lastEventId, from and tail")
	case r.LastEventID != nil && *r.LastEventID < 0:
		return buildcast.Start{}, buildcast.Errorf(buildcast.InvalidArgument, "lastEventId is %d: use 0 or the id of the last event you have seen", *r.LastEventID).At("lastEventId")
	case r.From != "" && r.From != "latest":
		return buildcast.Start{}, buildcast.Errorf(buildcast.InvalidArgument, "from is %.20q: use latest, or leave it out", r.From).At("from")
	case r.Tail != nil && (*r.Tail < 1 || *r.Tail > buildcast.MaxTail):
		return buildcast.Start{}, buildcast.Errorf(buildcast.InvalidArgument, "tail is %d: use a number from 1 to %d", *r.Tail, buildcast.MaxTail).At("tail")
	case r.LastEventID != nil:
		return buildcast.Start{After: *r.LastEventID}, nil
	case r.Tail != nil:
		return buildcast.Start{Tail: *r.Tail}, nil
	case r.From == "" && otherwise != nil:
		return buildcast.Start{After: *otherwise}, nil
	}
	return buildcast.Start{Latest: r.From != ""}, nil
}

func readRequest(e *socketio.Event) (request, error) {
	var r request
	if err := e.Bind(0, &r); err != nil {
		return r, buildcast.Errorf(buildcast.InvalidArgument, "the argument is not an object with these fields: send buildId, a string, and lastEventId, a number, if you have seen events")
	}
	if r.BuildID == buildcast.OperationsBuild { // a socket has no API key
		return r, buildcast.Errorf(buildcast.PermissionDenied, "%s is not followed over sockets: read it with an API key at /events/%[1]s", r.BuildID)
	}
	return r, buildcast.ValidateBuildID(r.BuildID)
}

// subscribe registers the cursor, answers with the build's status, and only then
// starts the updates: missed events first, then new ones.
func (s *Server) subscribe(socket *socketio.Socket, e *socketio.Event) {
	r, err := readRequest(e)
	if err != nil {
		refuse(socket, e, r.BuildID, err)
		return
	}
	c := clientOf(socket)
	start, err := r.start(c.lastEventID)
	if err != nil {
		refuse(socket, e, r.BuildID, err)
		return
	}
	sub := s.newSubscription(socket, r.BuildID, start)
	ctx, cancel := context.WithTimeout(socket.Context(), statusTimeout)
	defer cancel()
	begun, err := sub.cursor.Begin(ctx)
	if err == nil {
		err = c.replace(r.BuildID, sub)
	}
	if err != nil {
		sub.close()
		refuse(socket, e, r.BuildID, err)
		return
	}
	_ = e.Ack(subscribed{begun.After, begun.FirstEventID, begun.LastEventID, begun.Status}) // a socket that cannot take it is closed
	sub.start()
}

// subscribed acknowledges a subscribe.
type subscribed struct {
	After        int64             `json:"after"`        // updates have the events after this id
	FirstEventID int64             `json:"firstEventId"` // of the build's log
	LastEventID  int64             `json:"lastEventId"`  // of the build's log
	Status       *buildcast.Status `json:"status"`       // null: no such build exists yet
}

func (s *Server) unsubscribe(socket *socketio.Socket, e *socketio.Event) {
	r, err := readRequest(e)
	if err != nil {
		refuse(socket, e, r.BuildID, err)
		return
	}
	c := clientOf(socket)
	c.mu.Lock()
	sub := c.subscriptions[r.BuildID]
	delete(c.subscriptions, r.BuildID)
	c.mu.Unlock()
	if sub != nil {
		sub.close()
	}
	_ = e.Ack(struct{}{})
}

// refusal tells a client why it is not, or no longer, subscribed.
type refusal struct {
	BuildID string  `json:"buildId,omitempty"`
	Error   problem `json:"error"`
}

type problem struct {
	Code    buildcast.Code `json:"code"`
	Message string         `json:"message"`
	Field   string         `json:"field,omitempty"`
	// Only for cursor_gone and cursor_ahead: where the log begins and ends.
	FirstEventID *int64 `json:"firstEventId,omitempty"`
	LastEventID  *int64 `json:"lastEventId,omitempty"`
}

func refusalOf(buildID string, err error) refusal {
	r := refusal{BuildID: buildID}
	r.Error.Code, r.Error.Message, r.Error.Field = buildcast.Describe(err)
	if at, ok := errors.AsType[*buildcast.CursorError](err); ok {
		r.Error.FirstEventID, r.Error.LastEventID = &at.FirstEventID, &at.LastEventID
	}
	return r
}

// subscribeError is the event that carries a refusal to a client that asked for no
// acknowledgement, and to one whose subscription has ended.
const subscribeError = "subscribe_error"

func refuse(socket *socketio.Socket, e *socketio.Event, buildID string, err error) {
	r := refusalOf(buildID, err)
	if e.WantsAck() {
		_ = e.Ack(r)
		return
	}
	_ = socket.Emit(subscribeError, r)
}
