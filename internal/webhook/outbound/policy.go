// Package outbound is the HTTP side of sending webhooks: which addresses the
// server may be sent to, a client that keeps to that, and words for what went
// wrong.
//
// Whoever may name an endpoint's URL can make the server send requests, so a
// URL is judged twice. [Policy.CheckURL] answers the person who enters it, from
// the text alone. The client of [NewClient] checks again, on the address that
// the kernel is about to connect to, for every connection: a name that resolves
// to something else the second time gains nothing.
//
// Behind a proxy the connection is made by the proxy. The client then resolves
// the target itself and refuses it where any of its addresses is refused, but
// the proxy resolves it again: against names that change in between, only the
// proxy can protect. The proxy is the operator's choice and may be anywhere.
//
// Everything here may be used by many goroutines at once.
package outbound

import (
	"net/netip"

	"github.com/buildcast/buildcast/internal/address"
)

// Policy says which receivers may be reached. The zero Policy: https, and
// global unicast addresses outside the special ranges. It is not to be changed
// once it is in use.
type Policy struct {
	// Allow are ranges that are reached whatever else they are. A range of
	// IPv4-mapped addresses is the IPv4 range it maps.
	Allow []netip.Prefix
	// AllowLoopback lets 127.0.0.0/8, ::1 and localhost be reached, over http too:
	// for a server that itself listens on loopback only.
	AllowLoopback bool
	// AllowHTTP lets http be used to any host. Events are then readable on the way.
	AllowHTTP bool
}

// Allowed reports whether addr may be reached: nil, or a *[address.RefusedError].
func (p Policy) Allowed(addr netip.Addr) error { return p.guard().Check(addr) }

func (p Policy) guard() address.Guard {
	return address.Guard{Allow: p.Allow, AllowLoopback: p.AllowLoopback, Flag: "--webhook-allow"}
}
