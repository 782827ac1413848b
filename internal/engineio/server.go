package engineio

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
)

// Server is the HTTP handler of the protocol's path. Run must be running: it
// does the heartbeats and closes what is open when it ends.
type Server struct {
	config    Config
	open      func(*Session) Conn
	heartbeat *heartbeat
	tasks     sync.WaitGroup // the goroutines of WebSockets

	mu       sync.Mutex
	draining bool
	sessions map[string]*Session
	opening  int // handshakes under way, which count as sessions
}

// NewServer makes a server. open makes each new session's Conn; it is called
// before the client knows of the session and must not block.
func NewServer(config Config, open func(*Session) Conn) *Server {
	config = config.withDefaults()
	return &Server{
		config:    config,
		open:      open,
		heartbeat: newHeartbeat(config.PingInterval, config.PingTimeout),
		sessions:  make(map[string]*Session),
	}
}

// Run does the heartbeats until ctx ends, then drains, and returns when all
// goroutines of WebSockets have ended.
func (s *Server) Run(ctx context.Context) error {
	s.heartbeat.run(ctx)
	s.Drain()
	s.tasks.Wait()
	return nil
}

// Drain refuses new sessions and closes those that are open, in the way that
// makes clients connect again, to the next server.
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

// Sessions is how many sessions are open.
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
	case upgrade:
		s.openWebSocket(w, r)
	default:
		s.openPolling(w, r)
	}
}

// serveSession serves a request of a session that is open.
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

// session finds an open session. One whose time is up is closed here, should
// its request come before the heartbeat does it.
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

// reserve takes a place for one more session.
func (s *Server) reserve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining || len(s.sessions)+s.opening >= s.config.MaxSessions {
		return false
	}
	s.opening++
	return true
}

// begin opens the session in the place that reserve took. It reports false
// where the server has begun to drain meanwhile.
func (s *Server) begin(session *Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening--
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

// forget takes a closed session off the list.
func (s *Server) forget(session *Session) {
	s.mu.Lock()
	delete(s.sessions, session.id)
	s.mu.Unlock()
	s.heartbeat.remove(session)
}

func (s *Server) newSession(r *http.Request, t *webSocket) *Session {
	session := &Session{server: s, id: newID(), ws: t}
	session.handshake = Handshake{RawQuery: r.URL.RawQuery, RemoteAddr: r.RemoteAddr}
	for _, name := range s.config.Headers {
		if values := r.Header.Values(name); len(values) > 0 {
			if session.handshake.Header == nil {
				session.handshake.Header = make(http.Header, 1)
			}
			session.handshake.Header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
		}
	}
	if t != nil {
		t.session = session
	}
	session.conn = s.open(session)
	return session
}

func (s *Server) openPolling(w http.ResponseWriter, r *http.Request) {
	if !s.reserve() {
		tooManySessions.write(w)
		return
	}
	session := s.newSession(r, nil)
	if !s.begin(session) {
		session.conn.Closed(ServerShutdown)
		tooManySessions.write(w)
		return
	}
	writeText(w, s.openFrame(session, []string{"websocket"}).packet())
}

func (s *Server) openWebSocket(w http.ResponseWriter, r *http.Request) {
	if !s.reserve() {
		tooManySessions.write(w)
		return
	}
	t, err := acceptWebSocket(w, r, &s.config)
	if err != nil {
		s.mu.Lock()
		s.opening--
		s.mu.Unlock()
		return
	}
	session := s.newSession(r, t)
	if !s.begin(session) {
		session.conn.Closed(ServerShutdown)
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

// openFrame is the packet that tells the client about its session.
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

// newID makes an id that cannot be guessed: 120 random bits.
func newID() string {
	var b [15]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
