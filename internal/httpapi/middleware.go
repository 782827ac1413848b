package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/buildcast/buildcast"
)

// ServeHTTP is around every request: it catches panics, writes the debug log,
// answers CORS and asks the guard.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w}
	if a.Logger.Enabled(r.Context(), slog.LevelDebug) {
		defer a.logRequest(rec, r, time.Now())
	}
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

// logRequest names the route, never the path, headers or body: ids and keys stay out of the log.
func (a *api) logRequest(w *recorder, r *http.Request, start time.Time) {
	a.Logger.LogAttrs(context.WithoutCancel(r.Context()), slog.LevelDebug, "request",
		slog.String("method", r.Method), slog.String("route", r.Pattern),
		slog.Int("status", w.status), slog.Duration("took", time.Since(start)))
}

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
// the request was a preflight and is answered.
func (a *api) cors(w http.ResponseWriter, r *http.Request) bool {
	if len(a.AllowOrigins) == 0 {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	switch {
	case origin == "":
		return false
	case slices.Contains(a.AllowOrigins, "*"):
		h.Set("Access-Control-Allow-Origin", "*")
	case slices.Contains(a.AllowOrigins, origin):
		h.Set("Access-Control-Allow-Origin", origin)
	default:
		return false
	}
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		h.Set("Access-Control-Expose-Headers", "ETag, Location, Retry-After")
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, X-API-Key")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
