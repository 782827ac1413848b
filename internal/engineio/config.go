package engineio

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Config configures a Server. The zero value has the protocol's defaults.
type Config struct {
	// PingInterval is how often the server pings the client. Default 25 s.
	PingInterval time.Duration
	// PingTimeout is how long the client has to answer. Default 20 s.
	PingTimeout time.Duration
	// UpgradeTimeout is how long a client has from opening a WebSocket on a
	// polling session to using it. Default 10 s.
	UpgradeTimeout time.Duration
	// MaxPayload is the most bytes of one POST or one WebSocket message, after
	// inflating. Default 1,000,000.
	MaxPayload int
	// MaxBuffered is the most bytes that all sessions together may hold: messages
	// that they are receiving, and bytes that their Conns count with Session.Hold.
	// A session's first 2 KiB do not count. A session that would exceed the limit is
	// closed. Default 64 MiB.
	MaxBuffered int
	// MaxSessions is how many sessions are open at most. Beyond it, the host with
	// the most sessions loses its oldest one. Default 20,000.
	MaxSessions int
	// MaxPending is how many pending sessions, for which Session.Settle was not
	// called, may be open in addition to MaxSessions. Beyond it the oldest pending
	// session is closed. Default: each session is settled from the start.
	MaxPending int
	// MaxPendingPerHost is the same limit for the sessions of one client address.
	// Default: MaxPending.
	MaxPendingPerHost int
	// CompressFrom is the shortest packet in bytes that is compressed, on
	// WebSockets whose client offers it. Default 1,024; negative: never.
	CompressFrom int
	// Origins are the browser origins (https://app.example.com) that may use the
	// server in addition to its own; "*" means any. They get CORS headers. A request
	// without an Origin header does not come from a browser's page and is accepted.
	Origins []string
	// CheckOrigin decides about a request whose origin is not among Origins. An
	// error refuses the request, and its text is the answer's message. Default: the
	// origin must have the request's host.
	CheckOrigin func(r *http.Request) error
	// Credentials allows pages of Origins to send cookies, except pages that only "*" allows.
	Credentials bool
	// Headers and Query name the request headers and the parameters of the URL's
	// query that Handshake keeps. Each costs memory for as long as the session
	// lives. Default: none.
	Headers, Query []string
	// Logger receives internal errors: panics of a Conn. Default: they are dropped.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.PingInterval = positive(c.PingInterval, 25*time.Second)
	c.PingTimeout = positive(c.PingTimeout, 20*time.Second)
	c.UpgradeTimeout = positive(c.UpgradeTimeout, 10*time.Second)
	c.MaxPayload = positive(c.MaxPayload, 1_000_000)
	c.MaxBuffered = positive(c.MaxBuffered, 64<<20)
	c.MaxSessions = positive(c.MaxSessions, 20_000)
	if c.CompressFrom == 0 {
		c.CompressFrom = 1024
	}
	if c.CheckOrigin == nil {
		c.CheckOrigin = sameHost
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// sameHost compares hosts and ports only: the scheme is unknown behind a proxy that
// terminates TLS.
func sameHost(r *http.Request) error {
	u, err := url.Parse(r.Header.Get("Origin"))
	if err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
		return errors.New("Forbidden")
	}
	return nil
}

func positive[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// clientAddr returns the address of the request's client, or the zero Addr if the
// request has none.
func clientAddr(r *http.Request) netip.Addr {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr)
	return addr.Addr()
}
