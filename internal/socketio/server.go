package socketio

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/buildcast/buildcast/internal/engineio"
)

// Reason says why a socket was closed.
type Reason = engineio.Reason

// The reasons beside those of engineio.
const (
	ClientDisconnect Reason = "client namespace disconnect"
	ServerDisconnect Reason = "server namespace disconnect"
	QueueOverflow    Reason = "queue overflow" // the client does not take its answers
)

// Config is what a server may be told. The zero value is the protocol's defaults.
type Config struct {
	engineio.Config
	// ConnectTimeout is how long a client has to join a namespace. Default 45 s.
	ConnectTimeout time.Duration
	// QueuePackets and QueueBytes bound the answers that wait for one client;
	// beyond either it is closed. Defaults 256 and 4 MB.
	QueuePackets, QueueBytes int
}

func (c Config) withDefaults() Config {
	if c.ConnectTimeout <= 0 {
		c.ConnectTimeout = 45 * time.Second
	}
	if c.QueuePackets <= 0 {
		c.QueuePackets = 256
	}
	if c.QueueBytes <= 0 {
		c.QueueBytes = 4 << 20
	}
	return c
}

// Namespace says what happens in a namespace. Each function may be nil. None
// is called while another one runs for the same client, except Disconnect.
type Namespace struct {
	// Authorize decides whether a client may join: nil lets it in. auth is the
	// JSON object that the client sent, {} where it sent none.
	Authorize func(s *Socket, auth json.RawMessage) *Refusal
	// Connect follows when the client has joined and was told so.
	Connect func(s *Socket, auth json.RawMessage)
	// Disconnect is called once for each socket that Connect was called for,
	// perhaps while another of the functions still runs.
	Disconnect func(s *Socket, reason Reason)
	// Events are the handlers by event name. Other events are ignored.
	Events map[string]func(s *Socket, e *Event)
}

// Refusal is told to a client that may not join. The stock client does not try again.
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

// NewServer makes a server of the namespaces, by their names ("/" is the main one).
func NewServer(config Config, namespaces map[string]Namespace) *Server {
	s := &Server{config: config.withDefaults(), namespaces: namespaces}
	s.engine = engineio.NewServer(config.Config, s.open)
	return s
}

// ServeHTTP serves every request of the protocol's path.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.engine.ServeHTTP(w, r) }

// Run does the heartbeats until ctx ends, then drains, and returns when all it
// started has ended.
func (s *Server) Run(ctx context.Context) error { return s.engine.Run(ctx) }

// Drain refuses new clients and closes the connections of those that are here,
// without a DISCONNECT packet: after one of those the stock client stays away,
// so it connects to the next server.
func (s *Server) Drain() { s.engine.Drain() }

// Sessions is how many clients are connected.
func (s *Server) Sessions() int { return s.engine.Sessions() }

func (s *Server) open(session *engineio.Session) engineio.Conn {
	c := &conn{server: s, session: session}
	c.mu.Lock() // the timer may run before it is set
	defer c.mu.Unlock()
	c.connectTimer = time.AfterFunc(s.config.ConnectTimeout, c.connectTimedOut)
	return c
}
