// Package address refuses the network addresses that whoever is not the operator must
// not make this server connect to: loopback, private ranges, link-local with the
// metadata service of clouds, and what stands for one of them in IPv6.
//
// A name is judged by the address that the kernel is about to connect to, for every
// connection ([Guard.Control]): a name that resolves to something else the second
// time gains nothing.
package address

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
)

// Guard says which addresses may be reached. The zero Guard allows global unicast
// addresses outside the special ranges. It is not to be changed once it is in use.
type Guard struct {
	// Allow are ranges that are reached whatever else they are. A range of
	// IPv4-mapped addresses is the IPv4 range it maps.
	Allow []netip.Prefix
	// AllowLoopback lets 127.0.0.0/8 and ::1 be reached.
	AllowLoopback bool
	// Flag is the flag that would allow more; errors name it.
	Flag string
}

// RefusedError is an address that the guard does not let the server reach.
type RefusedError struct {
	Addr  netip.Addr
	Range netip.Prefix // the range it is refused for; what an operator would allow
	Kind  string       // what that range is, such as private
	Flag  string       // the guard's
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s is refused: it is in %s (%s); if it is meant to be reached, start the server with %s %s",
		e.Addr, e.Range, e.Kind, e.Flag, e.Range)
}

type special struct {
	prefix netip.Prefix
	kind   string
}

// specials are the ranges that are refused; a range within another comes first.
var specials = []special{
	{netip.MustParsePrefix("0.0.0.0/8"), "this host"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared by a carrier"},
	{loopback4, "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, where clouds keep credentials"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relays"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarks"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},

	{netip.MustParsePrefix("::/128"), "this host"},
	{loopback6, "loopback"},
	{netip.MustParsePrefix("64:ff9b::/96"), "IPv4 behind NAT64"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "IPv4 behind NAT64"},
	{netip.MustParsePrefix("100::/64"), "discard"},
	{netip.MustParsePrefix("2001::/32"), "IPv4 behind Teredo"},
	{netip.MustParsePrefix("2001::/23"), "protocol assignments"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation"},
	{netip.MustParsePrefix("2002::/16"), "IPv4 behind 6to4"},
	{netip.MustParsePrefix("3fff::/20"), "documentation"},
	{netip.MustParsePrefix("5f00::/16"), "segment routing"},
	{netip.MustParsePrefix("fc00::/7"), "private"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

var (
	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.MustParsePrefix("::1/128")
	// unicast6 is all that IANA has set aside for global unicast. What lies outside
	// is not a receiver's, and may embed an IPv4 address (::127.0.0.1) or be a
	// site's own (fec0::/10).
	unicast6 = netip.MustParsePrefix("2000::/3")
)

// Check reports whether addr may be reached: nil, or a *[RefusedError].
// An IPv4-mapped address counts as its IPv4 address; a zone does not count.
func (g Guard) Check(addr netip.Addr) error {
	addr = addr.WithZone("").Unmap()
	for _, a := range g.Allow {
		if unmapPrefix(a).Contains(addr) {
			return nil
		}
	}
	if g.AllowLoopback && addr.IsLoopback() {
		return nil
	}
	for _, s := range specials {
		if s.prefix.Contains(addr) {
			return &RefusedError{Addr: addr, Range: s.prefix, Kind: s.kind, Flag: g.Flag}
		}
	}
	if !addr.Is4() && !unicast6.Contains(addr) {
		return &RefusedError{Addr: addr, Range: netip.PrefixFrom(addr, addr.BitLen()), Kind: "not global unicast", Flag: g.Flag}
	}
	return nil
}

// Control is a net.Dialer's ControlContext: it is called with the resolved address of
// each socket before it connects.
func (g Guard) Control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("connections are made over TCP, not %s", network)
	}
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("the address to connect to cannot be checked: %w", err)
	}
	return g.Check(addr.Addr())
}

func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}
