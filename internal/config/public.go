package config

import (
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
)

// ownPaths are the first segments of the server's own paths. The public path may not
// begin with one: /api/builds would be ambiguous.
var ownPaths = []string{"api", "assets", "badge", "builds", "docs", "events", "healthz", "metrics", "openapi.json", "openapi.yaml", "readyz", "socket.io", "webhooks"}

// Public returns the URL at which browsers reach the API; nil: the address on which
// it listens.
func (c *Config) Public() *url.URL {
	if c.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil {
		return nil // Check has refused it
	}
	return u
}

// Prefix returns the path of the public URL, such as /buildcast; empty: none.
func (c *Config) Prefix() string {
	if u := c.Public(); u != nil {
		return u.Path
	}
	return ""
}

// PublicOrigin returns the origin of the public URL's pages; empty: no public URL.
func (c *Config) PublicOrigin() string {
	if u := c.Public(); u != nil {
		return u.Scheme + "://" + u.Host
	}
	return ""
}

func (c *Config) checkPublic() error {
	if c.PreviewHost != "" {
		return invalid("--preview-host", "it is now --preview-url, which has the scheme too: use --preview-url 'http://{label}.%s'", c.PreviewHost)
	}
	if c.AllowCredentials {
		if len(c.AllowOrigins) == 0 {
			return invalid("--allow-credentials", "no origin is allowed that could send credentials: name them with --allow-origins")
		}
		if slices.Contains(c.AllowOrigins, "*") {
			return invalid("--allow-credentials", "--allow-origins is *, and with credentials any page could act as its visitor: list the origins instead")
		}
	}
	return c.checkPublicURL()
}

func (c *Config) checkPublicURL() error {
	if c.PublicURL == "" {
		return nil
	}
	const flag = "--public-url"
	u, err := url.Parse(c.PublicURL)
	switch {
	case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https":
		// The URL may hold a password, so it is not shown.
		return invalid(flag, "it is not an http or https URL: use one such as https://builds.example.com or https://example.com/buildcast")
	case u.User != nil:
		return invalid(flag, "it holds a user name or a password: leave them out")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return invalid(flag, "it has a query or a fragment: leave what follows ? or # out")
	}
	u.Host = withoutDefaultPort(strings.ToLower(u.Host), u.Scheme)
	u.Path = strings.TrimRight(u.Path, "/")
	if u.RawPath != "" || u.Path != "" && (path.Clean(u.Path) != u.Path || strings.Trim(u.Path, pathCharacters) != "") {
		return invalid(flag, "its path %q is not plain: use letters, digits and -_.~ between single slashes", u.Path)
	}
	if first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/"); slices.Contains(ownPaths, first) {
		return invalid(flag, "its path begins with /%s, which is a path of buildcast's own: use another, such as /buildcast", first)
	}
	c.PublicURL = u.String()
	return nil
}

const pathCharacters = "/ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"

// withoutDefaultPort returns the host in the form that browsers send in Host and Origin.
func withoutDefaultPort(host, scheme string) string {
	if scheme == "https" {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}

// AddressRange is a CIDR; a plain address is read as a range of one.
type AddressRange struct{ netip.Prefix }

// UnmarshalText reads 10.0.0.0/8 or 10.0.0.1.
func (a *AddressRange) UnmarshalText(text []byte) error {
	p, err := netip.ParsePrefix(string(text))
	if err != nil {
		addr, addrErr := netip.ParseAddr(string(text))
		if addrErr != nil || addr.Zone() != "" {
			return invalid("--trusted-proxies", "%q is not an address or a range: use 127.0.0.1 or a CIDR such as 10.0.0.0/8", text)
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	if p.Addr().Is4In6() {
		return invalid("--trusted-proxies", "%q is an IPv4 address in an IPv6 one: use the IPv4 address", text)
	}
	a.Prefix = p.Masked()
	return nil
}

// Proxies returns the ranges of TrustedProxies.
func (c *Config) Proxies() []netip.Prefix {
	ranges := make([]netip.Prefix, len(c.TrustedProxies))
	for i, r := range c.TrustedProxies {
		ranges[i] = r.Prefix
	}
	return ranges
}
