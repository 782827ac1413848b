package socketio

import (
	"context"
	"encoding/json"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/buildcast/buildcast/internal/engineio"
)

// Reason is why a socket was closed.
type Reason = engineio.Reason

// The reasons in addition to those of engineio.
const (
	ClientDisconnect Reason = "client namespace disconnect"
	ServerDisconnect Reason = "server namespace disconnect"
	QueueOverflow    Reason = "queue overflow" // the client does not read its answers
)

// Config configures a Server. The zero value has the protocol's defaults, except
// that no packet may have attachments.
type Config struct {
	engineio.Config
	// ConnectTimeout is how long a client has to join a namespace. Default 45 s.
	// Until then its session is pending; Config.MaxPending bounds the pending
	// sessions. Its default here is 10,000, and 5,000 for one host.
	ConnectTimeout time.Duration
	// Attachments is how many binary attachments a packet from a client may
	// have, 10 at most. Default: none, and a packet that announces one closes
	// the connection.
	Attachments int
	// MaxPacket is the most bytes of a packet with its attachments. Default:
	// MaxPayload, which bounds each single message.
	MaxPacket int
	// QueuePackets and QueueBytes bound the answers that wait for one client;
	// beyond either it is closed. Defaults 256 and 4 MiB.
	QueuePackets, QueueBytes int
}

func (c Config) withDefaults() Config {
	for _, setting := range []struct {
		value     *int
		otherwise int
	}{
		{&c.MaxPayload, 1_000_000},
		{&c.QueuePackets, 256},
		{&c.QueueBytes, 4 << 20},
		{&c.MaxPending, 10_000},
		{&c.MaxPendingPerHost, 5000},
	} {
		if *setting.value <= 0 {
			*setting.value = setting.otherwise
		}
	}
	if c.MaxPacket <= 0 {
		c.MaxPacket = c.MaxPayload
	}
	if c.ConnectTimeout <= 0 {
		c.ConnectTimeout = 45 * time.Second
	}
	c.Attachments = min(c.Attachments, maxAttachments)
	return c
}

// Namespace holds the handlers of a namespace. Each function may be nil. For one
// client, only Disconnect may run at the same time as another of them.
type Namespace struct {
	// Authorize decides whether a client may join: if it returns nil, the client
	// joins. auth is the JSON object that the client sent, {} if it sent none.
	Authorize func(s *Socket, auth json.RawMessage) *Refusal
	// Connect is called when the client has joined and has been answered.
	Connect func(s *Socket, auth json.RawMessage)
	// Disconnect is called once for each socket that Connect was called for.
	// Another of the functions may still be running.
	Disconnect func(s *Socket, reason Reason)
	// Events are the handlers by event name. Other events are ignored.
	Events map[string]func(s *Socket, e *Event)
}

// Refusal is sent to a client that may not join. The stock client does not try again.
type Refusal struct {
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// Server is the HTTP handler of /socket.io/. Run must be running.
type Server struct {
	config     Config
	engine     *engineio.Server
	namespaces map[string]Namespace
}

// NewServer returns a server of the namespaces, by their names ("/" is the main one).
func NewServer(config Config, namespaces map[string]Namespace) *Server {
	s := &Server{config: config.withDefaults(), namespaces: namespaces}
	s.engine = engineio.NewServer(s.config.Config, s.open)
	return s
}

// ServeHTTP serves every request of the protocol's path. Other servers serve the
// client's script below this path; here the answer is how to install it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if name := path.Base(r.URL.Path); strings.HasPrefix(name, "socket.io.") {
		http.Error(w, "The Socket.IO client is not served here: install it with `npm install socket.io-client` and import { io } from \"socket.io-client\".", http.StatusNotFound)
		return
	}
	s.engine.ServeHTTP(w, r)
}

// Run sends the heartbeats until ctx ends, then drains, and returns when all
// goroutines that it started have ended.
func (s *Server) Run(ctx context.Context) error { return s.engine.Run(ctx) }

// Drain refuses new clients and closes the connections of the others. It sends no
// DISCONNECT packet: after one, the stock client would not connect to the next
// server.
func (s *Server) Drain() { s.engine.Drain() }

// Sessions returns how many clients are connected.
func (s *Server) Sessions() int { return s.engine.Sessions() }

func (s *Server) open(session *engineio.Session) engineio.Conn {
	c := &conn{server: s, session: session}
	c.mu.Lock() // the timer may run before it is set
	defer c.mu.Unlock()
	c.connectTimer = time.AfterFunc(s.config.ConnectTimeout, c.connectTimedOut)
	return c
}
