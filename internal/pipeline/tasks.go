package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/pipeline/report"
)

// retryDelay is how long a failed task waits before its next attempt. The delay
// doubles with each attempt.
type retryDelay struct{ first, most time.Duration }

func (b retryDelay) after(attempt int) time.Duration {
	return min(b.first<<min(attempt-1, 20), b.most)
}

// outcome is the result of a task's attempt, or the end of its wait for the next.
type outcome struct {
	index  int
	waited bool // the wait is over: the next attempt may begin
	done   report.TaskCompleted
	err    error
}

// taskRunner runs a build's tasks. One goroutine decides and reports; the workers
// run attempts and send outcomes.
type taskRunner struct {
	*run
	schedule *schedule
	tasks    []buildcast.Task
	outcomes chan outcome // a task has at most one under way: its capacity is never exceeded
	workers  sync.WaitGroup
}

// runTasks runs the tasks that are not completed. It returns nil when all are,
// errOver when one has failed for good, or the cause of ctx's end.
func (r *run) runTasks(ctx context.Context) error {
	t := &taskRunner{run: r, tasks: r.build.Plan.Tasks, outcomes: make(chan outcome, len(r.build.Plan.Tasks))}
	t.schedule = newSchedule(t.tasks, r.completedHere())
	ctx, cancel := context.WithCancel(ctx)
	defer t.workers.Wait()
	defer cancel()
	for !t.schedule.finished() {
		t.startReady(ctx)
		select {
		case o := <-t.outcomes:
			if err := t.take(ctx, o); err != nil {
				return err
			}
		case <-ctx.Done():
			return t.stopped(ctx)
		}
	}
	return nil
}

// startReady starts the tasks that may start. It reports all of them, in the plan's
// order, before any of them runs.
func (t *taskRunner) startReady(ctx context.Context) {
	ready := t.schedule.next(t.pipeline.config.MaxTasks)
	for _, i := range ready {
		t.journal.Report(buildcast.TaskStarted, t.about(i))
	}
	for _, i := range ready {
		about := t.about(i) // here, not in the worker: take changes what it reads
		t.workers.Go(func() {
			done, err := t.attempt(ctx, about, &t.tasks[i])
			t.outcomes <- outcome{index: i, done: done, err: err}
		})
	}
}

func (t *taskRunner) about(i int) report.Task {
	name := t.tasks[i].Name
	return report.Task{TaskName: name, Index: i + 1, Attempt: t.past.Failed[name] + 1}
}

// take acts on an outcome.
func (t *taskRunner) take(ctx context.Context, o outcome) error {
	switch {
	case o.waited:
		t.schedule.ready(o.index)
		return nil
	case o.err == nil:
		t.journal.Report(buildcast.TaskCompleted, o.done)
		t.schedule.complete(o.index)
		return nil
	case ctx.Err() != nil:
		return t.stopped(ctx)
	}
	return t.fail(ctx, o)
}

// fail reports the failed attempt, and schedules the next one or ends the build.
func (t *taskRunner) fail(ctx context.Context, o outcome) error {
	var p *panicked
	if errors.As(o.err, &p) {
		panic(p) // where run.guard sees it
	}
	event := report.TaskFailed{Task: t.about(o.index), Failure: t.failureOf(o.err), Attempts: t.tasks[o.index].Retries + 1}
	if event.Attempt >= event.Attempts {
		event.Failure = event.Of("task " + event.TaskName)
		return t.end(buildcast.TaskFailed, event)
	}
	delay := t.pipeline.retry.after(event.Attempt)
	event.WillRetry, event.RetryInMS = true, delay.Milliseconds()
	t.journal.Report(buildcast.TaskFailed, event)
	t.past.Failed[event.TaskName] = event.Attempt
	t.schedule.pause(o.index)
	t.workers.Go(func() {
		wait(ctx, delay)
		t.outcomes <- outcome{index: o.index, waited: true}
	})
	return nil
}

// stopped waits for the workers. It reports the tasks that completed meanwhile, so
// that they are not repeated.
func (t *taskRunner) stopped(ctx context.Context) error {
	t.workers.Wait()
	close(t.outcomes)
	for o := range t.outcomes {
		if !o.waited && o.err == nil {
			t.journal.Report(buildcast.TaskCompleted, o.done)
		}
	}
	return context.Cause(ctx)
}
