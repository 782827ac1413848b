package request

import (
	"crypto/rand"
	"net/http"
	"strings"
)

// maxID is the longest request id, in bytes, that is accepted from a client.
const maxID = 128

// idOf returns the request's id: the client's own if it is sane, or a new one.
func idOf(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); sane(id) {
		return id
	}
	return strings.ToLower(rand.Text())
}

// sane reports whether an id may go into a header and a log as it is.
func sane(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		if c := id[i]; !isAlphanumeric(c) && strings.IndexByte("-_.:+/=@", c) < 0 {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// traceOf returns the trace id of a valid traceparent header (W3C Trace Context);
// otherwise "".
func traceOf(r *http.Request) string {
	version, rest, _ := strings.Cut(r.Header.Get("Traceparent"), "-")
	trace, rest, _ := strings.Cut(rest, "-")
	parent, rest, _ := strings.Cut(rest, "-")
	flags, _, more := strings.Cut(rest, "-")
	switch {
	case !isHex(version, 2), version == "ff", version == "00" && more:
		return ""
	case !isHex(trace, 32), !isHex(parent, 16), !isHex(flags, 2):
		return ""
	case strings.Trim(trace, "0") == "", strings.Trim(parent, "0") == "":
		return ""
	}
	return trace
}

func isHex(s string, length int) bool {
	return len(s) == length && strings.Trim(s, "0123456789abcdef") == ""
}
