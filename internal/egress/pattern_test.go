package egress

import (
	"net/netip"
	"strings"
	"testing"
)

func TestPatterns(t *testing.T) {
	for text, cases := range map[string]map[string]bool{
		"registry.example.com": {"registry.example.com:443": true, "registry.example.com:80": true, "registry.example.com:8080": false, "a.registry.example.com:443": false, "example.com:443": false},
		"Example.COM.":         {"example.com:443": true},
		"*.example.com":        {"a.example.com:443": true, "a.b.example.com:80": true, "example.com:443": false, "notexample.com:443": false},
		"example.com:8443":     {"example.com:8443": true, "example.com:443": false},
		"*":                    {"anything.test:443": true, "anything.test:22": false},
		"*:22":                 {"anything.test:22": true, "anything.test:443": false},
		"192.0.2.7":            {"192.0.2.7:443": true, "[::ffff:192.0.2.7]:443": true, "192.0.2.8:443": false},
		"[2001:db8::1]:4873":   {"[2001:db8:0::1]:4873": true, "[2001:db8::1]:443": false},
		"2001:db8::1":          {"[2001:db8::1]:443": true},
	} {
		p, err := ParsePattern(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for host, want := range cases {
			to, ok := parseTarget(host, 0)
			if !ok {
				t.Fatalf("%s is not a target", host)
			}
			if p.covers(to) != want {
				t.Errorf("%s covers %s: %t", text, host, !want)
			}
		}
	}
	for _, bad := range []string{"", "https://example.com", "example.com/", "*.", "*.*", "a.*.com", "*example.com", "example.com:", "example.com:0", "example.com:99999", "*.192.0.2.7", "10.0.0.0/8", "exämple.com", "a b", "[::1", "fe80::1%eth0"} {
		if p, err := ParsePattern(bad); err == nil || !strings.Contains(err.Error(), "registry.example.com") {
			t.Errorf("%q: %+v, %v", bad, p, err)
		}
	}
}

// Whatever is accepted has one form, which is read again as itself.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"a:443", "[::1]:443", "A.B.:80", "127.0.0.1:1", "[::ffff:1.2.3.4]:80", "a", "::1", "[fe80::1%25x]:1", "*.a:443"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		to, ok := parseTarget(s, 80)
		if !ok {
			return
		}
		again, ok := parseTarget(to.String(), 0)
		if !ok || again != to {
			t.Errorf("%q: %+v, then %+v", s, to, again)
		}
		if addr, err := netip.ParseAddr(to.host); err == nil && (addr.Zone() != "" || addr.Is4In6()) {
			t.Errorf("%q: %s", s, to.host)
		}
		if p, err := ParsePattern(s); err == nil && p.host != "" && !p.sub && p.host != to.host {
			t.Errorf("%q: as a pattern %+v, as a target %+v", s, p, to)
		}
	})
}
