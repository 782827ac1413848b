package engineio

import (
	"encoding/json"
	"errors"
	"net/http"
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
			// What the page may not read it may not open as a WebSocket either.
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

func TestMaxSessions(t *testing.T) {
	s := newTestServer(t, Config{MaxSessions: 2})
	first := s.poll()
	s.webSocket()
	if a := s.do("GET", "?EIO=4&transport=polling", ""); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("a third session was answered %d", a.status)
	}
	var status ws.StatusError
	if _, err := s.tryDial("?EIO=4&transport=websocket"); !errors.As(err, &status) || int(status) != 503 {
		t.Errorf("a third session over WebSocket: %v", err)
	}
	s.do("POST", first, "1")
	s.poll()
}

func TestHandshakeIsKept(t *testing.T) {
	s := newTestServer(t, Config{})
	s.do("GET", "?EIO=4&transport=polling&lastEventId=7&token=x%20y", "", "Authorization", "Bearer k", "Cookie", "a=b")
	h := s.last().session.Handshake()
	if q := h.Query(); q.Get("lastEventId") != "7" || q.Get("token") != "x y" || q.Get("EIO") != "4" {
		t.Errorf("query %v", q)
	}
	if h.Header.Get("Authorization") != "Bearer k" || h.Header.Get("Cookie") != "" || !strings.HasPrefix(h.RemoteAddr, "127.0.0.1:") {
		t.Errorf("%+v", h)
	}
}

func TestDrain(t *testing.T) {
	s := newTestServer(t, Config{})
	query := s.poll()
	polling := s.last()
	get := s.pending(query)
	c := s.webSocket()
	s.Drain()
	s.want(<-get, 200, "1")
	c.wantClose(ws.StatusGoingAway)
	s.wantClosed(ServerShutdown)
	if reason := <-polling.closed; reason != ServerShutdown {
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
		t.Error("the context goes on")
	}
	if session.Context().Err() == nil || session.Transport() != "polling" {
		t.Error("a context asked for later goes on")
	}
}
