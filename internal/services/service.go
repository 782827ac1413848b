package services

import (
	"context"
	"crypto/subtle"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/buildcast/buildcast/internal/egress"
	"github.com/buildcast/buildcast/internal/turbocache"
)

// service serves one command.
type service struct {
	door   *egress.Door
	turbo  *turbocache.Handler
	access turbocache.Access
	token  string // empty: whoever reaches the listener is the command

	server  http.Server
	serving sync.WaitGroup // the server

	mu       sync.Mutex
	closed   bool
	requests sync.WaitGroup
}

func (v *service) serve(l net.Listener) {
	v.server = http.Server{
		Handler: v, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: log.New(io.Discard, "", 0), // what a command sends is not the operator's concern
	}
	v.serving.Go(func() { _ = v.server.Serve(l) }) // until close
}

// close ends all connections and waits for the requests under way.
func (v *service) close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.server.Close() // removes the socket too
	v.door.Close()
	v.serving.Wait()
	v.requests.Wait()
}

// begin counts a request, unless the service is closed.
func (v *service) begin() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return false
	}
	v.requests.Add(1)
	return true
}

// ServeHTTP serves a request to the proxy or to the cache.
func (v *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !v.begin() {
		return
	}
	defer v.requests.Done()
	isProxy := egress.Takes(r)
	switch {
	case isProxy && v.admits(proxyPassword(r)):
		v.door.ServeHTTP(w, r)
	case isProxy:
		w.Header().Set("Proxy-Authenticate", `Basic realm="buildcast"`)
		http.Error(w, "buildcast: this proxy is another command's: use the one in HTTPS_PROXY", http.StatusProxyAuthRequired)
	case v.admits(bearer(r)):
		v.turbo.Serve(w, r, v.access)
	default:
		turbocache.Refuse(w, http.StatusForbidden, "forbidden", "this cache is another command's: use the token in TURBO_TOKEN")
	}
}

func (v *service) admits(secret string) bool {
	return v.token == "" || subtle.ConstantTimeCompare([]byte(secret), []byte(v.token)) == 1
}

func proxyPassword(r *http.Request) string {
	as := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	_, password, _ := as.BasicAuth()
	return password
}

// bearer returns the request's token; empty: none.
func bearer(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

// bounded is a listener with a bound of connections. More wait in the system's queue.
type bounded struct {
	net.Listener
	free   chan struct{}
	closed context.Context
	close  context.CancelFunc
}

func bound(l net.Listener, n int) *bounded {
	b := &bounded{Listener: l, free: make(chan struct{}, n)}
	b.closed, b.close = context.WithCancel(context.Background())
	return b
}

func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.free <- struct{}{}:
	case <-b.closed.Done():
		return nil, net.ErrClosed
	}
	conn, err := b.Listener.Accept()
	if err != nil {
		<-b.free
		return nil, err
	}
	return &boundedConn{Conn: conn, leave: sync.OnceFunc(func() { <-b.free })}, nil
}

func (b *bounded) Close() error {
	b.close()
	return b.Listener.Close()
}

type boundedConn struct {
	net.Conn
	leave func()
}

func (c *boundedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// CloseWrite ends one direction of a tunnel.
func (c *boundedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// set is a bounded set of strings.
type set struct {
	mu   sync.Mutex
	most int
	has  map[string]bool
}

func newSet(most int) *set { return &set{most: most, has: map[string]bool{}} }

// add reports whether the string is new, and there was room for it.
func (s *set) add(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has[text] || len(s.has) == s.most {
		return false
	}
	s.has[text] = true
	return true
}
