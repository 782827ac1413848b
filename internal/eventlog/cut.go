package eventlog

import (
	"context"
	"time"
)

const (
	// deleteTimeout bounds a deletion: appends wait for it.
	deleteTimeout = 2 * time.Second

	// purgeRows bounds one step of the purge, so that it takes milliseconds.
	purgeRows = 500

	// purgeInterval is how often the purge looks for events that another process, or
	// a crash, has left behind.
	purgeInterval = time.Minute
)

// Delete removes a finished build and cuts its log at the end; see store.Cuts.
// Its events are purged in the background.
func (l *Log) Delete(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, deleteTimeout)
	defer cancel()
	l.order.Lock()
	defer l.order.Unlock()
	first, err := l.builds.DeleteBuild(ctx, id)
	if err != nil {
		return err
	}
	l.Publish(Change{Kind: Truncated, BuildID: id, FirstEventID: first, Deleted: true})
	l.wakePurge()
	return nil
}

// Truncate cuts off the events before first; see store.Cuts. Its change may be
// published after those of later appends. That does no harm: until then subscribers
// believe that the log begins earlier than it does.
func (l *Log) Truncate(ctx context.Context, id string, first int64) error {
	first, err := l.builds.TruncateLog(ctx, id, first)
	if err != nil {
		return err
	}
	l.Publish(Change{Kind: Truncated, BuildID: id, FirstEventID: first})
	l.wakePurge()
	return nil
}

func (l *Log) wakePurge() {
	select {
	case l.purge <- struct{}{}:
	default:
	}
}

// runPurge purges at the start, after each cut, and at each purgeInterval, until ctx
// ends.
func (l *Log) runPurge(ctx context.Context) {
	for ctx.Err() == nil {
		if err := l.purgeAll(ctx); err != nil && ctx.Err() == nil {
			l.logger.Warn("deleted events cannot be removed from the database; trying again", "in", purgeInterval, "error", err)
		}
		select {
		case <-l.purge:
		case <-time.After(purgeInterval):
		case <-ctx.Done():
		}
	}
}

// purgeAll purges step by step. After each step it pauses for as long as the step
// took, so that appends have the store for at least half of the time.
func (l *Log) purgeAll(ctx context.Context) error {
	for {
		begun := time.Now()
		more, err := l.purgeStep(ctx)
		if err != nil || !more {
			return err
		}
		select {
		case <-time.After(time.Since(begun)):
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *Log) purgeStep(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return l.builds.Purge(ctx, purgeRows)
}
