package request

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/buildcast/buildcast"
)

// SameOrigin reports whether the request comes from a page of this server: its
// Origin header is the public origin, or has the request's host. The scheme is
// compared if a trusted proxy has reported it.
func SameOrigin(r *http.Request, public string) bool {
	origin := r.Header.Get("Origin")
	if public != "" && strings.EqualFold(origin, public) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) &&
		(r.URL.Scheme == "" || r.URL.Scheme == u.Scheme)
}

// ForeignOrigin returns the error for a page whose origin is not allowed.
func ForeignOrigin(origin string) error {
	const maxOrigin = 200
	if len(origin) > maxOrigin {
		origin = origin[:maxOrigin]
	}
	return buildcast.Errorf(buildcast.PermissionDenied, "pages of %q may not use this server: start it with --allow-origins %[1]s, or with --public-url if that is its own address behind a proxy", origin)
}
