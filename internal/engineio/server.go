package engineio

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"sync"

	"github.com/buildcast/buildcast/internal/limit"
)

// Server is the HTTP handler of the protocol's path. Run must be running: it sends
// the heartbeats, and closes all sessions when it ends.
type Server struct {
	config    Config
	open      func(*Session) Conn
	heartbeat *heartbeat
	crowd     *limit.Crowd // decides which session is closed when there are too many
	budget    budget
	tasks     sync.WaitGroup // the goroutines of WebSockets

	mu       sync.Mutex
	draining bool
	sessions map[string]*Session
}

// NewServer returns a server. It calls open for the Conn of each new session, before
// the client knows the session's id. open must not block.
func NewServer(config Config, open func(*Session) Conn) *Server {
	config = config.withDefaults()
	return &Server{
		config:    config,
		open:      open,
		heartbeat: newHeartbeat(config.PingInterval, config.PingTimeout),
		crowd: limit.NewCrowd(limit.CrowdConfig{
			Idle: config.MaxPending, IdlePerHost: config.MaxPendingPerHost, Active: config.MaxSessions,
			Full: func() {
				config.Logger.Warn("too many socket sessions: the oldest are closed for new ones", "sessions", config.MaxSessions)
			},
		}),
		budget:   budget{limit: int64(config.MaxBuffered)},
		sessions: make(map[string]*Session),
	}
}

// Run sends the heartbeats until ctx ends, then drains, and returns when all
// goroutines of WebSockets have ended.
func (s *Server) Run(ctx context.Context) error {
	s.heartbeat.run(ctx)
	s.Drain()
	s.tasks.Wait()
	return nil
}

// Drain refuses new sessions and closes the open ones in a way that makes their
// clients connect again, to the next server.
func (s *Server) Drain() {
	s.mu.Lock()
	s.draining = true
	open := make([]*Session, 0, len(s.sessions))
	for _, session := range s.sessions {
		open = append(open, session)
	}
	s.mu.Unlock()
	for _, session := range open {
		session.Close(ServerShutdown)
	}
}

// Sessions returns how many sessions are open.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// ServeHTTP serves every request of the protocol's path.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.allowOrigin(w, r); err != nil {
		forbidden(err).write(w)
		return
	}
	if r.Method == http.MethodOptions {
		preflight(w, r)
		return
	}
	query := r.URL.Query()
	transport, upgrade := query.Get("transport"), isUpgrade(r)
	if transport != "polling" && transport != "websocket" {
		unknownTransport.write(w)
		return
	}
	if sid := query.Get("sid"); sid != "" {
		s.serveSession(w, r, sid, transport, upgrade)
		return
	}
	switch {
	case r.Method != http.MethodGet:
		badHandshakeMethod.write(w)
	case (transport == "websocket") != upgrade:
		badRequest.write(w)
	case query.Get("EIO") != "4":
		unsupportedVersion.write(w)
	default:
		s.openSession(w, r, query, upgrade)
	}
}

// serveSession serves a request that names a session.
func (s *Server) serveSession(w http.ResponseWriter, r *http.Request, sid, transport string, upgrade bool) {
	session := s.session(sid)
	switch {
	case session == nil:
		unknownSession.write(w)
	case (transport == "websocket") != upgrade:
		badRequest.write(w)
	case upgrade:
		s.upgradeSession(w, r, session)
	case r.Method == http.MethodGet:
		session.get(w, r)
	case r.Method == http.MethodPost:
		session.post(w, r)
	default:
		badRequest.write(w)
	}
}

// session returns an open session, or nil. It closes a session whose deadline has
// passed if the heartbeat has not done so yet.
func (s *Server) session(sid string) *Session {
	s.mu.Lock()
	session := s.sessions[sid]
	s.mu.Unlock()
	if session != nil && s.heartbeat.expired(session) {
		session.Close(PingTimeout)
		return nil
	}
	return session
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// begin opens the session, and closes another one if there are too many. It
// reports false if the server is draining.
func (s *Server) begin(session *Session, addr netip.Addr) bool {
	if !s.add(session) {
		session.conn.Closed(ServerShutdown)
		return false
	}
	member := s.crowd.Enter(addr, func() { session.Close(Overloaded) })
	session.mu.Lock()
	session.member = member
	if session.closed {
		member.Leave()
	}
	session.unlock()
	if s.config.MaxPending <= 0 {
		session.Settle()
	}
	return true
}

// add adds the session to the list.
func (s *Server) add(session *Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.sessions[session.id] = session
	s.heartbeat.renew(session)
	if session.ws != nil {
		s.tasks.Add(1) // its reader: counted here, so that Run waits for it
	}
	return true
}

// forget removes a closed session from the list. session.mu is held.
func (s *Server) forget(session *Session) {
	s.mu.Lock()
	delete(s.sessions, session.id)
	s.mu.Unlock()
	s.heartbeat.remove(session)
	session.member.Leave()
}

func (s *Server) newSession(h Handshake, t *webSocket) *Session {
	session := &Session{server: s, id: newID(), handshake: h, ws: t}
	if t != nil {
		t.session = session
	}
	session.conn = s.open(session)
	return session
}

// openSession serves a handshake.
func (s *Server) openSession(w http.ResponseWriter, r *http.Request, query url.Values, upgrade bool) {
	h, ok := s.config.handshake(r, query)
	switch {
	case !ok:
		handshakeTooLarge.write(w)
	case s.isDraining():
		shuttingDown.write(w)
	case upgrade:
		s.openWebSocket(w, r, h)
	default:
		s.openPolling(w, r, h)
	}
}

func (s *Server) openPolling(w http.ResponseWriter, r *http.Request, h Handshake) {
	session := s.newSession(h, nil)
	if !s.begin(session, clientAddr(r)) {
		shuttingDown.write(w)
		return
	}
	writeText(w, s.openFrame(session, []string{"websocket"}).packet())
}

func (s *Server) openWebSocket(w http.ResponseWriter, r *http.Request, h Handshake) {
	t, err := acceptWebSocket(w, r, &s.config)
	if err != nil {
		return
	}
	session := s.newSession(h, t)
	if !s.begin(session, clientAddr(r)) {
		_ = t.conn.Close()
		return
	}
	session.mu.Lock()
	if session.writable() {
		t.send(s.openFrame(session, []string{}))
	}
	session.unlock()
	t.start()
	session.pump()
}

// upgradeSession takes the WebSocket that a polling client opened for its session.
func (s *Server) upgradeSession(w http.ResponseWriter, r *http.Request, session *Session) {
	t, err := acceptWebSocket(w, r, &s.config)
	if err != nil {
		return
	}
	t.session = session
	if !session.startProbe(t) {
		t.refuse()
		return
	}
	t.start()
}

// openFrame returns the packet that describes the session to its client.
func (s *Server) openFrame(session *Session, upgrades []string) *Frame {
	data, err := json.Marshal(struct {
		SID          string   `json:"sid"`
		Upgrades     []string `json:"upgrades"`
		PingInterval int64    `json:"pingInterval"` // milliseconds
		PingTimeout  int64    `json:"pingTimeout"`  // milliseconds
		MaxPayload   int      `json:"maxPayload"`   // bytes
	}{session.id, upgrades, s.config.PingInterval.Milliseconds(), s.config.PingTimeout.Milliseconds(), s.config.MaxPayload})
	if err != nil {
		panic(err) // strings and numbers
	}
	return newFrame(typeOpen, data)
}

// newID returns an id that cannot be guessed: 120 random bits.
func newID() string {
	var b [15]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
