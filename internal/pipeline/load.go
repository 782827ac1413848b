package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/backoff"
	"github.com/buildcast/buildcast/internal/pipeline/report"
)

const (
	// readPatience is how long a run tries to read a build if the store answers but
	// cannot return the build.
	readPatience = time.Minute
	// shelfTime is how long a build that can neither be read nor failed is not
	// claimed.
	shelfTime = 10 * time.Minute
)

// unreadable is the error for a build that cannot be read although the store answers.
type unreadable struct{ err error }

func (u *unreadable) Error() string { return fmt.Sprintf("the build cannot be read: %v", u.err) }

// load reads the build and its log. It waits while the store is unreachable. If
// the store answers but the build cannot be read, it returns an *unreadable: the
// build must not hold its place for ever.
func (r *run) load(ctx context.Context) error {
	retry := backoff.Backoff{Min: claimEvery / 10, Max: claimEvery}
	for since := time.Now(); ; {
		err := r.read(ctx)
		if err == nil || ctx.Err() != nil || buildcast.CodeOf(err) == buildcast.NotFound {
			return err
		}
		if time.Since(since) >= r.pipeline.readPatience {
			switch answer := r.renewOnce(ctx, storeTimeout); {
			case answer == nil:
				return &unreadable{err}
			case leaseLost(answer):
				return answer
			}
			since = time.Now() // the store is unreachable
		}
		retry.Wait(ctx, err)
	}
}

func (r *run) read(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if r.build, err = r.pipeline.config.Builds.GetBuild(ctx, r.lease.BuildID); err != nil {
		return err
	}
	r.pipeline.mu.Lock()
	r.created = r.build.CreatedAt
	r.pipeline.mu.Unlock()
	r.past, err = report.ReadHistory(ctx, r.pipeline.config.Log, r.build)
	return err
}

// failUnread ends the build. If its log refuses the event too, the build is not
// claimed for shelfTime, so that its place is free for others.
func (r *run) failUnread(ctx context.Context, cause *unreadable) {
	r.log.Error("the build fails: it cannot be read from the store", "error", cause.err)
	event, err := report.Event(buildcast.BuildFailed, report.BuildFailed{Failure: report.Failure{
		Message: "the build cannot be read from the store",
		Error:   "the build cannot be read from the store; the server's log has the reason: repair the row, and start the build again under another id",
	}})
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		err = r.append(ctx, []buildcast.NewEvent{event})
	}
	if err != nil && ctx.Err() == nil {
		r.log.Error("the build can neither be read nor failed: it is left alone", "for", shelfTime, "error", err)
		r.pipeline.shelve(r.lease.BuildID)
	}
}

// shelve keeps the build from being claimed for shelfTime.
func (p *Pipeline) shelve(buildID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shelf[buildID] = time.Now().Add(shelfTime)
}

// shelved returns the builds that are not to be claimed now. The caller holds mu.
func (p *Pipeline) shelved() (ids []string) {
	for id, until := range p.shelf {
		if time.Now().After(until) {
			delete(p.shelf, id)
			continue
		}
		ids = append(ids, id)
	}
	return ids
}
