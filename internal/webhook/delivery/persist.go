package delivery

import (
	"context"
	"log/slog"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/backoff"
)

// storeTimeout bounds one call of the store.
const storeTimeout = 20 * time.Second

// Bounded calls the store with a deadline.
func Bounded(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return do(ctx)
}

// Persist stores something, again and again while the store is away. It returns
// nil once it is stored, ctx's error if that ends first, and any error that a
// repeat would not mend.
func Persist(ctx context.Context, logger *slog.Logger, what string, do func(context.Context) error) error {
	wait := backoff.Backoff{Min: 200 * time.Millisecond, Max: 5 * time.Second}
	for {
		err := Bounded(ctx, do)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
		logger.Warn("webhooks: "+what+" cannot be stored", "error", err)
		if !buildcast.Temporary(err) {
			return err
		}
		if wait.Wait(ctx, err); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
