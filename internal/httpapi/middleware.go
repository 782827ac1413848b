package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/request"
)

// ServeHTTP is around every request: it catches panics, answers CORS and asks
// the guard. Package request, around it, writes the log.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w}
	defer a.recoverPanic(rec, r)
	w.Header()["X-Content-Type-Options"] = nosniff
	if a.cors(rec, r) {
		return
	}
	if a.Guard != nil {
		if err := a.Guard.Check(r); err != nil {
			a.fail(rec, r, err)
			return
		}
	}
	a.mux.ServeHTTP(rec, r)
}

var nosniff = []string{"nosniff"} // shared by all answers; nobody may change it

// recorder knows the status that was sent.
type recorder struct {
	http.ResponseWriter
	status int // 0: nothing was sent yet
}

func (w *recorder) WriteHeader(status int) {
	if status >= 200 && w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (a *api) recoverPanic(w *recorder, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	a.Logger.Error("a handler panicked", "method", r.Method, "route", r.Pattern, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler) // cut the connection, or half an answer would look whole
	}
	a.fail(w, r, buildcast.Errorf(buildcast.Internal, "something went wrong inside buildcast; its log says what"))
}

// cors lets pages of the allowed origins read the answers. It reports whether
// the request is answered: a preflight is, whether its page is allowed or not.
func (a *api) cors(w http.ResponseWriter, r *http.Request) bool {
	h := w.Header()
	if len(a.AllowOrigins) > 0 {
		h.Add("Vary", "Origin")
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	preflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
	switch {
	case slices.Contains(a.AllowOrigins, origin):
		h.Set("Access-Control-Allow-Origin", origin)
		if a.AllowCredentials {
			h.Set("Access-Control-Allow-Credentials", "true")
		}
	case slices.Contains(a.AllowOrigins, "*"):
		h.Set("Access-Control-Allow-Origin", "*")
	case request.SameOrigin(r, a.PublicOrigin):
		return false
	default:
		return a.refuseOrigin(w, r, origin, preflight)
	}
	if !preflight {
		h.Set("Access-Control-Expose-Headers", "ETag, Location, Retry-After, X-Request-Id")
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Traceparent, X-API-Key, X-Request-Id")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// refuseOrigin tells the operator and, as far as it sees the answer, the page's
// author how the page's origin is allowed. Other requests than preflights are
// served all the same: the browser keeps the answer from the page.
func (a *api) refuseOrigin(w http.ResponseWriter, r *http.Request, origin string, preflight bool) bool {
	err := request.ForeignOrigin(origin)
	if !preflight {
		request.Failed(r.Context(), err)
		return false
	}
	a.fail(w, r, err)
	return true
}
