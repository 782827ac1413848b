package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/emit"
	"github.com/buildcast/buildcast/internal/pipeline/command"
	"github.com/buildcast/buildcast/internal/store"
)

// run is one build while it runs here.
type run struct {
	*Pipeline
	build  buildcast.Build
	plan   *buildcast.Plan
	lease  store.Lease
	state  state
	space  *workspace
	report *reporter
	logger *slog.Logger
}

// runBuild runs the build to its end, or until ctx ends.
func (p *Pipeline) runBuild(ctx context.Context, l store.Lease) {
	r := &run{Pipeline: p, lease: l, logger: p.Logger.With("build", l.BuildID)}
	if !p.retry(ctx, "reading a build", r.load) || r.state.status.Phase.Terminal() || r.plan == nil {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	out := emit.New(r.append, emit.Options{Logger: r.logger})
	r.report = &reporter{out: out}

	// The emitter outlives the build's context: what was said is still sent.
	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	beside.Go(func() {
		if err := out.Run(sending); err != nil && sending.Err() == nil {
			cancel(err) // fenced, or the build is gone: it is not ours any more
		}
	})
	beside.Go(func() { r.renew(ctx, cancel) })
	beside.Go(func() { r.watchForCancel(ctx, cancel) })

	r.steps(ctx)
	out.Close()
	r.flush(ctx, out)
	cancel(nil)
	stopSending()
	beside.Wait()
}

// load reads the build and its log.
func (r *run) load(ctx context.Context) (err error) {
	if r.build, err = r.Builds.GetBuild(ctx, r.lease.BuildID); err != nil {
		return err
	}
	r.plan = r.build.Plan
	r.state, err = r.readState(ctx, &r.build)
	return err
}

func (r *run) append(ctx context.Context, events []buildcast.NewEvent) error {
	_, err := r.Log.Append(ctx, r.build.ID, r.lease.Generation, events...)
	return err
}

// flush waits until the store has all that was said: as long as it takes for a
// build that came to its end, for a moment where the server stops.
func (r *run) flush(ctx context.Context, out *emit.Emitter) {
	stopping, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	timer := time.AfterFunc(time.Hour, cancel)
	defer timer.Stop()
	defer context.AfterFunc(ctx, func() { timer.Reset(drainTimeout) })()
	if err := out.Flush(stopping); err != nil {
		r.logger.Info("the end of the build is not in the log yet; it is run again from there", "error", err)
	}
}

// renew keeps the lease while the build runs. A store that is away ends nothing:
// the lease can be renewed after its time unless another has claimed the build.
func (r *run) renew(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(r.LeaseTTL / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		limited, done := context.WithTimeout(ctx, storeTimeout)
		err := r.Leases.RenewLease(limited, r.lease, r.LeaseTTL)
		done()
		switch c := buildcast.CodeOf(err); {
		case c == buildcast.Fenced || c == buildcast.NotFound:
			cancel(err)
			return
		case err != nil && ctx.Err() == nil:
			r.logger.Warn("the lease could not be renewed; trying again", "error", err)
		}
	}
}

// watchForCancel follows the build's own log: whoever cancels it says so there.
func (r *run) watchForCancel(ctx context.Context, cancel context.CancelCauseFunc) {
	cursor := r.Watch(r.build.ID, r.state.status.LastEventID)
	defer cursor.Close()
	for ctx.Err() == nil {
		events, err := cursor.Next(ctx)
		if err != nil {
			pause(ctx, retryEvery)
			continue
		}
		for i := range events {
			if events[i].Type == buildcast.BuildCancelled {
				cancel(errCancelled)
				return
			}
		}
	}
}

// errFailed ends a build whose failure has been reported.
var errFailed = errors.New("the build failed")

// steps runs the build. A defect in it fails the build, not the server.
func (r *run) steps(ctx context.Context) {
	defer func() {
		if v := recover(); v != nil {
			r.logger.Error("a defect of buildcast has failed the build", "panic", v, "stack", string(debug.Stack()))
			r.fail(buildcast.BuildFailed, data{"error": "a defect of buildcast; the server's log says more"})
		}
	}()
	r.report.say("plan_started", buildcast.PlanStarted, data{"message": "Reading the plan"})
	r.report.say("plan_generated", buildcast.PlanGenerated, planned(r.plan))
	if err := r.prepare(); err != nil {
		r.fail(buildcast.BuildFailed, explain(data{}, err))
		return
	}
	if err := r.tasks(ctx); err != nil {
		return // reported, or interrupted
	}
	r.deploy(ctx)
}

// fail reports the end of the build.
func (r *run) fail(typ string, d data) { r.report.say(typ, typ, d) }

// planned is the data of plan_generated; names that would not fit are left out.
func planned(p *buildcast.Plan) data {
	d := data{"taskCount": len(p.Tasks), "name": p.Name}
	names, size := make([]string, len(p.Tasks)), 0
	for i := range p.Tasks {
		names[i] = p.Tasks[i].Name
		size += 6*len(names[i]) + 3 // as JSON, at worst
	}
	if size < buildcast.MaxEventData/2 {
		d["tasks"] = names
	}
	switch len(p.Tasks) {
	case 0:
		d["message"] = "No tasks, straight to the build"
	case 1:
		d["message"] = "1 task"
	default:
		d["message"] = fmt.Sprintf("%d tasks", len(p.Tasks))
	}
	return d
}

// prepare opens the workspace and ends what a killed server left running in it.
func (r *run) prepare() error {
	space, err := openWorkspace(r.workspaceDir(r.build.ID))
	if err != nil {
		return fmt.Errorf("the workspace cannot be made: %w", redactPath(err))
	}
	r.space = space
	killed, err := command.KillMarked(space.marker())
	if killed > 0 {
		r.logger.Info("ended processes that a killed server had left", "processes", killed)
	}
	return err
}

// redactPath takes the server's own path out of an error.
func redactPath(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// command runs a shell command in the workspace; of says whose output it is.
func (r *run) command(ctx context.Context, script string, timeout buildcast.Duration, task string, of data) error {
	return command.Command{
		Script: script, Dir: r.space.work(), Timeout: time.Duration(timeout), TimeoutOf: "timeout in the plan",
		Env: []string{
			"PATH=" + searchPath(), "LANG=C.UTF-8", "CI=1",
			"HOME=" + r.space.home(), "TMPDIR=" + r.space.temp(),
			"BUILDCAST_BUILD_ID=" + r.build.ID, "BUILDCAST_TASK=" + task, r.space.marker(),
		},
		Output: func(lines []string) { r.report.lines(of, lines) },
	}.Run(ctx)
}

func searchPath() string {
	if p := os.Getenv("PATH"); p != "" {
		return p
	}
	return "/usr/local/bin:/usr/bin:/bin"
}
