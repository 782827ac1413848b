package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// socket opens a Socket.IO client over WebSocket that has joined.
func socket(t *testing.T, s *Server) io.ReadWriter {
	t.Helper()
	dialer := ws.Dialer{Timeout: time.Minute}
	conn, br, _, err := dialer.Dial(t.Context(), "ws"+strings.TrimPrefix(s.URL(), "http")+"/socket.io/?EIO=4&transport=websocket")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if br == nil {
		br = bufio.NewReader(conn)
	}
	c := struct {
		io.Reader
		io.Writer
	}{br, conn}
	var opened struct{ MaxPayload int }
	if err := json.Unmarshal(readFrame(t, c, ws.OpText)[1:], &opened); err != nil || opened.MaxPayload != socketPayload {
		t.Errorf("the client may send %d bytes at once, %v; want %d", opened.MaxPayload, err, socketPayload)
	}
	sendText(t, c, "40")
	if b := readFrame(t, c, ws.OpText); !bytes.HasPrefix(b, []byte("40{")) {
		t.Fatalf("joining was answered %.80q", b)
	}
	return c
}

func sendText(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if err := ws.WriteFrame(w, ws.MaskFrame(ws.NewTextFrame([]byte(s)))); err != nil {
		t.Fatal(err)
	}
}

func readFrame(t *testing.T, r io.Reader, op ws.OpCode) []byte {
	t.Helper()
	f, err := ws.ReadFrame(r)
	if err != nil || f.Header.OpCode != op {
		t.Fatalf("frame %d %.80q, %v; want %d", f.Header.OpCode, f.Payload, err, op)
	}
	return f.Payload
}

// Attacks on a server with its own settings: an attachment, and a message that
// is longer than any that this server knows. Both close the connection.
func TestSocketsTakeSmallTextOnly(t *testing.T) {
	s, _ := start(t, settings(t))
	for name, attack := range map[string]struct {
		message string
		code    ws.StatusCode
	}{
		"an attachment":  {`451-["subscribe",{"_placeholder":true,"num":0}]`, ws.StatusNormalClosure},
		"a long message": {`42["subscribe","` + strings.Repeat("x", socketPayload) + `"]`, ws.StatusMessageTooBig},
	} {
		c := socket(t, s)
		sendText(t, c, attack.message)
		if code, _ := ws.ParseCloseFrameData(readFrame(t, c, ws.OpClose)); code != attack.code {
			t.Errorf("%s: closed with %d, want %d", name, code, attack.code)
		}
	}
}

// Attack: more polling handshakes than there may be sessions. A client that has
// joined stays, and another can join.
func TestHandshakesShutNobodyOut(t *testing.T) {
	s, _ := start(t, settings(t))
	honest := socket(t, s)
	for range maxJoiningOfHost + 100 {
		w := httptest.NewRecorder()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/socket.io/?EIO=4&transport=polling&junk="+strings.Repeat("x", 30_000), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.RemoteAddr = "192.0.2.1:4711"
		if s.sockets.ServeHTTP(w, r); w.Code != http.StatusOK {
			t.Fatalf("a handshake was answered %d", w.Code)
		}
	}
	if n := s.sockets.Sessions(); n != maxJoiningOfHost+1 {
		t.Errorf("%d sessions are open", n)
	}
	for i, c := range []io.ReadWriter{honest, socket(t, s)} {
		sendText(t, c, fmt.Sprintf(`42%d["subscribe",{"buildId":"x"}]`, i))
		if b := readFrame(t, c, ws.OpText); !bytes.HasPrefix(b, fmt.Appendf(nil, "43%d[{", i)) {
			t.Errorf("subscribing was answered %.80q", b)
		}
	}
}
