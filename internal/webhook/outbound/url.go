package outbound

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/address"
)

// MaxURL is the length of the longest URL that is accepted, in bytes.
const MaxURL = 2048

// CheckURL parses an endpoint's URL and refuses what the client would refuse
// anyway, as far as that shows without DNS: its errors are for the person who
// typed it. They are *buildcast.Error, InvalidArgument, about the field url,
// and hold nothing of the URL but its host.
//
// A host is written in one way only: names in ASCII (xn--… for others), IPv4 as
// four decimal numbers. Other spellings, such as 0177.0.0.1 or 2130706433, are
// read differently by different programs, and are refused for what they may mean.
func (p Policy) CheckURL(raw string) (*url.URL, error) {
	if len(raw) > MaxURL {
		return nil, badURL("is %d bytes long; the limit is %d: shorten it", len(raw), MaxURL)
	}
	if !utf8.ValidString(raw) || strings.ContainsFunc(raw, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
		return nil, badURL("holds a space, a control character or a byte that is not text: remove it, or write it as %%20 and the like")
	}
	if strings.Contains(raw, "#") {
		return nil, badURL("holds a # and what follows it, which is never sent: remove it")
	}
	u, err := url.Parse(raw)
	if err != nil { // its text repeats the URL, which may hold a password
		return nil, badURL("cannot be read: write it as https://host/path")
	}
	if err := p.check(u); err != nil {
		return nil, err
	}
	return u, nil
}

// check is the part of CheckURL that the client repeats for each request,
// because the policy may have become stricter since the URL was stored.
func (p Policy) check(u *url.URL) error {
	if u.Scheme != "https" && u.Scheme != "http" {
		return badURL("begins with %q: use https://", u.Scheme+":")
	}
	if u.User != nil {
		return badURL("holds a user name or password before an @: remove it, and set an Authorization header on the endpoint instead")
	}
	if u.Hostname() == "" || u.Opaque != "" {
		return badURL("has no host: write it as https://host/path")
	}
	if err := checkPort(u.Port()); err != nil {
		return err
	}
	local, err := p.checkHost(u.Hostname(), strings.HasPrefix(u.Host, "["))
	if err != nil {
		return err
	}
	if u.Scheme == "http" && !p.AllowHTTP && (!local || !p.AllowLoopback) {
		return badURL("uses http, so that events could be read on the way: use https, or start the server with --webhook-allow-http")
	}
	return nil
}

func checkPort(port string) error {
	if port == "" {
		return nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return badURL("has port %q: use one from 1 to 65535", port)
	}
	return nil
}

// checkHost also reports whether the host is surely this machine's loopback.
func (p Policy) checkHost(host string, bracketed bool) (local bool, err error) {
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() == bracketed {
		if err := p.checkLiteral(addr); err != nil {
			return false, err
		}
		if addr.Zone() != "" && !addr.IsLinkLocalUnicast() {
			return false, badURL("has a zone (%%) in its address, which only link-local addresses have: remove it")
		}
		return addr.Unmap().IsLoopback(), nil
	}
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	if addr, isNumber, err := parseNumber(name); isNumber {
		if err != nil {
			return false, badURL("has the host %q, which ends in a number and is not an IPv4 address: write four numbers from 0 to 255, or a name", host)
		}
		if err := p.checkLiteral(addr); err != nil {
			return false, err
		}
		return false, badURL("has the host %q, another spelling of %s: write that", host, addr)
	}
	if err := checkName(name); err != nil {
		return false, err
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return name == "localhost", p.checkLocalhost()
	}
	return false, nil
}

func (p Policy) checkLiteral(addr netip.Addr) error {
	if refused, ok := errors.AsType[*address.RefusedError](p.Allowed(addr)); ok {
		return buildcast.Errorf(buildcast.InvalidArgument, "the url's address %s", refused).At("url")
	}
	return nil
}

// checkLocalhost lets the name pass where either of its addresses would.
func (p Policy) checkLocalhost() error {
	v4 := p.checkLiteral(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	if v4 == nil || p.Allowed(netip.IPv6Loopback()) == nil {
		return nil
	}
	return v4
}

// checkName is about a lower-case name without a final dot. HTTP clients turn
// characters beyond ASCII into others before they dial (。 becomes a dot,
// full-width digits become digits), so that a check of them proves nothing.
func checkName(name string) error {
	if strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
		return badURL("has a host name beyond ASCII: write it in its xn-- form")
	}
	if len(name) > 253 {
		return badURL("has a host name of %d characters; the limit is 253", len(name))
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return badURL("has the host name %q: its parts are 1 to 63 letters, digits and hyphens, with a dot between two", name)
		}
	}
	return nil
}

// parseNumber reads a host whose last part is a number the way inet_aton does:
// one to four parts in decimal, octal (0…) or hexadecimal (0x…), the last of
// which fills what is left of the 32 bits.
func parseNumber(host string) (addr netip.Addr, isNumber bool, err error) {
	parts := strings.Split(host, ".")
	if !isNumeric(parts[len(parts)-1]) {
		return netip.Addr{}, false, nil
	}
	if len(parts) > 4 {
		return netip.Addr{}, true, errors.New("more than four parts")
	}
	var bits uint64
	for i, part := range parts {
		free := 8 // of this part
		if i == len(parts)-1 {
			free = 8 * (5 - len(parts))
		}
		n, err := parsePart(part)
		if err != nil || n >= 1<<free {
			return netip.Addr{}, true, fmt.Errorf("part %d is not a number of %d bits", i+1, free)
		}
		bits = bits<<free | n
	}
	return netip.AddrFrom4([4]byte{byte(bits >> 24), byte(bits >> 16), byte(bits >> 8), byte(bits)}), true, nil
}

func isNumeric(part string) bool {
	if hex, ok := strings.CutPrefix(part, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return part != "" && strings.Trim(part, "0123456789") == ""
}

func parsePart(part string) (uint64, error) {
	if hex, ok := strings.CutPrefix(part, "0x"); ok {
		return strconv.ParseUint("0"+hex, 16, 64)
	}
	if len(part) > 1 && part[0] == '0' {
		return strconv.ParseUint(part, 8, 64)
	}
	return strconv.ParseUint(part, 10, 64)
}

func badURL(format string, args ...any) error {
	return buildcast.Errorf(buildcast.InvalidArgument, "the url "+format, args...).At("url")
}
