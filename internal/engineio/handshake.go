package engineio

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxHandshake bounds what is kept of a session's first request, in bytes.
const maxHandshake = 8 << 10

// Handshake is the part of a session's first request that is kept.
type Handshake struct {
	RemoteAddr string
	Header     http.Header // the headers that Config.Headers names
	query      url.Values  // the parameters that Config.Query names
}

// Query returns the parameters of the first request's query that Config.Query names.
func (h *Handshake) Query() url.Values { return h.query }

// handshake returns the Handshake of the request. It returns false if it would have
// more than maxHandshake bytes.
func (c *Config) handshake(r *http.Request, query url.Values) (h Handshake, ok bool) {
	h.RemoteAddr = r.RemoteAddr
	var inHeader, inQuery int
	h.Header, inHeader = keep(r.Header, c.Headers, http.CanonicalHeaderKey)
	h.query, inQuery = keep(query, c.Query, func(name string) string { return name })
	return h, inHeader+inQuery <= maxHandshake
}

// keep returns copies of the named values, and their size in bytes. It returns
// nil if there are none: most sessions keep nothing.
func keep[T ~map[string][]string](from T, names []string, key func(string) string) (kept T, size int) {
	for _, name := range names {
		name = key(name)
		values := from[name]
		if len(values) == 0 {
			continue
		}
		if kept == nil {
			kept = make(T, 1)
		}
		values = slices.Clone(values)
		for i, v := range values {
			values[i] = strings.Clone(v) // the rest of the request is not kept alive
			size += len(v)
		}
		kept[name] = values
	}
	return kept, size
}
