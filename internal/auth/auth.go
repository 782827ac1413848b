// Package auth decides which requests may be served.
//
// With API keys, writing needs one, and anybody who knows a build's id may read it.
// Without keys buildcast listens on loopback only, and guards against two dangers:
//   - A web page in the developer's own browser. Requests that pages of other sites
//     make are refused, and so are host names that do not mean this machine.
//   - A proxy that carries the requests of other machines to loopback. Writes
//     that show signs of a proxy are refused.
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/request"
)

// MinKey is the shortest API key that is accepted, in characters.
const MinKey = 16

// Config says who may write, and who may read. The zero value is the loopback mode.
type Config struct {
	// Keys are the API keys; each of them allows all writes. Empty: no key is asked for.
	Keys []string
	// TrustedOrigins are sites such as https://app.example.com whose pages may
	// write although no key is asked for.
	TrustedOrigins []string
	// Public is the address under which browsers reach the server; nil: the one
	// on which it listens. If it is not loopback and there are no keys, everybody may
	// read and nobody may write.
	Public *url.URL
	// AnyHost turns off the check of the Host header without keys: for a server
	// that was told to listen beyond loopback without keys.
	AnyHost bool
	// AnyProxy allows writes through proxies without keys.
	AnyProxy bool
}

// Guard checks requests. It may be used from many goroutines.
type Guard struct {
	keys    [][sha256.Size]byte // hashes: the time of a comparison does not depend on a key's length
	origins *http.CrossOriginProtection
	public  *url.URL

	anyHost, anyProxy bool
}

// New checks the configuration. Keys never appear in its errors.
func New(c Config) (*Guard, error) {
	g := &Guard{origins: http.NewCrossOriginProtection(), public: c.Public, anyHost: c.AnyHost, anyProxy: c.AnyProxy}
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

// Check reports whether the request may be served: Unauthenticated if a key is
// missing or wrong, PermissionDenied if a web page or a proxy is behind a request
// that needs no key.
func (g *Guard) Check(r *http.Request) error {
	if len(g.keys) > 0 {
		return g.checkKey(r)
	}
	if err := g.CheckHost(r); err != nil {
		return err
	}
	if err := g.origins.Check(r); err != nil {
		return buildcast.Errorf(buildcast.PermissionDenied, "a page of another site may not write here: start the server with an API key and send it, or allow the page's origin with --allow-origins").Because(err)
	}
	return g.checkDirect(r)
}

// checkDirect refuses writes that have come through a proxy, if no key is asked
// for: everybody who reaches the proxy could run commands on this machine.
func (g *Guard) checkDirect(r *http.Request) error {
	if g.anyProxy || reads(r) {
		return nil
	}
	if g.public != nil && !isLoopback(g.public.Host) {
		return buildcast.Errorf(buildcast.PermissionDenied, "nobody may write here, because this server is public (--public-url) and asks for no API key: start it with --api-keys, and send a key")
	}
	if sign := request.Forwarded(r); sign != "" {
		return buildcast.Errorf(buildcast.PermissionDenied, "a proxy has forwarded this request (%s), and this server asks for no API key, so everybody behind the proxy could run commands on it: start it with --api-keys and send a key, or send the request to the server itself", sign)
	}
	return nil
}

// CheckPrivate is Check for resources that not everybody may read: it treats every
// request as a write.
func (g *Guard) CheckPrivate(r *http.Request) error {
	writes := *r
	writes.Method = http.MethodPost
	return g.Check(&writes)
}

// CheckHost is the part of Check that protects reading: it refuses pages that have
// rebound their own host name to this machine (DNS rebinding).
func (g *Guard) CheckHost(r *http.Request) error {
	if len(g.keys) > 0 || g.anyHost || isLoopback(r.Host) || g.public != nil && strings.EqualFold(r.Host, g.public.Host) {
		return nil
	}
	return buildcast.Errorf(buildcast.PermissionDenied, "this server answers to localhost only, because it asks for no API key: use http://localhost, start it with --api-keys, or name its public address with --public-url")
}

func reads(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
}

func (g *Guard) checkKey(r *http.Request) error {
	if reads(r) {
		return nil
	}
	sum := sha256.Sum256([]byte(presentedKey(r)))
	match := 0
	for i := range g.keys { // all of them, so that the time does not tell which one matched
		match |= subtle.ConstantTimeCompare(sum[:], g.keys[i][:])
	}
	if match == 1 {
		return nil
	}
	return buildcast.Errorf(buildcast.Unauthenticated, "this needs an API key: send it as Authorization: Bearer KEY")
}

// presentedKey returns the key that the request carries; empty if there is none.
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
