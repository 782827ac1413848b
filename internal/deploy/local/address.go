package local

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/buildcast/buildcast"
)

// placeholder stands for a build in the template of previews' addresses.
const placeholder = "{label}"

// maxLabel is the longest label of a build, build- included.
const maxLabel = len(sitePrefix) + 44

// Address is how browsers reach previews: each build has a host name of its own,
// or all builds are paths of one host. The zero value is http://{label}.localhost:8081.
type Address struct {
	scheme string
	// before and after enclose the build's label in the host's name.
	before, after string
	port          string // with its colon; empty: the scheme's own
	// shared is the host of all previews, whose paths begin with the label;
	// empty: each has a host of its own.
	shared string
}

// ParseAddress reads a template such as https://{label}.previews.example.com, or
// https://previews.example.com/{label} for a host that all previews share. The
// label of build 27 is build-27. Errors are *buildcast.Error.
func ParseAddress(template string) (Address, error) {
	const stand = "build-label" // what a URL's parser takes in its place
	switch strings.Count(template, placeholder) {
	case 1:
	case 0:
		return Address{}, badAddress("it lacks {label}, the place of the build's name: use https://{label}.previews.example.com, or https://previews.example.com/{label} for one host name")
	default:
		return Address{}, badAddress("it holds {label} more than once: use https://{label}.previews.example.com")
	}
	u, err := url.Parse(strings.Replace(strings.ToLower(template), placeholder, stand, 1))
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return Address{}, badAddress("it is not an http or https URL: use one such as https://{label}.previews.example.com")
	case u.User != nil, u.RawQuery != "" || u.ForceQuery, u.Fragment != "":
		return Address{}, badAddress("it holds more than scheme, host, port and {label}: use one such as https://{label}.previews.example.com")
	}
	a := Address{scheme: u.Scheme}
	if port := u.Port(); port != "" && !(u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80") {
		a.port = ":" + port
	}
	path := strings.Trim(u.Path, "/")
	host := strings.TrimSuffix(u.Hostname(), ".")
	switch {
	case path == stand:
		a.shared = host
		return a, nil
	case path != "":
		return Address{}, badAddress("its path %q is more than {label}: previews have a host of their own; use https://{label}.previews.example.com or https://previews.example.com/{label}", path)
	}
	first, rest, dots := strings.Cut(host, ".")
	before, after, ok := strings.Cut(first, stand)
	switch {
	case !ok || !dots:
		return Address{}, badAddress("{label} is not in the first part of the host: use https://{label}.previews.example.com")
	case len(before)+maxLabel+len(after) > 63:
		return Address{}, badAddress("the text around {label} has %d characters: use at most %d, because a part of a host name has at most 63", len(before)+len(after), 63-maxLabel)
	}
	a.before, a.after = before, after+"."+rest
	return a, nil
}

func badAddress(format string, args ...any) error {
	return buildcast.Errorf(buildcast.InvalidArgument, format, args...)
}

func (a Address) orDefault() Address {
	if a.scheme == "" {
		return Address{scheme: "http", after: ".localhost", port: ":8081"}
	}
	return a
}

// of returns the address of the preview with the label, which begins with build-.
func (a Address) of(label string) string {
	if a.shared != "" {
		host := a.shared
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return fmt.Sprintf("%s://%s%s/%s/", a.scheme, host, a.port, label)
	}
	return a.scheme + "://" + a.before + label + a.after + a.port + "/"
}

// Origin returns the origin that all previews share; it is empty if each has its own.
func (a Address) Origin() string {
	if a.shared == "" {
		return ""
	}
	return strings.TrimSuffix(a.of(""), "//")
}

// buildOf returns the label, without build-, in the host's name. It accepts
// hosts below localhost too, so that a preview can be reached without the proxy.
func (a Address) buildOf(host string) (label string, ok bool) {
	ends := [][2]string{{"", ".localhost"}}
	if a.shared == "" {
		ends = append(ends, [2]string{a.before, a.after})
	}
	for _, end := range ends {
		rest, begins := strings.CutPrefix(host, end[0])
		label, ok = strings.CutSuffix(rest, end[1])
		label, isBuild := strings.CutPrefix(label, sitePrefix)
		if begins && ok && isBuild && isLabel(label) {
			return label, true
		}
	}
	return "", false
}

// isShared reports whether the host may show builds by their path.
func (a Address) isShared(host string) bool {
	if host == "localhost" || host == a.shared {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
