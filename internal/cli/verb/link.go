package verb

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// Link tracks whether the server that is followed answers. It is the client's
// logger: the client logs one warning when following is interrupted, and an
// informational line when it goes on.
type Link struct {
	lost atomic.Bool
	// Changed, if set, is called at each change; a live display reads Lost instead.
	Changed func(lost bool)
}

// NewLink returns a link that prints its changes.
func (s *Session) NewLink() *Link {
	return &Link{Changed: func(lost bool) {
		if lost {
			s.Note("The server does not answer; trying again.")
		} else {
			s.Note("The server answers again.")
		}
	}}
}

// Lost reports whether the server did not answer the last time.
func (l *Link) Lost() bool { return l.lost.Load() }

// Logger returns the logger to give to the client.
func (l *Link) Logger() *slog.Logger { return slog.New((*linkHandler)(l)) }

type linkHandler Link

func (h *linkHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *linkHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *linkHandler) WithGroup(string) slog.Handler            { return h }

func (h *linkHandler) Handle(_ context.Context, r slog.Record) error {
	lost := r.Level >= slog.LevelWarn
	if h.lost.Swap(lost) != lost && h.Changed != nil {
		h.Changed(lost)
	}
	return nil
}
