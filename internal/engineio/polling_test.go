package engineio

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
)

func TestPollingMessages(t *testing.T) {
	s := newTestServer(t, Config{})
	query := s.poll()
	a := s.do("POST", query, "4hello\x1ebAQIDBA==\x1e4é")
	s.want(a, 200, "ok")
	a = s.do("GET", query, "")
	s.want(a, 200, "4hello\x1ebAQIDBA==\x1e4é")
	if a.header.Get("Content-Type") != "text/plain; charset=UTF-8" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("header %v", a.header)
	}
	get := s.pending(query)
	s.do("POST", query, "4later")
	s.want(recv(t, get, "the GET is answered"), 200, "4later")
}

func TestPollAnswerIsBounded(t *testing.T) {
	s := newTestServer(t, Config{})
	query := s.poll()
	message := strings.Repeat("x", pollBytes/2)
	for range 3 {
		s.do("POST", query, "4"+message)
	}
	s.want(s.do("GET", query, ""), 200, "4"+message+"\x1e4"+message)
	s.want(s.do("GET", query, ""), 200, "4"+message)
}

func TestPollingClose(t *testing.T) {
	s := newTestServer(t, Config{})
	query := s.poll()
	get := s.pending(query)
	s.want(s.do("POST", query, "1"), 200, "ok")
	s.want(recv(t, get, "the GET is answered"), 200, "6")
	s.wantClosed(TransportClose)
	s.want(s.do("GET", query, ""), 400, `{"code":1,"message":"Session ID unknown"}`)
	s.want(s.do("POST", query, "4a"), 400, `{"code":1,"message":"Session ID unknown"}`)
}

// The close may arrive before a GET that the client sent earlier.
func TestPollingCloseOvertakesTheGET(t *testing.T) {
	s := newTestServer(t, Config{})
	query := s.poll()
	session := s.last().session
	post := make(chan answer, 1)
	go func() {
		a, err := s.try(t.Context(), "POST", query, "1")
		if err != nil {
			a.body = err.Error()
		}
		post <- a
	}()
	s.until(func() bool {
		session.mu.Lock()
		defer session.mu.Unlock()
		return session.polled != nil || session.closed
	})
	if a := s.do("GET", query, ""); a.status == 200 {
		s.want(a, 200, "6")
	}
	s.want(recv(t, post, "the POST is answered"), 200, "ok")
	s.wantClosed(TransportClose)
	s.want(s.do("GET", query, ""), 400, `{"code":1,"message":"Session ID unknown"}`)
}

func TestOverlappingGET(t *testing.T) {
	s := newTestServer(t, Config{})
	query := s.poll()
	get := s.pending(query)
	s.want(s.do("GET", query, ""), 400, `{"code":3,"message":"Bad request"}`)
	s.want(recv(t, get, "the GET is answered"), 200, "1")
	s.wantClosed(TransportError)
}

func TestOverlappingPOST(t *testing.T) {
	s := newTestServer(t, Config{})
	query := s.poll()
	session := s.last().session
	body, send := io.Pipe()
	first := make(chan answer, 1)
	go func() { first <- s.postFrom(query, body) }()
	s.until(func() bool {
		session.mu.Lock()
		defer session.mu.Unlock()
		return session.posting
	})
	s.want(s.do("POST", query, "4b"), 400, `{"code":3,"message":"Bad request"}`)
	s.wantClosed(TransportError)
	_, _ = send.Write([]byte("4a"))
	_ = send.Close()
	recv(t, first, "the first POST is answered")
}

func (s *testServer) postFrom(query string, body io.Reader) answer {
	resp, err := s.http.Post(s.url+query, "text/plain", body)
	if err != nil {
		return answer{body: err.Error()}
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(b), resp.Header}
}

func TestAbortedGETClosesTheSession(t *testing.T) {
	s := newTestServer(t, Config{})
	query := s.poll()
	session := s.last().session
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { _, err := s.try(ctx, "GET", query, ""); done <- err }()
	s.until(func() bool {
		session.mu.Lock()
		defer session.mu.Unlock()
		return session.poll != nil
	})
	cancel()
	if err := recv(t, done, "the GET ends"); err == nil {
		t.Error("the GET was answered")
	}
	s.wantClosed(TransportError)
	s.want(s.do("GET", query, ""), 400, `{"code":1,"message":"Session ID unknown"}`)
}

func TestInvalidPOSTs(t *testing.T) {
	tests := []struct {
		name, body, contentType string
		reason                  Reason
	}{
		{"unknown type", "abc", "text/plain", ParseError},
		{"empty body", "", "text/plain", ParseError},
		{"empty packet", "3\x1e\x1e4b", "text/plain", ParseError},
		{"not UTF-8", "4\xff", "text/plain", ParseError},
		{"bad base64", "b!", "text/plain", ParseError},
		{"binary body", "4a", "application/octet-stream", TransportError},
		{"binary body with a parameter", "4a", "Application/Octet-Stream; x=y", TransportError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, Config{})
			query := s.poll()
			get := s.pending(query)
			s.want(s.do("POST", query, tt.body, "Content-Type", tt.contentType), 400, `{"code":3,"message":"Bad request"}`)
			if a := recv(t, get, "the GET is answered"); a.status != 200 || !strings.HasSuffix(a.body, "1") {
				t.Errorf("the pending GET was answered %d %q", a.status, a.body)
			}
			s.wantClosed(tt.reason)
			s.want(s.do("GET", query, ""), 400, `{"code":1,"message":"Session ID unknown"}`)
		})
	}
}

func TestPingFromTheClientCloses(t *testing.T) {
	s := newTestServer(t, Config{})
	s.do("POST", s.poll(), "2")
	s.wantClosed(TransportError)
}

func TestPacketsThatMeanNothing(t *testing.T) {
	s := newTestServer(t, Config{})
	query := s.poll()
	s.want(s.do("POST", query, "0\x1e5\x1e6\x1e3\x1e4a"), 200, "ok")
	s.want(s.do("GET", query, ""), 200, "4a")
}

func TestMaxPayload(t *testing.T) {
	s := newTestServer(t, Config{MaxPayload: 100})
	query := s.poll()
	s.want(s.do("POST", query, "4"+strings.Repeat("x", 99)), 200, "ok")
	s.want(s.do("POST", query, "4"+strings.Repeat("x", 100)), 413, `{"code":3,"message":"Payload too large"}`)
	// The same without a declared length.
	if a := s.postFrom(query, io.MultiReader(strings.NewReader("4"), strings.NewReader(strings.Repeat("x", 100)))); a.status != 413 {
		t.Errorf("a chunked body was answered %d", a.status)
	}
	s.wantOpen()
	s.want(s.do("GET", query, ""), 200, "4"+strings.Repeat("x", 99))
}

func TestBodyCutOffClosesTheSession(t *testing.T) {
	s := newTestServer(t, Config{})
	query := s.poll()
	conn, err := net.Dial("tcp", strings.Split(s.url, "/")[2])
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "POST /engine.io/"+query+" HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n4a")
	_ = conn.Close()
	s.wantClosed(TransportError)
}

func TestHandlerPanicClosesOneSession(t *testing.T) {
	s := newTestServer(t, Config{})
	other := s.poll()
	query := s.poll()
	s.want(s.do("POST", query, "4panic"), 200, "ok")
	s.wantClosed(ForcedClose)
	s.do("POST", other, "4still here")
	s.want(s.do("GET", other, ""), 200, "4still here")
}

func TestEndSendsWhatWaits(t *testing.T) {
	s := newTestServer(t, Config{})
	query := s.poll()
	s.want(s.do("POST", query, "4end"), 200, "ok")
	s.wantOpen()
	s.want(s.do("GET", query, ""), 200, "4bye\x1e1")
	s.wantClosed(ForcedClose)
}

// Another POST may follow, even if the first failed.
func TestPOSTsFollowEachOther(t *testing.T) {
	s := newTestServer(t, Config{MaxPayload: 100})
	query := s.poll()
	for range 3 {
		s.want(s.do("POST", query, "4a"), 200, "ok")
		s.want(s.do("POST", query, "4"+strings.Repeat("x", 100)), 413, `{"code":3,"message":"Payload too large"}`)
	}
	s.want(s.do("GET", query, ""), 200, "4a\x1e4a\x1e4a")
}
