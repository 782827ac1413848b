package engineio

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

func TestHandshakePacket(t *testing.T) {
	s := newTestServer(t, Config{})
	a := s.do("GET", "?EIO=4&transport=polling&t=abc", "")
	if a.status != 200 || a.header.Get("Content-Type") != "text/plain; charset=UTF-8" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", a.status, a.header)
	}
	var keys map[string]any
	if err := json.Unmarshal([]byte(a.body[1:]), &keys); err != nil || len(keys) != 5 {
		t.Errorf("%q: want exactly 5 keys (%v)", a.body, err)
	}
	got := parseOpen(t, a.body)
	if want := (opened{got.SID, []string{"websocket"}, 25000, 20000, 1000000}); !reflect.DeepEqual(got, want) {
		t.Errorf("polling: %+v, want %+v", got, want)
	}
	c := s.dial("?EIO=4&transport=websocket")
	packet := string(c.read().Payload)
	if other := parseOpen(t, packet); len(other.Upgrades) != 0 || other.SID == got.SID || !strings.Contains(packet, `"upgrades":[]`) {
		t.Errorf("websocket: %q", packet)
	}
}

func TestErrors(t *testing.T) {
	s := newTestServer(t, Config{})
	polling := s.poll()
	tests := []struct {
		name, method, query string
		code                int
		message             string
	}{
		{"no transport", "GET", "?EIO=4", 0, "Transport unknown"},
		{"unknown transport", "GET", "?EIO=4&transport=abc", 0, "Transport unknown"},
		{"unknown sid", "GET", "?EIO=4&transport=polling&sid=abc", 1, "Session ID unknown"},
		{"POST without sid", "POST", "?EIO=4&transport=polling", 2, "Bad handshake method"},
		{"PUT without sid", "PUT", "?EIO=4&transport=polling", 2, "Bad handshake method"},
		{"websocket without upgrade", "GET", "?EIO=4&transport=websocket", 3, "Bad request"},
		{"other transport than the session's", "GET", strings.Replace(polling, "polling", "websocket", 1), 3, "Bad request"},
		{"PUT with sid", "PUT", polling, 3, "Bad request"},
		{"no version", "GET", "?transport=polling", 5, "Unsupported protocol version"},
		{"version 3", "GET", "?EIO=3&transport=polling", 5, "Unsupported protocol version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := s.do(tt.method, tt.query, "")
			var got struct {
				Code    int
				Message string
			}
			if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 400 || got.Code != tt.code || got.Message != tt.message {
				t.Errorf("%d %q, want code %d %q", a.status, a.body, tt.code, tt.message)
			}
		})
	}
	s.wantOpen()
}

func TestWebSocketErrors(t *testing.T) {
	s := newTestServer(t, Config{})
	for _, query := range []string{
		"?transport=websocket", "?EIO=abc&transport=websocket", "?EIO=4", "?EIO=4&transport=abc",
		"?EIO=4&transport=polling", "?EIO=4&transport=websocket&sid=abc",
	} {
		_, err := s.tryDial(query)
		var status ws.StatusError
		if !errors.As(err, &status) || int(status) != 400 {
			t.Errorf("%s: %v, want 400", query, err)
		}
	}
}

func TestOrigin(t *testing.T) {
	allowing := Config{Origins: []string{"https://app.example.com"}}
	tests := []struct {
		name   string
		config Config
		origin string
		status int
		allow  string // Access-Control-Allow-Origin
		vary   string
	}{
		{"no origin", Config{}, "", 200, "", ""},
		{"own origin", Config{}, "own", 200, "", ""},
		{"another origin", Config{}, "https://evil.example", 403, "", ""},
		{"null origin", Config{}, "null", 403, "", ""},
		{"listed origin", allowing, "https://app.example.com", 200, "https://app.example.com", "Origin"},
		{"origin not listed", allowing, "https://app.example.com.evil.example", 403, "", "Origin"},
		{"listed, no origin", allowing, "", 200, "", "Origin"},
		{"any origin", Config{Origins: []string{"*"}}, "https://a.example", 200, "*", "Origin"},
		{"any origin, never with cookies", Config{Origins: []string{"*"}, Credentials: true}, "https://a.example", 200, "*", "Origin"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, tt.config)
			var header []string
			if tt.origin == "own" {
				header = []string{"Origin", strings.TrimSuffix(s.url, "/engine.io/")}
			} else if tt.origin != "" {
				header = []string{"Origin", tt.origin}
			}
			a := s.do("GET", "?EIO=4&transport=polling", "", header...)
			if a.status != tt.status || a.header.Get("Access-Control-Allow-Origin") != tt.allow || a.header.Get("Vary") != tt.vary {
				t.Errorf("%d %v", a.status, a.header)
			}
			if a.status == 403 && a.body != `{"code":4,"message":"Forbidden"}` {
				t.Errorf("body %q", a.body)
			}
			// A page that may not read the answer may not open a WebSocket either.
			_, err := s.tryDial("?EIO=4&transport=websocket", header...)
			var status ws.StatusError
			if refused := errors.As(err, &status) && int(status) == 403; refused != (tt.status == 403) {
				t.Errorf("websocket: %v", err)
			}
		})
	}
}

func TestCORSOnErrorsAndPreflight(t *testing.T) {
	s := newTestServer(t, Config{Origins: []string{"https://app.example.com"}, Credentials: true})
	origin := []string{"Origin", "https://app.example.com"}
	a := s.do("GET", "?EIO=4", "", origin...)
	if a.status != 400 || a.header.Get("Access-Control-Allow-Origin") != origin[1] || a.header.Get("Access-Control-Allow-Credentials") != "true" || a.header.Get("Vary") != "Origin" {
		t.Errorf("error: %d %v", a.status, a.header)
	}
	a = s.do("OPTIONS", "?EIO=4&transport=polling", "", append(origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization")...)
	if a.status != 204 || a.header.Get("Access-Control-Allow-Methods") != "GET, POST" || a.header.Get("Access-Control-Allow-Headers") != "authorization" {
		t.Errorf("preflight: %d %v", a.status, a.header)
	}
}

// A client that connects when there are too many sessions is accepted: the oldest
// session is closed for it.
func TestMaxSessions(t *testing.T) {
	s := newTestServer(t, Config{MaxSessions: 2})
	first := s.poll()
	oldest := s.last()
	c := s.webSocket()
	s.poll()
	if reason := recv(t, oldest.closed, "the oldest session is closed"); reason != Overloaded {
		t.Errorf("closed because of %q", reason)
	}
	s.want(s.do("GET", first, ""), 400, `{"code":1,"message":"Session ID unknown"}`)
	s.poll()
	c.wantClose(statusTryAgainLater)
	if n := s.Sessions(); n != 2 {
		t.Errorf("%d sessions are open", n)
	}
}

// Attack: 20,000 handshakes without a following request. Settled clients stay
// connected, and a new one is accepted; the oldest pending sessions are closed.
func TestHandshakesShutNobodyOut(t *testing.T) {
	s := newTestServer(t, Config{MaxSessions: 100, MaxPending: 10})
	honest := s.poll()
	s.do("POST", honest, "4settle")
	for range 20_000 {
		s.openFrom("192.0.2.1")
	}
	if n := s.Sessions(); n != 11 {
		t.Errorf("%d sessions are open, want the honest one and 10", n)
	}
	another := s.poll()
	s.do("POST", another, "4settle")
	for _, query := range []string{honest, another} {
		s.do("POST", query, "4here")
		s.want(s.do("GET", query, ""), 200, "4here")
	}
}

// Attack: many handshakes of one host. They do not close sessions of another host.
func TestOneHostsHandshakesCloseItsOwnOnly(t *testing.T) {
	s := newTestServer(t, Config{MaxPending: 100, MaxPendingPerHost: 3})
	honest := s.openFrom("192.0.2.2")
	for range 50 {
		s.openFrom("192.0.2.1")
	}
	if n := s.Sessions(); n != 4 {
		t.Errorf("%d sessions are open, want 3 of one host and the other's", n)
	}
	s.do("POST", honest, "4here")
	s.want(s.do("GET", honest, ""), 200, "4here")
}

// openFrom opens a polling session for a client of the address, and returns its
// query. A server behind a proxy puts the client's address in the request.
func (s *testServer) openFrom(addr string) string {
	s.t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/engine.io/?EIO=4&transport=polling", http.NoBody)
	r.RemoteAddr = addr + ":4711"
	if s.ServeHTTP(w, r); w.Code != 200 {
		s.t.Fatalf("a handshake was answered %d", w.Code)
	}
	return "?EIO=4&transport=polling&sid=" + parseOpen(s.t, w.Body.String()).SID
}

func TestHandshakeIsKept(t *testing.T) {
	s := newTestServer(t, Config{Headers: []string{"authorization"}, Query: []string{"lastEventId", "token"}})
	s.do("GET", "?EIO=4&transport=polling&lastEventId=7&token=x%20y&junk=z", "", "Authorization", "Bearer k", "Cookie", "a=b")
	h := s.last().session.Handshake()
	if q := h.Query(); q.Get("lastEventId") != "7" || q.Get("token") != "x y" || len(q) != 2 {
		t.Errorf("query %v", q)
	}
	if h.Header.Get("Authorization") != "Bearer k" || len(h.Header) != 1 || !strings.HasPrefix(h.RemoteAddr, "127.0.0.1:") {
		t.Errorf("%+v", h)
	}
}

// Attack: handshakes with 30 KB of query. Only the configured parameters are kept,
// and their size is bounded.
func TestHandshakeIsBounded(t *testing.T) {
	s := newTestServer(t, Config{Query: []string{"token"}})
	long := strings.Repeat("x", 30_000)
	s.want(s.do("GET", "?EIO=4&transport=polling&token="+long, ""), 431, `{"code":3,"message":"Handshake too large"}`)
	if a := s.do("GET", "?EIO=4&transport=polling&token="+long[:maxHandshake], ""); a.status != 200 {
		t.Errorf("a handshake at the bound was answered %d", a.status)
	}
	s.want(s.do("GET", "?EIO=4&transport=polling&token="+long[:maxHandshake+1], ""), 431, `{"code":3,"message":"Handshake too large"}`)
	if s.do("GET", "?EIO=4&transport=polling&junk="+long, ""); len(s.last().session.Handshake().query) != 0 {
		t.Error("the query was kept")
	}
	s.do("GET", "?EIO=4&transport=polling", "", "Authorization", long[:20_000])
	if len(s.last().session.Handshake().Header) != 0 {
		t.Error("a header was kept")
	}
}

func TestDrain(t *testing.T) {
	s := newTestServer(t, Config{})
	query := s.poll()
	polling := s.last()
	get := s.pending(query)
	c := s.webSocket()
	s.Drain()
	s.want(recv(t, get, "the GET is answered"), 200, "1")
	c.wantClose(ws.StatusGoingAway)
	s.wantClosed(ServerShutdown)
	if reason := recv(t, polling.closed, "the session is closed"); reason != ServerShutdown {
		t.Errorf("polling was closed because of %q", reason)
	}
	if a := s.do("GET", "?EIO=4&transport=polling", ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("a new session was answered %d", a.status)
	}
}

func TestContextEndsWithTheSession(t *testing.T) {
	s := newTestServer(t, Config{})
	query := s.poll()
	session := s.last().session
	ctx := session.Context()
	s.do("POST", query, "1")
	select {
	case <-ctx.Done():
	case <-time.After(testTimeout):
		t.Error("the context has not ended")
	}
	if session.Context().Err() == nil || session.Transport() != "polling" {
		t.Error("a context created later has not ended")
	}
}
