// Package request is the outermost handler of every HTTP request. It determines the
// client and the public address, sets a request id, removes the public path, and
// writes one line of log when the request has been answered.
//
// Forwarding headers count only if a trusted proxy sent them; see [Config].
// Inside [Handler], r.RemoteAddr is the client's address, r.Host and r.URL.Scheme are
// those of the client's URL, and r.URL.Path is relative to the public path. So
// handlers need not handle proxies.
package request

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Config configures Handler. The zero value trusts no proxy.
type Config struct {
	// TrustedProxies are the addresses whose forwarding headers count.
	TrustedProxies []netip.Prefix
	// Prefix is the path of the public URL, such as /buildcast; empty: none. A
	// request whose path begins with it is served as if it did not, so a proxy
	// may remove or keep the prefix.
	Prefix string
	Logger *slog.Logger // default: slog.Default()
}

// info is what is known about a request; its context holds it.
type info struct {
	id, trace string
	err       error
}

type key struct{}

// Handler wraps next.
func Handler(c Config, next http.Handler) http.Handler {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	l := &logger{log: c.Logger, told: map[string]time.Time{}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		known := &info{id: idOf(r), trace: traceOf(r)}
		w.Header().Set("X-Request-Id", known.id)
		begun, path := time.Now(), r.URL.Path
		r = r.WithContext(context.WithValue(r.Context(), key{}, known))
		rewrite(r, c.TrustedProxies)
		rec := &recorder{ResponseWriter: w, prefix: c.Prefix}
		defer func() {
			panicked := recover()
			l.line(r, known, rec, path, time.Since(begun), panicked)
			if panicked != nil {
				panic(panicked) // net/http cuts the connection
			}
		}()
		if r.URL.Path == c.Prefix && c.Prefix != "" {
			rec.Header().Set("Location", "/"+query(r.URL))
			rec.WriteHeader(http.StatusPermanentRedirect)
			return
		}
		next.ServeHTTP(rec, below(r, c.Prefix))
	})
}

func query(u *url.URL) string {
	if u.RawQuery == "" {
		return ""
	}
	return "?" + u.RawQuery
}

// below removes the prefix from the request's path. A slash that is encoded does
// not end the prefix.
func below(r *http.Request, prefix string) *http.Request {
	if prefix == "" || !strings.HasPrefix(r.URL.EscapedPath(), prefix+"/") {
		return r
	}
	path := strings.TrimPrefix(r.URL.Path, prefix)
	stripped := new(http.Request)
	*stripped = *r
	stripped.URL = new(url.URL)
	*stripped.URL = *r.URL
	stripped.URL.Path, stripped.URL.RawPath = path, strings.TrimPrefix(r.URL.RawPath, prefix)
	return stripped
}

// Failed records why the request is refused or fails, for its line of log. The
// last error counts. Outside of Handler it does nothing.
func Failed(ctx context.Context, err error) {
	if known, ok := ctx.Value(key{}).(*info); ok {
		known.err = err
	}
}
