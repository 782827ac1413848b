package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/buildcast/buildcast"
)

// ParseUpstream reads the URL of a proxy. Its errors do not repeat the URL, which may
// hold a password.
func ParseUpstream(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, buildcast.Errorf(buildcast.InvalidArgument, "it is not the address of an HTTP proxy: use http://host:port, or http://user:password@host:port")
	}
	return u, nil
}

// dialUpstream asks the upstream proxy for a connection to the target.
func (p *Proxy) dialUpstream(ctx context.Context, t target) (_ net.Conn, err error) {
	conn, err := p.connectUpstream(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be reached: the server's proxy (--egress-proxy) does not answer: %w", t, inner(err))
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() {
		if !stop() || err != nil { // the context has ended it
			conn.Close()
		}
	}()
	ask := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: t.String()}, Host: t.String(), Header: make(http.Header)}
	if user := p.config.Upstream.User; user != nil {
		password, _ := user.Password()
		ask.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := ask.Write(conn); err != nil {
		return nil, fmt.Errorf("%s cannot be reached: the server's proxy (--egress-proxy) ended the connection", t)
	}
	// One byte at a time is not needed: the other side is silent until we have spoken.
	answer, err := http.ReadResponse(bufio.NewReaderSize(&atMost{conn, maxResponseHead}, 4096), ask)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be reached: the server's proxy (--egress-proxy) does not speak HTTP, or ended the connection", t)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s cannot be reached: the server's proxy (--egress-proxy) answered with status %d", t, answer.StatusCode)
	}
	return conn, nil
}

func (p *Proxy) connectUpstream(ctx context.Context) (net.Conn, error) {
	u := p.config.Upstream
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, err := p.upstream.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil || u.Scheme == "http" {
		return conn, err
	}
	secure := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12})
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// atMost bounds the header that is read.
type atMost struct {
	net.Conn
	left int
}

func (a *atMost) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, fmt.Errorf("the header is longer than %d bytes", maxResponseHead)
	}
	n, err := a.Conn.Read(p[:min(len(p), a.left)])
	a.left -= n
	return n, err
}
