package outbound

import (
	"errors"
	"net/netip"
	"net/url"
	"testing"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/address"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mustRefuse is written out again, so that a range lost from the policy's own
// table is missed.
var mustRefuse = []string{
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
	"::/128", "::1/128", "fc00::/7", "fe80::/10", "ff00::/8", "2001::/32", "2001::/23", "2001:db8::/32", "2002::/16",
	"64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "3fff::/20", "5f00::/16",
}

func first(p netip.Prefix) netip.Addr { return p.Masked().Addr() }

func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func inRefused(a netip.Addr) bool {
	for _, r := range mustRefuse {
		if netip.MustParsePrefix(r).Contains(a) {
			return true
		}
	}
	return a.Is6() && a.As16()[0]>>5 != 1 // beyond 2000::/3 nothing is global unicast
}

func hostOf(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	return "[" + a.String() + "]"
}

// expect asks all three places that judge an address.
func expect(t *testing.T, p Policy, a netip.Addr, refused bool) {
	t.Helper()
	err := p.Allowed(a)
	if _, ok := errors.AsType[*address.RefusedError](err); ok != refused || (err != nil) != refused {
		t.Errorf("Allowed(%s) = %v, refused should be %t", a, err, refused)
	}
	network := "tcp4"
	if a.Is6() {
		network = "tcp6"
	}
	if err := p.guard().Control(t.Context(), network, netip.AddrPortFrom(a, 443).String(), nil); (err != nil) != refused {
		t.Errorf("at dial time, %s: %v, refused should be %t", a, err, refused)
	}
	_, err = p.CheckURL("https://" + hostOf(a) + "/hook")
	if (err != nil) != refused {
		t.Errorf("as a url, %s: %v, refused should be %t", a, err, refused)
	}
	if e, ok := errors.AsType[*buildcast.Error](err); refused && (!ok || e.Code != buildcast.InvalidArgument || e.Field != "url") {
		t.Errorf("as a url, %s: the error is %#v", a, err)
	}
}

func TestRanges(t *testing.T) {
	for _, r := range mustRefuse {
		p := netip.MustParsePrefix(r)
		t.Run(r+" first", func(t *testing.T) { expect(t, Policy{}, first(p), true) })
		t.Run(r+" last", func(t *testing.T) { expect(t, Policy{}, last(p), true) })
		if before := first(p).Prev(); before.IsValid() {
			t.Run(r+" just before", func(t *testing.T) { expect(t, Policy{}, before, inRefused(before)) })
		}
		if after := last(p).Next(); after.IsValid() {
			t.Run(r+" just after", func(t *testing.T) { expect(t, Policy{}, after, inRefused(after)) })
		}
		if p.Addr().Is4() {
			t.Run(r+" IPv4-mapped", func(t *testing.T) {
				expect(t, Policy{}, netip.AddrFrom16(first(p).As16()), true)
				expect(t, Policy{}, netip.AddrFrom16(last(p).As16()), true)
			})
		}
		t.Run(r+" allowed", func(t *testing.T) {
			allow := Policy{Allow: []netip.Prefix{p}}
			expect(t, allow, first(p), false)
			expect(t, allow, last(p), false)
		})
		t.Run(r+" fix", func(t *testing.T) {
			e, _ := errors.AsType[*address.RefusedError](Policy{}.Allowed(first(p)))
			expect(t, Policy{Allow: []netip.Prefix{e.Range}}, first(p), false)
		})
	}
}

func TestGlobalUnicastIsAllowed(t *testing.T) {
	for _, a := range []string{
		"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
		"223.255.255.255", "::ffff:1.1.1.1", "2001:db7:ffff::1", "2001:db9::", "2003::", "2606:4700::1111",
	} {
		t.Run(a, func(t *testing.T) { expect(t, Policy{}, netip.MustParseAddr(a), false) })
	}
}

// Addresses that no range of the table holds, and yet are no receiver's.
func TestNotGlobalUnicast(t *testing.T) {
	for name, a := range map[string]string{
		"IPv4-compatible loopback": "::127.0.0.1",
		"IPv4-compatible private":  "::10.0.0.1",
		"IPv4-translated loopback": "::ffff:0:127.0.0.1",
		"site-local":               "fec0::1",
		"unassigned":               "4000::1",
		"6to4 of loopback":         "2002:7f00:1::",
		"NAT64 of loopback":        "64:ff9b::127.0.0.1",
		"Teredo of loopback":       "2001:0:5ef5:79fb:0:59d:80ff:fffe",
		"local NAT64 of metadata":  "64:ff9b:1::169.254.169.254",
	} {
		t.Run(name, func(t *testing.T) { expect(t, Policy{}, netip.MustParseAddr(a), true) })
	}
	if err := (Policy{}).Allowed(netip.Addr{}); err == nil {
		t.Error("no address at all is allowed")
	}
}

func TestZoneDoesNotHideAnAddress(t *testing.T) {
	for _, a := range []string{"fe80::1%eth0", "::1%lo", "fc00::1%1", "::ffff:127.0.0.1%lo"} {
		t.Run(a, func(t *testing.T) {
			addr, err := netip.ParseAddr(a)
			if err != nil {
				t.Fatal(err)
			}
			if (Policy{}).Allowed(addr) == nil {
				t.Error("it is allowed")
			}
			if _, err := (Policy{}).CheckURL("https://[" + url.PathEscape(a) + "]/"); err == nil {
				t.Error("it is allowed as a url")
			}
		})
	}
	local := Policy{Allow: []netip.Prefix{netip.MustParsePrefix("fe80::/10")}}
	if _, err := local.CheckURL("https://[fe80::1%25eth0]/"); err != nil {
		t.Error(err)
	}
	if _, err := local.CheckURL("https://[2606:4700::1%25eth0]/"); err == nil {
		t.Error("a global address may have a zone")
	}
}

func TestAllowLoopbackAllowsNothingElse(t *testing.T) {
	p := Policy{AllowLoopback: true}
	for a, refused := range map[string]bool{
		"127.0.0.1": false, "127.255.255.255": false, "::1": false, "::ffff:127.0.0.1": false,
		"0.0.0.0": true, "::": true, "10.0.0.1": true, "169.254.169.254": true, "::127.0.0.1": true,
	} {
		t.Run(a, func(t *testing.T) { expect(t, p, netip.MustParseAddr(a), refused) })
	}
}

func TestAllowOfMappedRange(t *testing.T) {
	p := Policy{Allow: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}}
	for a, refused := range map[string]bool{
		"10.1.2.3": false, "::ffff:10.1.2.3": false, "11.0.0.0": false, "172.16.0.1": true, "::10.1.2.3": true,
	} {
		t.Run(a, func(t *testing.T) { expect(t, p, netip.MustParseAddr(a), refused) })
	}
	all6 := Policy{Allow: []netip.Prefix{netip.MustParsePrefix("::/0")}}
	expect(t, all6, netip.MustParseAddr("::ffff:127.0.0.1"), true) // IPv4, not IPv6
}

func TestOnlyTCPIsDialled(t *testing.T) {
	for _, network := range []string{"unix", "udp4", "ip4:1"} {
		if (Policy{}).guard().Control(t.Context(), network, "1.1.1.1:443", nil) == nil {
			t.Errorf("%s is dialled", network)
		}
	}
	if (Policy{}).guard().Control(t.Context(), "tcp4", "a.socket", nil) == nil {
		t.Error("an address that cannot be read is dialled")
	}
}

// A range that was allowed is not a wider one: ::1/128 holds one address.
func TestAllowOfOneAddress(t *testing.T) {
	for text, others := range map[string][]string{
		"::1/128":        {"::2", "::", "::ffff"},
		"fd00::1/128":    {"fd00::2", "fd00:0:1::1"},
		"::ffff:0:1/128": {"0.0.0.2", "::1", "10.0.0.1"},
	} {
		prefix := netip.MustParsePrefix(text)
		p := Policy{Allow: []netip.Prefix{prefix}}
		if err := p.Allowed(prefix.Addr()); err != nil {
			t.Errorf("%s itself: %v", text, err)
		}
		for _, other := range others {
			if p.Allowed(netip.MustParseAddr(other)) == nil {
				t.Errorf("%s allows %s", text, other)
			}
		}
	}
}
