package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Limits of a client. The times bound work that no request waits for: a request's
// own deadline is its context's.
const (
	MaxResponseHeader = 64 << 10 // bytes of a response's header
	maxIdlePerHost    = 32
	maxIdle           = 256
	idleTimeout       = 90 * time.Second
	connectTimeout    = 30 * time.Second // DNS and connect, and again TLS
	pingAfter         = 15 * time.Second // an HTTP/2 connection in use but silent is tested after this
)

// Options are what a client takes from its surroundings. The zero Options take the
// machine's settings.
type Options struct {
	// Resolver finds receivers' addresses; nil: [net.DefaultResolver]. Whatever it
	// answers is checked.
	Resolver *net.Resolver
	// Proxy chooses a request's proxy, or none; nil: [http.ProxyFromEnvironment]
	// (HTTPS_PROXY, HTTP_PROXY, NO_PROXY). It must not change the request.
	Proxy func(*http.Request) (*url.URL, error)
	// RootCAs are the authorities that vouch for receivers; nil: the system's.
	RootCAs *x509.CertPool
}

// NewClient makes a client that reaches only the addresses that p allows.
//
// It follows no redirect: a 3xx is a response like any other. It keeps no
// cookies, asks for no compression and verifies TLS (1.2 at least). The caller
// bounds the time, by the request's context, and the body it reads. Errors may
// hold the URL, and with it a receiver's token: show and log [Describe] of them.
//
// Deliveries carry an id and may arrive twice, so a POST is sent again at once if a
// kept connection turns out to be closed. Without that, each pause of a receiver
// would fail an attempt. It is sent once more, on a new connection, and no more than
// once: otherwise an event that crashes its receiver would do so once per kept
// connection in one attempt.
//
// http.Client.CloseIdleConnections ends the client's goroutines once no request is under way.
func NewClient(p Policy, o Options) *http.Client {
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	return &http.Client{
		Transport:     newGuard(p, o),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// guard is the RoundTripper that checks each request, and by its dialers each connection.
type guard struct {
	policy  Policy
	options Options
	direct  route // its dialer checks addresses
	proxied route // its dialer connects to proxies only, wherever they are
}

// route is a way to send requests: on connections that are kept, or on a new one.
type route struct{ kept, fresh *http.Transport }

func newRoute(t *http.Transport) route {
	fresh := t.Clone()
	fresh.DisableKeepAlives = true
	return route{kept: t, fresh: fresh}
}

func newGuard(p Policy, o Options) *guard {
	checked := &net.Dialer{Timeout: connectTimeout, Resolver: o.Resolver, ControlContext: p.guard().Control}
	proxied := newTransport(o, &net.Dialer{Timeout: connectTimeout, Resolver: o.Resolver})
	proxied.Proxy = func(r *http.Request) (*url.URL, error) {
		return attemptOf(r.Context()).proxy, nil
	}
	proxied.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
		if res.StatusCode != http.StatusOK {
			return &proxyError{status: res.StatusCode}
		}
		return nil
	}
	return &guard{policy: p, options: o, direct: newRoute(newTransport(o, checked)), proxied: newRoute(proxied)}
}

func newTransport(o Options, d *net.Dialer) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			// The transport dials without the request's deadline, for the benefit of
			// later requests. A connection that took longer than that is of no use to
			// them, and the resolver and the dialer share out what time there is.
			ctx, cancel := attemptOf(ctx).untilDeadline(ctx)
			defer cancel()
			return d.DialContext(ctx, network, address)
		},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		TLSHandshakeTimeout:    connectTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // else a small body could become a large one
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: MaxResponseHeader,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream:     64 << 10, // what a receiver can make us hold unread
			MaxReceiveBufferPerConnection: 1 << 20,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingAfter,
		},
	}
}

// RoundTrip sends one request, as [http.RoundTripper] says.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	a := newAttempt(req.Context())
	res, err := g.send(req, a)
	if err != nil {
		return nil, a.failed(err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		_ = res.Body.Close() // it is the bare connection, which no deadline ends
		res.Body = http.NoBody
	}
	a.reach(phaseBody)
	res.Body = &body{ReadCloser: res.Body, attempt: a}
	// A redirect is the caller's failure whatever it points to; http.Client would
	// make an error without status and body of one that it cannot parse.
	if _, err := req.URL.Parse(res.Header.Get("Location")); err != nil {
		res.Header.Del("Location")
	}
	return res, nil
}

func (g *guard) send(req *http.Request, a *attempt) (*http.Response, error) {
	way, err := g.route(req, a)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	ctx := a.context(req.Context())
	out := req.Clone(ctx)
	hideKeys(out.Header)
	res, err := way.kept.RoundTrip(out)
	if err == nil || !a.keptWasClosed(err) || req.GetBody == nil {
		return res, err
	}
	again := out.Clone(ctx)
	if again.Body, err = req.GetBody(); err != nil {
		return nil, err
	}
	return way.fresh.RoundTrip(again)
}

// hideKeys writes headers in another case, which is the same to a receiver: by
// their usual names they tell the transport to send again on each kept connection.
func hideKeys(h http.Header) {
	for _, name := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := h[name]; ok {
			delete(h, name)
			h[strings.ToLower(name)] = values
		}
	}
}

// route checks the request's URL and chooses the way it goes.
func (g *guard) route(req *http.Request, a *attempt) (route, error) {
	if err := g.policy.check(req.URL); err != nil {
		return route{}, err
	}
	proxy, err := g.options.Proxy(req)
	if err != nil { // its text may hold the proxy's password
		return route{}, &proxyError{}
	}
	if proxy == nil {
		return g.direct, nil
	}
	a.proxy = proxy
	return g.proxied, g.checkTarget(req.Context(), req.URL.Hostname(), a)
}

// checkTarget refuses a host of which any address is refused, because it is the
// proxy that will choose one.
func (g *guard) checkTarget(ctx context.Context, host string, a *attempt) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		return g.policy.Allowed(addr)
	}
	a.reach(phaseDNS)
	addrs, err := g.options.Resolver.LookupNetIP(ctx, "ip", strings.ToLower(host))
	if err != nil {
		return err
	}
	for _, addr := range addrs {
		if err := g.policy.Allowed(addr); err != nil {
			return err
		}
	}
	return nil
}

// CloseIdleConnections is called by http.Client's method of that name.
func (g *guard) CloseIdleConnections() {
	for _, way := range [...]route{g.direct, g.proxied} {
		way.kept.CloseIdleConnections()
		way.fresh.CloseIdleConnections()
	}
}
