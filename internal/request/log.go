package request

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
)

const (
	// refusedEvery is how often a refusal is logged as a warning, for each cause.
	refusedEvery = time.Minute
	// maxCauses bounds how many causes are distinguished in that time.
	maxCauses = 100
	// maxPath is how many bytes of a path are logged.
	maxPath = 256
)

// logger writes one line for each request:
//   - errors of the server at level warn,
//   - refusals by the configuration at level warn once a minute for each cause,
//     because the operator has to act; the error names the fix,
//   - errors of the client at level info,
//   - all others at level debug.
type logger struct {
	log *slog.Logger

	mu   sync.Mutex
	told map[string]time.Time // by cause: when its warning was logged
}

// line logs the request without its headers and query: they may hold keys and
// tokens.
func (l *logger) line(r *http.Request, known *info, rec *recorder, path string, took time.Duration, panicked any) {
	status := rec.status
	if status == 0 {
		status = http.StatusOK
	}
	if err, ok := panicked.(error); panicked != nil && (!ok || !errors.Is(err, http.ErrAbortHandler)) {
		status, known.err = http.StatusInternalServerError, fmt.Errorf("a handler panicked: %v", panicked)
	}
	ctx := context.WithoutCancel(r.Context())
	level := l.level(status, known.err)
	if !l.log.Enabled(ctx, level) {
		return
	}
	if len(path) > maxPath {
		path = path[:maxPath] + "…"
	}
	attrs := append(make([]slog.Attr, 0, 9),
		slog.String("method", r.Method), slog.String("path", path), slog.Int("status", status),
		slog.Duration("duration", took), slog.Int64("bytes", rec.bytes),
		slog.String("client", clientIP(r.RemoteAddr)), slog.String("request_id", known.id))
	if known.trace != "" {
		attrs = append(attrs, slog.String("trace_id", known.trace))
	}
	if known.err != nil {
		attrs = append(attrs, slog.Any("error", known.err))
	}
	l.log.LogAttrs(ctx, level, "request", attrs...)
}

func (l *logger) level(status int, err error) slog.Level {
	switch {
	case errors.Is(err, context.Canceled): // the client has disconnected, or the server stops
		return slog.LevelDebug
	case buildcast.CodeOf(err) == buildcast.PermissionDenied:
		if l.first(err.Error()) {
			return slog.LevelWarn
		}
		return slog.LevelDebug
	case status == http.StatusInternalServerError:
		return slog.LevelError
	case status > http.StatusInternalServerError:
		return slog.LevelWarn
	case status >= http.StatusBadRequest:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// first reports whether the cause was not logged within the last minute.
func (l *logger) first(cause string) bool {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.told[cause]; ok && now.Sub(at) < refusedEvery {
		return false
	}
	for c, at := range l.told {
		if now.Sub(at) >= refusedEvery {
			delete(l.told, c)
		}
	}
	if len(l.told) >= maxCauses {
		return false
	}
	l.told[cause] = now
	return true
}

// recorder records the status and the number of bytes of the answer. It puts the
// prefix before the redirects of handlers, such as an http.ServeMux, that do not
// know it.
type recorder struct {
	http.ResponseWriter
	prefix string
	status int // 0: nothing was sent yet
	bytes  int64
}

func (w *recorder) WriteHeader(status int) {
	if status >= http.StatusOK && w.status == 0 {
		w.status = status
	}
	if to := w.Header().Get("Location"); status/100 == 3 && strings.HasPrefix(to, "/") {
		w.Header().Set("Location", w.prefix+to)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.begin()
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom keeps the path on which the kernel copies files (sendfile).
func (w *recorder) ReadFrom(r io.Reader) (int64, error) {
	w.begin()
	n, err := io.Copy(w.ResponseWriter, r)
	w.bytes += n
	return n, err
}

func (w *recorder) begin() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
}

// Hijack is called for WebSockets: a session's bytes are not counted.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
