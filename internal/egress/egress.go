package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"github.com/buildcast/buildcast/internal/address"
)

// Access is how far the network is open to a command.
type Access string

// The kinds of access.
const (
	Off    Access = "off"    // nothing can be reached
	Listed Access = "listed" // the hosts of the list
	Open   Access = "open"   // every host on ports 80 and 443, and the list
)

// Limits of the proxy's own waits. A command's timeout bounds what is left: its
// connections end with it.
const (
	dialTimeout     = 30 * time.Second // DNS, connect and the upstream proxy's answer
	headerTimeout   = 2 * time.Minute  // of a response, over plain http
	idleTimeout     = 30 * time.Second // of a kept connection, over plain http
	maxIdle         = 32
	maxResponseHead = 64 << 10
)

// Config says where commands may go.
type Config struct {
	// Allow are the hosts that commands with Listed access reach.
	Allow []Pattern
	// Guard is asked about every address.
	Guard address.Guard
	// Upstream is the proxy that connections are made through; nil: none. The proxy
	// settings of the server's environment are not used.
	Upstream *url.URL
	// Resolver finds addresses; nil: net.DefaultResolver.
	Resolver *net.Resolver
	Logger   *slog.Logger // nil: slog's default
}

// Proxy makes the connections of all commands. It may be used from many goroutines.
type Proxy struct {
	config    Config
	dialer    net.Dialer      // checks addresses
	upstream  net.Dialer      // connects to the upstream proxy only, wherever it is
	transport *http.Transport // for http:// URLs
}

// New returns a proxy.
func New(c Config) *Proxy {
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	p := &Proxy{
		config:   c,
		dialer:   net.Dialer{Timeout: dialTimeout, Resolver: c.Resolver, ControlContext: c.Guard.Control},
		upstream: net.Dialer{Timeout: dialTimeout, Resolver: c.Resolver},
	}
	p.transport = &http.Transport{
		DialContext:            p.dialer.DialContext,
		DisableCompression:     true, // what is sent is what arrives
		MaxIdleConns:           maxIdle,
		IdleConnTimeout:        idleTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxResponseHead,
	}
	if c.Upstream != nil {
		p.transport.DialContext = p.upstream.DialContext
		p.transport.Proxy = http.ProxyURL(c.Upstream)
	}
	return p
}

// Close ends the connections that are kept.
func (p *Proxy) Close() { p.transport.CloseIdleConnections() }

// refusal is what a command may not reach, and why, for people.
type refusal struct {
	target string
	why    string
}

func (r *refusal) Error() string { return fmt.Sprintf("%s is refused: %s", r.target, r.why) }

// check judges the target by its name.
func (p *Proxy) check(a Access, t target) error {
	if a == Off {
		return &refusal{t.String(), "the network is off for this command. The install command may use it; a task or the build command asks for it with network: true in the plan"}
	}
	for _, pattern := range p.config.Allow {
		if pattern.covers(t) {
			return nil
		}
	}
	switch {
	case a != Open && t.usual():
		return &refusal{t.String(), "this server lets commands outside the install stage reach only the hosts of --egress-allow; start it with --egress-allow " + t.host}
	case !t.usual():
		return &refusal{t.String(), "ports other than 80 and 443 must be named; start the server with --egress-allow " + t.String()}
	}
	return nil
}

// dial connects to the target, which check has allowed.
func (p *Proxy) dial(ctx context.Context, t target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if p.config.Upstream == nil {
		conn, err := p.dialer.DialContext(ctx, "tcp", t.String())
		return conn, explain(t, err)
	}
	if err := p.checkAddresses(ctx, t); err != nil {
		return nil, err
	}
	return p.dialUpstream(ctx, t)
}

// checkAddresses refuses a target of which any address is refused, because the
// upstream proxy is who chooses one.
func (p *Proxy) checkAddresses(ctx context.Context, t target) error {
	addrs, err := p.addresses(ctx, t.host)
	for _, addr := range addrs {
		if err := p.config.Guard.Check(addr); err != nil {
			return explain(t, err)
		}
	}
	if _, unknown := errors.AsType[*net.DNSError](err); unknown {
		return nil
	}
	return explain(t, err)
}

func (p *Proxy) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	return p.config.Resolver.LookupNetIP(ctx, "ip", host)
}

// explain turns an error of a connection into one that names the target.
func explain(t target, err error) error {
	if err == nil {
		return nil
	}
	if refused, ok := errors.AsType[*address.RefusedError](err); ok {
		return &refusal{t.String(), "its address " + refused.Error()}
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return fmt.Errorf("%s cannot be reached: the name does not exist", t)
	}
	if errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err) {
		return &timeout{t}
	}
	return fmt.Errorf("%s cannot be reached: %w", t, inner(err))
}

// inner is the error without addresses, which may be the server's own.
func inner(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		if sys, ok := errors.AsType[*os.SyscallError](op.Err); ok {
			return sys.Err
		}
		return op.Err
	}
	return err
}

type timeout struct{ target target }

func (e *timeout) Error() string {
	return fmt.Sprintf("%s cannot be reached: it did not answer within %v", e.target, dialTimeout)
}
