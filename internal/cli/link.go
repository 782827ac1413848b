package cli

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// link says whether the server that is followed answers. It is the client's
// logger: the client warns once when following is interrupted, and informs when
// it goes on.
type link struct {
	lost atomic.Bool
	// changed, where set, is told; a live display reads lost by itself.
	changed func(lost bool)
}

func (l *link) logger() *slog.Logger { return slog.New((*linkHandler)(l)) }

type linkHandler link

func (h *linkHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *linkHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *linkHandler) WithGroup(string) slog.Handler            { return h }

func (h *linkHandler) Handle(_ context.Context, r slog.Record) error {
	lost := r.Level >= slog.LevelWarn
	if h.lost.Swap(lost) != lost && h.changed != nil {
		h.changed(lost)
	}
	return nil
}
