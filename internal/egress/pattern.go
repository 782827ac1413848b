package egress

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/buildcast/buildcast"
)

// Pattern names hosts that commands may reach: a host, all hosts below one, or all.
type Pattern struct {
	host string // lower case; empty: any
	sub  bool   // the hosts below host, and not host itself
	port uint16 // 0: 80 and 443
}

// ParsePattern reads HOST, *.HOST or *, each with an optional :PORT.
func ParsePattern(text string) (Pattern, error) {
	bad := func() (Pattern, error) {
		return Pattern{}, buildcast.Errorf(buildcast.InvalidArgument, "%.100q is not a host: use registry.example.com, *.example.com, 192.0.2.7 or *, with :PORT if it is neither 80 nor 443", text)
	}
	host, port := text, ""
	if at := strings.LastIndexByte(text, ':'); at >= 0 && strings.IndexByte(text, ':') == at || strings.HasPrefix(text, "[") {
		var ok bool
		if host, port, ok = splitPort(text); !ok {
			return bad()
		}
	}
	var p Pattern
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return bad()
		}
		p.port = uint16(n)
	}
	if host == "*" {
		return p, nil
	}
	host, p.sub = strings.CutPrefix(host, "*.")
	var ok bool
	if p.host, ok = normalize(host); !ok {
		return bad()
	}
	if _, err := netip.ParseAddr(p.host); err == nil && p.sub {
		return bad()
	}
	return p, nil
}

// splitPort splits [ADDR], [ADDR]:PORT and HOST:PORT.
func splitPort(text string) (host, port string, ok bool) {
	if inside, isAddr := strings.CutPrefix(text, "["); isAddr {
		host, port, ok = strings.Cut(inside, "]")
		if port == "" {
			return host, "", ok
		}
		rest, colon := strings.CutPrefix(port, ":")
		return host, rest, ok && colon && rest != ""
	}
	host, port, _ = strings.Cut(text, ":")
	return host, port, port != ""
}

// normalize returns the host in the one form that patterns are compared in. Names
// beyond ASCII are refused: programs differ in what they turn them into.
func normalize(host string) (string, bool) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().String(), addr.Zone() == ""
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || len(host) > 253 || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.Contains("."+host+".", "..") {
		return "", false
	}
	return host, true
}

func (p Pattern) covers(t target) bool {
	if p.port != 0 && p.port != t.port || p.port == 0 && !t.usual() {
		return false
	}
	switch {
	case p.host == "":
		return true
	case p.sub:
		return strings.HasSuffix(t.host, "."+p.host)
	}
	return t.host == p.host
}

// target is where a command wants to connect to.
type target struct {
	host string // normalized
	port uint16
}

func (t target) usual() bool { return t.port == 80 || t.port == 443 }

func (t target) String() string {
	host := t.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(t.port))
}

// parseTarget reads host:port, or a host alone, which then has the port of its scheme.
func parseTarget(hostport string, usual uint16) (t target, ok bool) {
	host, port := hostport, ""
	if strings.HasPrefix(hostport, "[") || strings.Contains(hostport, ":") {
		if host, port, ok = splitPort(hostport); !ok {
			return t, false
		}
	}
	t.port = usual
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return t, false
		}
		t.port = uint16(n)
	}
	if t.port == 0 { // CONNECT names its port
		return t, false
	}
	t.host, ok = normalize(host)
	return t, ok
}
