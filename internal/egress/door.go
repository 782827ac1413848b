package egress

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
)

// Door is the proxy as one command sees it. Close it when the command has ended.
type Door struct {
	proxy   *Proxy
	access  Access
	refused func(text string)
	plain   *httputil.ReverseProxy

	ctx     context.Context // ends with Close
	close   context.CancelFunc
	mu      sync.Mutex // guards the start of tunnels against Close
	tunnels sync.WaitGroup
	passed  atomic.Int64 // bytes, both ways
	opened  atomic.Int64 // connections and requests
}

// Door returns a door for a command. refused, if set, is told what was refused and why.
func (p *Proxy) Door(access Access, refused func(text string)) *Door {
	if refused == nil {
		refused = func(string) {}
	}
	d := &Door{proxy: p, access: access, refused: refused}
	d.ctx, d.close = context.WithCancel(context.Background())
	d.plain = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.Host = "" // the URL's
			r.Out.Header.Del("X-Forwarded-For")
		},
		Transport:      p.transport,
		ErrorLog:       log.New(io.Discard, "", 0),
		ErrorHandler:   func(w http.ResponseWriter, r *http.Request, err error) { d.fail(w, explainURL(r, err)) },
		ModifyResponse: noUpgrade,
	}
	return d
}

// noUpgrade refuses another protocol on the connection: it would not be counted.
func noUpgrade(r *http.Response) error {
	if r.StatusCode == http.StatusSwitchingProtocols {
		return errors.New("the server switches to another protocol, which goes through CONNECT only")
	}
	return nil
}

// Close ends the connections of the door, and waits for them.
func (d *Door) Close() {
	d.mu.Lock()
	d.close()
	d.mu.Unlock()
	d.tunnels.Wait()
	if n := d.opened.Load(); n > 0 {
		d.proxy.config.Logger.Debug("a command used the network", "access", string(d.access), "connections", n, "bytes", d.passed.Load())
	}
}

// Takes reports whether the request is one to a proxy.
func Takes(r *http.Request) bool { return r.Method == http.MethodConnect || r.URL.IsAbs() }

// ServeHTTP serves a request to a proxy.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		d.connect(w, r)
		return
	}
	if r.URL.Scheme != "http" {
		http.Error(w, "buildcast: this proxy takes http:// URLs, and CONNECT for everything else", http.StatusBadRequest)
		return
	}
	t, ok := parseTarget(r.URL.Host, 80)
	if !ok {
		http.Error(w, "buildcast: the URL's host is not a name or an address with a port", http.StatusBadRequest)
		return
	}
	err := d.proxy.check(d.access, t)
	if err == nil && d.proxy.config.Upstream != nil {
		err = d.proxy.checkAddresses(r.Context(), t)
	}
	if err != nil {
		d.fail(w, err)
		return
	}
	d.opened.Add(1)
	r.URL.Host = t.String() // in the form that was checked
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)() //nolint:contextcheck // the door's context, not the request's
	d.plain.ServeHTTP(w, r.WithContext(ctx))
}

// connect makes a tunnel.
func (d *Door) connect(w http.ResponseWriter, r *http.Request) {
	t, ok := parseTarget(r.Host, 0)
	if !ok {
		http.Error(w, "buildcast: CONNECT takes a host and a port, such as registry.example.com:443", http.StatusBadRequest)
		return
	}
	if err := d.proxy.check(d.access, t); err != nil {
		d.fail(w, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)() //nolint:contextcheck // the door's context, not the request's
	server, err := d.proxy.dial(ctx, t)
	if err != nil {
		d.fail(w, err)
		return
	}
	defer server.Close()
	if !d.begin() {
		return
	}
	defer d.tunnels.Done()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		d.proxy.config.Logger.Debug("a tunnel cannot be made", "error", err)
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	d.opened.Add(1)
	d.passed.Add(d.tunnel(client, buffered.Reader, server))
}

// begin counts a tunnel, unless the door is closed.
func (d *Door) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		return false
	}
	d.tunnels.Add(1)
	return true
}

// tunnel copies both ways until both sides have ended, or the door is closed.
func (d *Door) tunnel(client net.Conn, from *bufio.Reader, server net.Conn) int64 {
	defer context.AfterFunc(d.ctx, func() { client.Close(); server.Close() })()
	var up, down int64
	var copying sync.WaitGroup
	pass := func(to net.Conn, from io.Reader, n *int64) {
		var err error
		if *n, err = io.Copy(to, from); err != nil {
			client.Close()
			server.Close()
			return
		}
		closeWrite(to)
	}
	copying.Go(func() { pass(server, from, &up) })
	copying.Go(func() { pass(client, server, &down) })
	copying.Wait()
	return up + down
}

// closeWrite tells the other side that nothing more comes, or ends the connection if
// its kind cannot.
func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		return
	}
	c.Close()
}

// fail answers with the error, which is for people. What was refused is told to the
// build's log too: clients seldom show a proxy's answer.
func (d *Door) fail(w http.ResponseWriter, err error) {
	status := http.StatusBadGateway
	if _, ok := errors.AsType[*refusal](err); ok {
		status = http.StatusForbidden
		d.refused(err.Error())
	} else if _, ok := errors.AsType[*timeout](err); ok {
		status = http.StatusGatewayTimeout
	}
	d.proxy.config.Logger.Debug("a command's connection failed", slog.Int("status", status), slog.Any("error", err))
	http.Error(w, "buildcast: "+err.Error(), status)
}

func explainURL(r *http.Request, err error) error {
	t, _ := parseTarget(r.URL.Host, 80)
	return explain(t, err)
}
