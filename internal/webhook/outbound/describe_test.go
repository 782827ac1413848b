package outbound

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/buildcast/buildcast/internal/address/addresstest"
)

// play serves each connection with do, and closes it.
func play(t *testing.T, do func(conn *net.TCPConn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				do(conn.(*net.TCPConn)) //nolint:forcetypeassert // it listens for TCP
			})
		}
	})
	return "http://" + l.Addr().String() + "/"
}

// answer reads a request, writes the bytes and closes.
func answer(text string) func(*net.TCPConn) {
	return func(conn *net.TCPConn) {
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(conn, text)
		}
	}
}

func reset(conn *net.TCPConn) {
	answer("")(conn)
	_ = conn.SetLinger(0)
}

// net/http has no types for many of these: when its words change, it shows here.
func TestKindsOfFailures(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n"
	for name, tt := range map[string]struct {
		do   func(*net.TCPConn)
		want string
	}{
		"no answer":          {answer(""), "unexpected eof"},
		"half a status line": {answer("HTTP/1.1 2"), "malformed response"},
		"half a header":      {answer(head + "Content-Le"), "malformed response"},
		"half a body":        {answer(head + "Content-Length: 10\r\n\r\nfive."), "unexpected eof"},
		"half a chunk":       {answer(head + "Transfer-Encoding: chunked\r\n\r\n10\r\nfive."), "unexpected eof"},
		"no last chunk":      {answer(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nfive.\r\n"), "unexpected eof"},
		"chunk of no size":   {answer(head + "Transfer-Encoding: chunked\r\n\r\nzz\r\nfive."), "malformed response"},
		"reset":              {reset, "connection reset"},
		"another protocol":   {answer("220 mail.example ESMTP\r\n"), "malformed response"},
		"bad status":         {answer("HTTP/1.1 abc OK\r\n\r\n"), "malformed response"},
		"bad header":         {answer(head + "no colon\r\n\r\n"), "malformed response"},
		"bad length":         {answer(head + "Content-Length: -1\r\n\r\n"), "malformed response"},
		"large header":       {answer(head + "X: " + strings.Repeat("x", 2*MaxResponseHeader) + "\r\n\r\n"), "response header too large"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, failure := post(t, newClient(t, outside, Options{}), play(t, tt.do)); failure != tt.want {
				t.Errorf("%q, want %q", failure, tt.want)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		r := receive(t, "127.0.0.2:0", nil)
		r.Close()
		if _, failure := post(t, newClient(t, outside, Options{}), r.URL); failure != "connection refused" {
			t.Errorf("%q", failure)
		}
	})
}

func TestKindsOfDNSFailures(t *testing.T) {
	dns := addresstest.NewDNS(t)
	c := newClient(t, Policy{}, Options{Resolver: dns.Resolver()})
	if _, failure := post(t, c, "https://unknown.test/"); failure != "dns failure: the name does not exist" {
		t.Errorf("%q", failure)
	}
	dns.Fail()
	if _, failure := post(t, c, "https://failing.test/"); failure != "dns failure: the resolver does not answer" {
		t.Errorf("%q", failure)
	}
}

func TestTimeoutsSayTheirPhase(t *testing.T) {
	over := make(chan struct{})
	deaf := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	silent := play(t, func(*net.TCPConn) { <-over })
	t.Cleanup(func() { close(over) }) // first of all, as those above wait for it
	for phase, to := range map[string]string{
		"dns":     "https://silent.test/",
		"tls":     strings.Replace(silent, "http", "https", 1),
		"headers": silent,
		"body":    speak(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive."),
	} {
		t.Run(phase, func(t *testing.T) {
			if got := Describe(exchangeWith(t, newClient(t, outside, Options{Resolver: deaf}), to)); got != "timeout: "+phase {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestKindsOfTLSFailures(t *testing.T) {
	plain := strings.Replace(receive(t, "127.0.0.2:0", nil).URL, "http", "https", 1)
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.Config.ErrorLog = log.New(io.Discard, "", 0)
	old.StartTLS()
	t.Cleanup(old.Close)
	for name, tt := range map[string]struct{ to, says string }{
		"no TLS at all": {plain, "the receiver does not speak TLS"},
		"TLS 1.1":       {old.URL, "the receiver ends it with the alert protocol version not supported"},
		"cut off":       {strings.Replace(play(t, func(*net.TCPConn) {}), "http", "https", 1), "during the handshake"},
	} {
		t.Run(name, func(t *testing.T) {
			_, failure := post(t, newClient(t, Policy{AllowLoopback: true}, Options{}), tt.to)
			if !strings.HasPrefix(failure, "tls failure: ") || !strings.Contains(failure, tt.says) {
				t.Errorf("%q", failure)
			}
		})
	}
}

func TestKindsOfHTTP2Failures(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("it is sent over %s", r.Proto)
		}
		switch r.URL.Path {
		case "/header":
			for range MaxResponseHeader/1000 + 1 {
				w.Header().Add("X", strings.Repeat("x", 1000))
			}
		case "/value": // ends the connection, as it cannot be skipped
			w.Header().Set("X", strings.Repeat("x", 2*MaxResponseHeader))
		case "/half":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "five.")
			panic(http.ErrAbortHandler)
		case "/reset":
			panic(http.ErrAbortHandler)
		}
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	c := newClient(t, Policy{AllowLoopback: true}, Options{RootCAs: roots})
	for path, want := range map[string]Kind{"/": "", "/header": LargeHeader, "/value": NotHTTP, "/half": Reset, "/reset": Reset} {
		t.Run(path, func(t *testing.T) {
			if _, failure := post(t, c, s.URL+path); failure != string(want) {
				t.Errorf("%q, want %q", failure, want)
			}
		})
	}
}

// The URL may hold a receiver's token; what is described is shown and logged.
func TestDescribeHoldsNoToken(t *testing.T) {
	for _, to := range []string{
		play(t, answer("HTTP/1.1 token")) + "token?token=1", play(t, reset) + "token", "https://127.0.0.2:1/token", "https://10.0.0.1/token", "ftp://good.example/token",
	} {
		if _, failure := post(t, newClient(t, outside, Options{}), to); failure == "" || strings.Contains(failure, "token") {
			t.Errorf("%q", failure)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("token"))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://127.0.0.2/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := newClient(t, outside, Options{}).Do(req)
	if err == nil {
		res.Body.Close()
	}
	if Describe(err) != "cancelled" {
		t.Errorf("%q", Describe(err))
	}
	if got := Describe(fmt.Errorf("token")); got != "failed" {
		t.Errorf("%q", got)
	}
}
