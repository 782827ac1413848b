package engineio

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// refusal is an error answer of the protocol.
type refusal struct {
	status  int
	Code    int    `json:"code"`
	Message string `json:"message"`
}

var (
	unknownTransport   = &refusal{http.StatusBadRequest, 0, "Transport unknown"}
	unknownSession     = &refusal{http.StatusBadRequest, 1, "Session ID unknown"}
	badHandshakeMethod = &refusal{http.StatusBadRequest, 2, "Bad handshake method"}
	badRequest         = &refusal{http.StatusBadRequest, 3, "Bad request"}
	unsupportedVersion = &refusal{http.StatusBadRequest, 5, "Unsupported protocol version"}

	// The protocol does not define these.
	payloadTooLarge   = &refusal{http.StatusRequestEntityTooLarge, 3, "Payload too large"}
	handshakeTooLarge = &refusal{http.StatusRequestHeaderFieldsTooLarge, 3, "Handshake too large"}
	overloaded        = &refusal{http.StatusServiceUnavailable, 4, "Too much is being received: try again"}
	shuttingDown      = &refusal{http.StatusServiceUnavailable, 4, "Server shutting down"}
)

// forbidden is the answer to a page whose origin is not allowed.
func forbidden(why error) *refusal { return &refusal{http.StatusForbidden, 4, why.Error()} }

func (e *refusal) write(w http.ResponseWriter) {
	body, err := json.Marshal(e)
	if err != nil {
		panic(err) // a number and a string
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	if e.status == http.StatusServiceUnavailable {
		header.Set("Retry-After", "5")
	}
	w.WriteHeader(e.status)
	_, _ = w.Write(body)
}

// isUpgrade reports whether the request asks for a WebSocket.
func isUpgrade(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// allowOrigin returns an error if the page that sent the request may not use the
// server. If the page is allowed and belongs to another origin, it sets the CORS
// headers. WebSockets need the check most: browsers allow any page to open them.
func (s *Server) allowOrigin(w http.ResponseWriter, r *http.Request) error {
	header := w.Header()
	if len(s.config.Origins) > 0 {
		header.Add("Vary", "Origin")
	}
	origin := r.Header.Get("Origin")
	switch {
	case origin == "":
		return nil
	case slices.Contains(s.config.Origins, origin):
		header.Set("Access-Control-Allow-Origin", origin)
		if s.config.Credentials {
			header.Set("Access-Control-Allow-Credentials", "true")
		}
	case slices.Contains(s.config.Origins, "*"):
		header.Set("Access-Control-Allow-Origin", "*")
	default:
		return s.config.CheckOrigin(r)
	}
	return nil
}

// preflight answers a browser's CORS preflight request.
func preflight(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	if header.Get("Access-Control-Allow-Origin") != "" {
		header.Set("Access-Control-Allow-Methods", "GET, POST")
		if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
			header.Set("Access-Control-Allow-Headers", asked)
			header.Add("Vary", "Access-Control-Request-Headers")
		}
	}
	w.WriteHeader(http.StatusNoContent)
}
