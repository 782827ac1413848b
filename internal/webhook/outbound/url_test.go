package outbound

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
)

func TestURLsThatAreFine(t *testing.T) {
	for raw, p := range map[string]Policy{
		"https://hooks.example.com/a?b=c%20d":        {},
		"HTTPS://Hooks.Example.COM./":                {},
		"https://xn--bcher-kva.example:8443":         {},
		"https://8.8.8.8":                            {},
		"https://[2606:4700::1111]:443/":             {},
		"https://a_b.internal/ü":                     {},
		"https://7f.example/":                        {},
		"https://a/" + strings.Repeat("x", 2038):     {},
		"http://hooks.example.com/":                  {AllowHTTP: true},
		"http://8.8.8.8/":                            {AllowHTTP: true},
		"http://localhost:8080/":                     {AllowLoopback: true},
		"http://LOCALHOST./":                         {AllowLoopback: true},
		"https://app.localhost/":                     {AllowLoopback: true},
		"http://127.0.0.1:9000/":                     {AllowLoopback: true},
		"http://[::1]:9000/":                         {AllowLoopback: true},
		"http://[::ffff:127.0.0.1]/":                 {AllowLoopback: true},
		"https://10.1.2.3/":                          {Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		"https://localhost/":                         {Allow: []netip.Prefix{netip.MustParsePrefix("::1/128")}},
		"https://" + strings.Repeat("a.", 126) + "a": {},
	} {
		u, err := p.CheckURL(raw)
		if err != nil {
			t.Errorf("%.60s: %v", raw, err)
		} else if u.Host == "" {
			t.Errorf("%.60s: %+v", raw, u)
		}
	}
}

func TestURLAttacks(t *testing.T) {
	for _, attack := range []struct{ name, raw, says string }{
		{"loopback", "https://127.0.0.1/", "127.0.0.0/8 (loopback); if it is meant to be reached, start the server with --webhook-allow 127.0.0.0/8"},
		{"private", "https://10.1.2.3/", "--webhook-allow 10.0.0.0/8"},
		{"metadata", "https://169.254.169.254/latest/meta-data", "169.254.0.0/16"},
		{"this host", "https://0.0.0.0/", "0.0.0.0/8"},
		{"this host, IPv6", "https://[::]/", "::/128"},
		{"loopback, IPv6", "https://[::1]/", "::1/128"},
		{"loopback, IPv6 written out", "https://[0:0:0:0:0:0:0:1]/", "::1/128"},
		{"mapped", "https://[::ffff:127.0.0.1]/", "127.0.0.0/8"},
		{"mapped, in hexadecimal", "https://[::ffff:7f00:1]/", "127.0.0.0/8"},
		{"mapped private", "https://[::FFFF:10.0.0.1]/", "10.0.0.0/8"},
		{"zone", "https://[fe80::1%25eth0]/", "fe80::/10"},
		{"zone on loopback", "https://[::1%25lo]/", "::1/128"},
		{"localhost", "https://localhost/", "127.0.0.0/8"},
		{"upper-case localhost", "https://LOCALHOST/", "127.0.0.0/8"},
		{"localhost with a final dot", "https://localhost./", "127.0.0.0/8"},
		{"below localhost", "https://a.localhost/", "127.0.0.0/8"},
		{"loopback with a final dot", "https://127.0.0.1./", "127.0.0.0/8"},
		{"two final dots", "https://127.0.0.1../", "host name"},
		{"decimal", "https://2130706433/", "127.0.0.1 is refused"},
		{"decimal metadata", "https://2852039166/", "169.254.169.254 is refused"},
		{"octal", "https://0177.0.0.1/", "127.0.0.1 is refused"},
		{"octal, all of it", "https://017700000001/", "127.0.0.1 is refused"},
		{"octal with many zeros", "https://0000000177.0.0.01/", "127.0.0.1 is refused"},
		{"hexadecimal", "https://0x7f.0.0.1/", "127.0.0.1 is refused"},
		{"upper-case hexadecimal", "https://0X7F000001/", "127.0.0.1 is refused"},
		{"hexadecimal, all of it", "https://0x7f000001/", "127.0.0.1 is refused"},
		{"short", "https://127.1/", "127.0.0.1 is refused"},
		{"short, three parts", "https://127.0.1/", "127.0.0.1 is refused"},
		{"short, mixed", "https://0x7f.1/", "127.0.0.1 is refused"},
		{"zero", "https://0/", "0.0.0.0 is refused"},
		{"bare 0x", "https://0x/", "0.0.0.0 is refused"},
		{"decimal of an allowed address", "https://134744072/", "write that"},
		{"leading zero of an allowed address", "https://8.8.8.010/", "write that"},
		{"number that overflows", "https://4294967296/", "not an IPv4 address"},
		{"number of many digits", "https://99999999999999999999999999/", "not an IPv4 address"},
		{"part that overflows", "https://127.0.0.256/", "not an IPv4 address"},
		{"five parts", "https://127.0.0.0.1/", "not an IPv4 address"},
		{"name that ends in a number", "https://example.127/", "not an IPv4 address"},
		{"no octal digit", "https://127.0.0.08/", "not an IPv4 address"},
		{"ideographic dots", "https://127\u30020\u30020\u30021/", "ASCII"},
		{"ideographic dots, escaped", "https://127%E3%80%820%E3%80%820%E3%80%821/", "ASCII"},
		{"half-width ideographic dots", "https://127\uff610\uff610\uff611/", "ASCII"},
		{"full-width dots", "https://127\uff0e0\uff0e0\uff0e1/", "ASCII"},
		{"full-width digits", "https://\uff11\uff12\uff17.\uff10.\uff10.\uff11/", "ASCII"},
		{"circled digits", "https://①②⑦.⓪.⓪.①/", "ASCII"},
		{"full-width localhost", "https://\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54/", "ASCII"},
		{"soft hyphen", "https://local\u00adhost/", "ASCII"},
		{"zero-width space", "https://local\u200bhost/", "ASCII"},
		{"IDN dot in a name", "https://good.example\u3002localhost/", "ASCII"},
		{"escaped digits", "https://%31%32%37.0.0.1/", "cannot be read"},
		{"user name as a decoy", "http://good@127.0.0.1/", "user name"},
		{"user and password as a decoy", "https://good.example:443@127.0.0.1/", "user name"},
		{"two @", "https://good.example@good.example@127.0.0.1/", ""},
		{"empty user", "https://@good.example/", "user name"},
		{"backslash before @", `https://good.example\@127.0.0.1/`, "cannot be read"},
		{"backslash in the host", `https://127.0.0.1\.good.example/`, ""},
		{"escaped @", "https://good.example%40127.0.0.1/", ""},
		{"CRLF in the path", "https://good.example/\r\nHost: 127.0.0.1", "control character"},
		{"CRLF in the host", "https://good.example\r\n/", "control character"},
		{"escaped CRLF in the host", "https://good.example%0d%0a/", "cannot be read"},
		{"NUL", "https://good.example\x00.127.0.0.1/", "control character"},
		{"tab", "https://good\t.example/", "control character"},
		{"DEL", "https://good.example/\x7f", "control character"},
		{"C1 control", "https://good.example/\u0085", "control character"},
		{"line separator", "https://good.example/\u2028", "space"},
		{"space", "https://good.example/ x", "space"},
		{"leading space", " https://good.example/", "space"},
		{"no-break space", "https://good.example/\u00a0", "space"},
		{"no UTF-8", "https://good.example/\xff", "not text"},
		{"fragment", "https://good.example/#@127.0.0.1/", "#"},
		{"empty fragment", "https://good.example/#", "#"},
		{"fragment before @", "https://good.example#@127.0.0.1/", "#"},
		{"http", "http://good.example/", "--webhook-allow-http"},
		{"file", "file:///etc/passwd", "https"},
		{"gopher", "gopher://good.example/", "https"},
		{"unix socket", "http+unix://%2Fvar%2Frun%2Fdocker.sock/", "https"},
		{"no scheme", "good.example/hook", "https"},
		{"scheme-relative", "//good.example/", "https"},
		{"opaque", "https:good.example", "no host"},
		{"no host", "https:///hook", "no host"},
		{"no host but a port", "https://:443/", "no host"},
		{"empty", "", "https"},
		{"port 0", "https://good.example:0/", "port"},
		{"port beyond 65535", "https://good.example:65536/", "port"},
		{"port that wraps to 80", "https://good.example:65616/", "port"},
		{"port as a name", "https://good.example:https/", "cannot be read"},
		{"bare IPv6", "https://::1/", ""},
		{"IPv4 in brackets", "https://[127.0.0.1]/", "cannot be read"},
		{"name in brackets", "https://[localhost]/", "cannot be read"},
		{"IPvFuture", "https://[v1.127.0.0.1]/", "cannot be read"},
		{"quote in the host", "https://good.example'/", "host name"},
		{"comma in the host", "https://good.example,127.0.0.1/", "ends in a number"},
		{"semicolon in the host", "https://good;.example/", "host name"},
		{"empty label", "https://good..example/", "host name"},
		{"long label", "https://" + strings.Repeat("a", 64) + ".example/", "63"},
		{"long host", "https://" + strings.Repeat("a.", 127) + "a/", "253"},
		{"long url", "https://a/" + strings.Repeat("x", 2039), "2048"},
	} {
		t.Run(attack.name, func(t *testing.T) {
			_, err := Policy{}.CheckURL(attack.raw)
			e, ok := errors.AsType[*buildcast.Error](err)
			if !ok || e.Code != buildcast.InvalidArgument || e.Field != "url" {
				t.Fatalf("error %#v", err)
			}
			if !strings.HasPrefix(e.Message, "the url") || !strings.Contains(e.Message, attack.says) {
				t.Errorf("it says %q, not %q", e.Message, attack.says)
			}
		})
	}
}

// http is for hosts that surely are loopback only.
func TestPlainHTTPBesideAllowLoopback(t *testing.T) {
	p := Policy{AllowLoopback: true, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for _, raw := range []string{"http://hooks.example.com/", "http://8.8.8.8/", "http://10.0.0.1/", "http://a.localhost/", "http://127.1/"} {
		if _, err := p.CheckURL(raw); err == nil {
			t.Errorf("%s is accepted", raw)
		}
	}
}

func TestURLErrorsHoldNoPassword(t *testing.T) {
	for _, raw := range []string{
		"https://user:hunter2@good.example/", "https://user:hunter2", "https://us er:hunter2@good.example/",
		"https://user:hunter2@good.example:port/", "https://user:hunter2@[::1/", "https://%zz:hunter2@good.example/",
	} {
		_, err := Policy{}.CheckURL(raw)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// numeric is a host that some program reads as an IPv4 address.
var numeric = regexp.MustCompile(`(?i)^((0x[0-9a-f]*|[0-9]+)\.){0,3}(0x[0-9a-f]*|[0-9]+)\.?$`)

// What is accepted has a host that reaches allowed addresses only, whoever reads it.
func FuzzCheckURL(f *testing.F) {
	for _, raw := range []string{
		"https://hooks.example.com/a?b=c", "https://8.8.8.8/", "https://[2606:4700::1111]:8443/", "http://127.1/",
		"https://0x7f.0.0.1", "https://2130706433/", "https://[::ffff:10.0.0.1]/", "https://[fe80::1%25eth0]/",
		"https://a:b@127.0.0.1/", "https://127。0。0。1/", "https://LOCALHOST./", "https://0177.1./",
	} {
		f.Add(raw)
	}
	p := Policy{AllowHTTP: true, Allow: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := p.CheckURL(raw)
		if err != nil {
			if buildcast.CodeOf(err) != buildcast.InvalidArgument {
				t.Errorf("%q: %v", raw, err)
			}
			return
		}
		host := u.Hostname()
		addr, err := netip.ParseAddr(host)
		if err == nil && p.Allowed(addr) != nil {
			t.Errorf("%q is accepted, and %s is refused", raw, addr)
		}
		if err != nil && (net.ParseIP(host) != nil || numeric.MatchString(host)) {
			t.Errorf("%q is accepted, and its host is a number", raw)
		}
		if u.User != nil || u.Fragment != "" || u.Opaque != "" || u.Scheme != "https" && u.Scheme != "http" {
			t.Errorf("%q is accepted as %+v", raw, u)
		}
		if again, err := url.Parse(u.String()); err != nil || again.Host != u.Host {
			t.Errorf("%q is accepted, and read again has another host: %v, %v", raw, again, err)
		}
	})
}
