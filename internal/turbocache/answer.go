package turbocache

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"

	"github.com/buildcast/buildcast/internal/cache"
)

// failure is an answer that turbo understands. Its code is one of Vercel's.
type failure struct {
	status  int
	code    string
	message string
}

func (f *failure) Error() string { return f.message }

var (
	absent   = &failure{http.StatusNotFound, "not_found", "the artifact is not in the cache"}
	disabled = &failure{http.StatusForbidden, "remote_caching_disabled", "this server keeps no cache"}
	tooLarge = &failure{http.StatusRequestEntityTooLarge, "bad_request", "it is larger than what is taken: an artifact may have 512 MiB"}
	// full is 412 because turbo does not repeat it.
	full = &failure{http.StatusPreconditionFailed, "cache_full", "there is no room for the artifact"}
	// busy is 412 for the same reason: a build must not wait for another's slow uploads.
	busy = &failure{http.StatusPreconditionFailed, "cache_busy", "too many artifacts are arriving: this one is not kept"}
	// cut is an upload that did not arrive as a whole. Nobody reads its answer.
	cut = &failure{http.StatusBadRequest, "bad_request", "the body ended early"}
)

// fail answers with the error.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = classify(err)
	}
	if f.status >= http.StatusInternalServerError || f == full {
		h.log.Warn("the cache for turbo has trouble: builds go on without it", "error", err)
	}
	w.Header().Del("Content-Length") // of the artifact
	w.Header().Del(durationHeader)
	w.Header().Del(tagHeader)
	if f.status == http.StatusRequestEntityTooLarge {
		w.Header().Set("Connection", "close")
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(f.status)
		return
	}
	Refuse(w, f.status, f.code, f.message)
}

func classify(err error) *failure {
	_, tooLong := errors.AsType[*http.MaxBytesError](err)
	switch {
	case tooLong:
		return tooLarge
	case cache.Full(err):
		return full
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, os.ErrDeadlineExceeded):
		return cut
	}
	return &failure{http.StatusInternalServerError, "internal_server_error", "the cache has trouble; the server's log says what"}
}

// Refuse answers with an error in turbo's form.
func Refuse(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]map[string]string{"error": {"code": code, "message": message}})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // else the client has gone
}
