// Package auth decides which requests may be served.
//
// With API keys, writing needs one and reading is open to whoever knows a
// build's id. Without keys buildcast listens on loopback only, where the danger
// is a web page in the developer's own browser: requests that other sites cause
// are refused, and so are host names that do not mean this machine.
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/buildcast/buildcast"
)

// MinKey is the shortest API key that is accepted, in characters.
const MinKey = 16

// Config says who may do what. The zero value is the loopback mode.
type Config struct {
	// Keys are the API keys; any of them opens all writes. Empty: no key is asked for.
	Keys []string
	// TrustedOrigins are sites such as https://app.example.com whose pages may
	// write although no key is asked for.
	TrustedOrigins []string
	// AnyHost turns off the check of the Host header where no key is asked for:
	// for a server that was told to listen beyond loopback without keys.
	AnyHost bool
}

// Guard checks requests. It may be used from many goroutines.
type Guard struct {
	keys    [][sha256.Size]byte // hashes have one length, so comparing them tells nothing of a key's
	origins *http.CrossOriginProtection
	anyHost bool
}

// New checks the configuration. Keys never appear in its errors.
func New(c Config) (*Guard, error) {
	g := &Guard{origins: http.NewCrossOriginProtection(), anyHost: c.AnyHost}
	for i, key := range c.Keys {
		if len(key) < MinKey {
			return nil, buildcast.Errorf(buildcast.InvalidArgument, "API key %d of %d is shorter than %d characters: make a longer one, such as with `openssl rand -hex 32`", i+1, len(c.Keys), MinKey).At("keys")
		}
		g.keys = append(g.keys, sha256.Sum256([]byte(key)))
	}
	for _, origin := range c.TrustedOrigins {
		if err := g.origins.AddTrustedOrigin(origin); err != nil {
			return nil, buildcast.Errorf(buildcast.InvalidArgument, "origin %q is not valid: use a scheme and a host, such as https://app.example.com", origin).At("origins").Because(err)
		}
	}
	return g, nil
}

// Check reports whether the request may be served: Unauthenticated where a key
// is missing or wrong, PermissionDenied where a web page is behind it.
func (g *Guard) Check(r *http.Request) error {
	if len(g.keys) > 0 {
		return g.checkKey(r)
	}
	if err := g.CheckHost(r); err != nil {
		return err
	}
	if err := g.origins.Check(r); err != nil {
		return buildcast.Errorf(buildcast.PermissionDenied, "a page of another site may not write here: start the server with an API key and send it, or allow the page's origin").Because(err)
	}
	return nil
}

// CheckPrivate is Check for what is not open to read: whatever its method, the
// request needs what one that writes does.
func (g *Guard) CheckPrivate(r *http.Request) error {
	writes := *r
	writes.Method = http.MethodPost
	return g.Check(&writes)
}

// CheckHost is the part of Check that protects reading: a page that has rebound
// its own name to this machine is refused.
func (g *Guard) CheckHost(r *http.Request) error {
	if len(g.keys) > 0 || g.anyHost || isLoopback(r.Host) {
		return nil
	}
	return buildcast.Errorf(buildcast.PermissionDenied, "this server answers to localhost only, because it asks for no API key: use http://localhost, or start it with an API key")
}

func (g *Guard) checkKey(r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	sum := sha256.Sum256([]byte(presentedKey(r)))
	match := 0
	for i := range g.keys { // all of them, so that the time says nothing of which one came close
		match |= subtle.ConstantTimeCompare(sum[:], g.keys[i][:])
	}
	if match == 1 {
		return nil
	}
	return buildcast.Errorf(buildcast.Unauthenticated, "this needs an API key: send it as Authorization: Bearer KEY")
}

// presentedKey is the key that the request carries; empty where there is none.
func presentedKey(r *http.Request) string {
	if scheme, key, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(key)
	}
	return r.Header.Get("X-API-Key")
}

// isLoopback reports whether a Host header names this machine. A page that
// rebinds its own name to 127.0.0.1 still sends its own name here.
func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && addr.IsLoopback()
}
