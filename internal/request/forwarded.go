package request

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// maxHops is how many entries of forwarding headers are read.
const maxHops = 32

// headers are those that proxies add to requests that they forward. Package auth
// refuses some requests that have one.
var headers = []string{"Forwarded", "Via", "X-Real-Ip"}

// Forwarded names the header or property that shows that a proxy has forwarded the
// request; it is empty if nothing shows it. HTTP/1.0 counts as well: nginx uses it
// for its upstreams by default, and browsers and API clients never use it.
func Forwarded(r *http.Request) string {
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Forwarded-") || slices.Contains(headers, name) {
			return name
		}
	}
	if !r.ProtoAtLeast(1, 1) {
		return r.Proto
	}
	return ""
}

// origin is a request's client, host and scheme, as the nearest trusted proxies
// report them. Fields that they do not report are empty.
type origin struct {
	client       netip.Addr
	host, scheme string
}

// rewrite sets the request's client, host and scheme from trusted proxies' headers.
func rewrite(r *http.Request, trusted []netip.Prefix) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !contains(trusted, peer.Addr()) {
		return
	}
	told := readForwarded(r.Header, trusted)
	if told.client.IsValid() {
		r.RemoteAddr = netip.AddrPortFrom(told.client, 0).String()
	}
	if told.host != "" {
		r.Host = told.host
	}
	if told.scheme != "" {
		u := *r.URL
		u.Scheme = told.scheme
		r.URL = &u
	}
}

// readForwarded reads X-Forwarded-For, -Host and -Proto, or Forwarded (RFC 7239) if
// X-Forwarded-For is missing. It never mixes them: a proxy that sets one kind passes
// the other kind on as the client sent it.
func readForwarded(h http.Header, trusted []netip.Prefix) origin {
	if chain := list(h, "X-Forwarded-For"); len(chain) > 0 {
		client, hops := firstUntrusted(chain, trusted)
		return origin{
			client: client,
			host:   validHost(fromRight(list(h, "X-Forwarded-Host"), hops), fromRight(list(h, "X-Forwarded-Proto"), hops)),
			scheme: validScheme(fromRight(list(h, "X-Forwarded-Proto"), hops)),
		}
	}
	if chain := list(h, "Forwarded"); len(chain) > 0 {
		senders := make([]string, len(chain))
		for i, element := range chain {
			senders[i] = parameter(element, "for")
		}
		client, hops := firstUntrusted(senders, trusted)
		element := fromRight(chain, hops)
		scheme := parameter(element, "proto")
		return origin{client: client, host: validHost(parameter(element, "host"), scheme), scheme: validScheme(scheme)}
	}
	// Some proxies send only the host or the scheme.
	scheme := fromRight(list(h, "X-Forwarded-Proto"), 1)
	return origin{host: validHost(fromRight(list(h, "X-Forwarded-Host"), 1), scheme), scheme: validScheme(scheme)}
}

// firstUntrusted follows the chain from the nearest sender to the farthest, and
// stops at the first that is not a trusted proxy: entries beyond it could be forged.
// It returns that sender, and the number of proxies before it. It returns no sender
// if the entry cannot be read.
func firstUntrusted(chain []string, trusted []netip.Prefix) (client netip.Addr, hops int) {
	for _, entry := range slices.Backward(chain) {
		addr, ok := address(entry)
		if !ok {
			return client, max(hops, 1)
		}
		client = addr
		hops++
		if !contains(trusted, addr) {
			break
		}
	}
	return client, hops
}

// fromRight returns the n-th value from the right, which the n-th proxy has added.
// It returns the leftmost if there are fewer, because not every proxy adds one.
func fromRight(values []string, n int) string {
	if len(values) == 0 {
		return ""
	}
	return values[max(0, len(values)-n)]
}

// list returns the last maxHops comma-separated values of a header's lines.
func list(h http.Header, name string) (values []string) {
	for _, line := range h.Values(name) {
		for value := range strings.SplitSeq(line, ",") {
			if value = strings.TrimSpace(value); value != "" {
				values = append(values, value)
			}
		}
	}
	return values[max(0, len(values)-maxHops):]
}

// parameter returns the value of for=, host= or proto= in an element of Forwarded.
func parameter(element, name string) string {
	for pair := range strings.SplitSeq(element, ";") {
		if k, v, ok := strings.Cut(pair, "="); ok && strings.EqualFold(strings.TrimSpace(k), name) {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}

// address reads an IP address that may have a port, and brackets around IPv6.
func address(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return a.Unmap().WithZone(""), err == nil
}

// validHost returns the host with its port, without the scheme's default port. It
// returns "" if the host is not valid.
func validHost(host, scheme string) string {
	scheme = validScheme(scheme)
	u, err := url.Parse("//" + host)
	if err != nil || u.Host != host || u.Hostname() == "" {
		return ""
	}
	if scheme == "https" && u.Port() == "443" || scheme == "http" && u.Port() == "80" {
		if strings.Contains(u.Hostname(), ":") {
			return "[" + u.Hostname() + "]"
		}
		return u.Hostname()
	}
	return host
}

func validScheme(s string) string {
	if s = strings.ToLower(s); s == "http" || s == "https" {
		return s
	}
	return ""
}

func contains(ranges []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}

// clientIP returns the address without its port, for the log.
func clientIP(remoteAddr string) string {
	if host, _, err := net.SplitHostPort(remoteAddr); err == nil {
		return host
	}
	return remoteAddr
}
