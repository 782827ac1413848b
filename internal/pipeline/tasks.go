package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/buildcast/buildcast"
)

// finished is a task that has ended: completed where err is nil.
type finished struct {
	index int
	took  time.Duration
	err   error
}

// tasks runs the plan's tasks: each as soon as those it needs are completed, at
// most MaxTasks at once, in the plan's order where several are ready. It returns
// nil when all are completed. A task that fails for good stops the others.
func (r *run) tasks(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := r.newSchedule()
	ended := make(chan finished)
	running := 0
	var failure error
	for {
		if failure == nil && ctx.Err() == nil {
			start := s.ready(r.MaxTasks - running)
			for _, i := range start { // all are announced before any runs
				r.announce(i, r.attempt(i))
			}
			for _, i := range start {
				running++
				go func() { ended <- r.task(ctx, i) }() // received below, always
			}
		}
		if running == 0 {
			break
		}
		f := <-ended
		running--
		switch {
		case failure != nil || ctx.Err() != nil: // interrupted: it is run again, or not wanted
		case f.err != nil:
			r.reportFailure(f, r.plan.Tasks[f.index].Retries+1, false)
			failure = errFailed
			cancel(errFailed)
		default:
			r.complete(f)
			s.completed(f.index)
		}
	}
	if failure != nil {
		return failure
	}
	return context.Cause(ctx)
}

// task runs one task with its retries. A panic in it is passed on as an error.
func (r *run) task(ctx context.Context, i int) (f finished) {
	begin := time.Now()
	t := &r.plan.Tasks[i]
	defer func() {
		f.index, f.took = i, time.Since(begin)
		if v := recover(); v != nil {
			r.logger.Error("a defect of buildcast has failed a task", "task", t.Name, "panic", v)
			f.err = fmt.Errorf("a defect of buildcast; the server's log says more")
		}
	}()
	for attempt := r.attempt(i); ; attempt++ {
		err := r.tryTask(ctx, t)
		if err == nil || ctx.Err() != nil || attempt > t.Retries {
			return finished{err: err}
		}
		r.reportFailure(finished{index: i, err: err}, attempt, true)
		if pause(ctx, retryDelay(attempt)); ctx.Err() != nil {
			return finished{err: context.Cause(ctx)}
		}
		r.announce(i, attempt+1)
	}
}

// tryTask is one attempt: files first, then the command.
func (r *run) tryTask(ctx context.Context, t *buildcast.Task) error {
	if err := r.space.writeFiles(t.Files); err != nil {
		return redactPath(err)
	}
	if t.Run == "" {
		return context.Cause(ctx)
	}
	return r.command(ctx, t.Run, t.Timeout, t.Name, data{"taskName": t.Name})
}

// attempt is the number of the task's next attempt, from 1: failed ones are in the log.
func (r *run) attempt(i int) int { return r.state.failures[r.plan.Tasks[i].Name] + 1 }

// quiet reports whether the task's completion is in the log already: it is run
// only because the workspace was lost, and nothing more is said about it.
func (r *run) quiet(i int) bool { return r.state.completed[r.plan.Tasks[i].Name] }

func (r *run) announce(i, attempt int) {
	if r.quiet(i) {
		return
	}
	d := r.about(i, attempt)
	d["message"] = r.plan.Tasks[i].Name
	r.report.say(taskKey(buildcast.TaskStarted, i, attempt), buildcast.TaskStarted, d)
}

func (r *run) complete(f finished) {
	if r.quiet(f.index) {
		return
	}
	t := &r.plan.Tasks[f.index]
	d := r.about(f.index, 0)
	delete(d, "attempt")
	d["filesCreated"], d["durationMs"] = len(t.Files), f.took.Milliseconds()
	d["message"] = t.Name + " completed"
	r.report.say(taskKey(buildcast.TaskCompleted, f.index, 0), buildcast.TaskCompleted, d)
}

func (r *run) reportFailure(f finished, attempt int, willRetry bool) {
	d := explain(r.about(f.index, attempt), f.err)
	d["willRetry"] = willRetry
	r.report.say(taskKey(buildcast.TaskFailed, f.index, attempt), buildcast.TaskFailed, d)
}

func (r *run) about(i, attempt int) data {
	return data{"taskName": r.plan.Tasks[i].Name, "index": i + 1, "attempt": attempt}
}

// taskKey names a task by its place in the plan: its name may be too long for a key.
func taskKey(typ string, i, attempt int) string {
	if attempt == 0 {
		return fmt.Sprintf("%s/%d", typ, i+1)
	}
	return fmt.Sprintf("%s/%d/%d", typ, i+1, attempt)
}

// schedule knows which tasks may run.
type schedule struct {
	waiting    []int   // by task: how many of its needs are not completed; -1: it has been started
	dependents [][]int // by task: who needs it
}

// newSchedule leaves out what the log says is completed, unless the workspace
// that held its work is gone: then all is run again.
func (r *run) newSchedule() *schedule {
	s := &schedule{waiting: make([]int, len(r.plan.Tasks)), dependents: make([][]int, len(r.plan.Tasks))}
	index := make(map[string]int, len(r.plan.Tasks))
	for i, t := range r.plan.Tasks {
		index[t.Name] = i
	}
	for i, t := range r.plan.Tasks {
		for _, need := range t.Needs {
			s.waiting[i]++
			s.dependents[index[need]] = append(s.dependents[index[need]], i)
		}
	}
	if r.space.fresh {
		return s
	}
	for i := range r.plan.Tasks {
		if r.quiet(i) {
			s.waiting[i] = -1
			s.completed(i)
		}
	}
	return s
}

// ready takes up to n tasks that may start now, in the plan's order.
func (s *schedule) ready(n int) (tasks []int) {
	for i := range s.waiting {
		if len(tasks) < n && s.waiting[i] == 0 {
			s.waiting[i] = -1
			tasks = append(tasks, i)
		}
	}
	return tasks
}

func (s *schedule) completed(i int) {
	for _, d := range s.dependents[i] {
		if s.waiting[d] > 0 {
			s.waiting[d]--
		}
	}
}
