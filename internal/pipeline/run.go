package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/backoff"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/mask"
	"github.com/buildcast/buildcast/internal/outbox"
	"github.com/buildcast/buildcast/internal/pipeline/cached"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/pipeline/workspace"
	"github.com/buildcast/buildcast/internal/planner"
	"github.com/buildcast/buildcast/internal/store"
)

// Bounds of the events of one build that wait while the store is unreachable.
// Life-cycle events are accepted beyond them, because they are few.
const (
	waitEvents = 10_000
	waitBytes  = 8 << 20
)

// run is one build while this node runs it.
type run struct {
	pipeline *Pipeline
	lease    store.Lease
	log      *slog.Logger
	// stop ends the run, which then reports nothing more. It is called when the lease
	// is lost or the build is over.
	stop context.CancelCauseFunc

	number int           // counts the runs of this pipeline, from 1
	ended  chan struct{} // closed when it has ended

	// Guarded by Pipeline.mu.
	remove  bool           // whether to remove the workspace when the run has ended
	created buildcast.Time // when the build was created; zero until it is read

	build   buildcast.Build
	past    *report.History
	journal *report.Journal
	space   *workspace.Workspace
	results *cached.Results // of its commands
	nothing string          // why a retry has taken nothing over; empty: it has, or it is none
	// planning asks the build's planner; nil if it has none.
	planning *planner.Build

	secrets map[string]string // by name; see openSecrets
	mask    *mask.Masker      // hides their values
}

// run runs the build until it is over, its lease is lost, or draining ends. It
// returns when its processes have ended, and the log has stored its events or life
// has ended.
func (r *run) run(life, draining context.Context) {
	work, halt := context.WithCancelCause(life)
	defer context.AfterFunc(draining, func() { halt(errDraining) })()
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer r.stop(errOver)
	helpers.Go(func() { r.renew(life) })

	err := r.load(work)
	if cause, ok := errors.AsType[*unreadable](err); ok {
		r.failUnread(work, cause)
		return
	}
	if err != nil {
		r.log.Info("the build cannot run now", "error", err)
		return
	}
	if r.past.Status.Phase.Terminal() {
		return // it was cancelled while it was queued
	}
	r.log.Info("build runs", "after", r.past.Status.LastEventID)
	emitter := outbox.New(r.append, outbox.Options{MaxEvents: waitEvents, MaxBytes: waitBytes, Logger: r.log})
	r.journal = report.NewJournal(emitter, r.past, r.log)
	helpers.Go(func() {
		if err := emitter.Run(life); err != nil {
			r.stop(err) // fenced
		}
	})
	helpers.Go(func() { r.watch(life) })

	err = r.guard(func() error { return r.work(work) })
	r.killStrays()
	if flushErr := emitter.Flush(life); flushErr != nil && !errors.Is(context.Cause(life), errOver) {
		err = errors.Join(err, flushErr)
	}
	r.log.Info("the run ends early", "because", err)
	if r.space != nil {
		r.space.Close()
	}
}

// guard turns a panic into a failure of the build.
func (r *run) guard(work func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			stack := debug.Stack()
			if p, ok := v.(*panicked); ok {
				stack = p.stack
			}
			r.log.Error("panic in a build", "panic", v, "stack", string(stack))
			err = r.end(buildcast.BuildFailed, report.BuildFailed{Failure: report.Failure{
				Error: "a defect of buildcast ended the build; please report it with the lines in the server's log",
			}})
		}
	}()
	return work()
}

// end reports the last event. Nothing is reported after it.
func (r *run) end(typ string, data any) error {
	r.journal.End(typ, data)
	return errOver
}

func (r *run) append(ctx context.Context, events []buildcast.NewEvent) error {
	_, err := r.pipeline.config.Log.Append(ctx, r.lease.BuildID, r.lease.Generation, events...)
	return err
}

// insist repeats the call while the store is unreachable.
func insist(ctx context.Context, call func(context.Context) error) error {
	retry := backoff.Backoff{Min: claimEvery / 10, Max: claimEvery}
	for {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, storeTimeout)
			defer cancel()
			return call(ctx)
		}()
		if err == nil || ctx.Err() != nil || !mayPass(err) {
			return err
		}
		retry.Wait(ctx, err)
	}
}

// mayPass reports whether repeating a call of the store may help: the store is
// unreachable, or did not answer in time.
func mayPass(err error) bool {
	return buildcast.Temporary(err) || errors.Is(err, context.DeadlineExceeded)
}

// renew keeps the lease. An unreachable store does not end the build: its events
// wait, and are refused only if another node has taken the build over.
func (r *run) renew(life context.Context) {
	ttl := r.pipeline.config.LeaseTTL
	for {
		if wait(life, ttl/3); life.Err() != nil {
			return
		}
		if err := r.renewOnce(life, ttl/3); leaseLost(err) {
			r.stop(fmt.Errorf("the lease is lost: %w", err))
			return
		}
	}
}

func (r *run) renewOnce(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return r.pipeline.config.Leases.RenewLease(ctx, r.lease, r.pipeline.config.LeaseTTL)
}

// leaseLost reports whether RenewLease found that the build is no longer this run's.
func leaseLost(err error) bool {
	c := buildcast.CodeOf(err)
	return c == buildcast.Fenced || c == buildcast.NotFound
}

// watch ends the run when the log has the build's last event. Any node may have
// appended it, because a cancel may arrive at any node.
func (r *run) watch(life context.Context) {
	cursor := r.pipeline.config.Watch(r.lease.BuildID, r.past.Status.LastEventID, nil)
	defer cursor.Close()
	status := r.past.Status
	for {
		var batch *live.Batch
		err := insist(life, func(context.Context) (err error) {
			batch, err = cursor.Next(life) // without insist's timeout, because it may wait long
			return err
		})
		if life.Err() != nil {
			return
		}
		if err != nil {
			r.log.Error("the build's log cannot be watched", "error", err)
			r.stop(err)
			return
		}
		for i := range batch.Events {
			e := batch.Events[i] // a copy: other readers may share the batch
			if status.Apply(&e); status.Phase.Terminal() {
				r.stop(errOver)
				return
			}
		}
	}
}
