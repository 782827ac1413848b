// Package pipeline runs the builds that have a plan: tasks as their needs allow,
// then install and build, then the deploy.
//
// A build is run by whoever holds its lease. All it reports goes through
// internal/emit to the log, fenced by the lease's generation, so reporting never
// waits for the store and an owner that was replaced can say nothing more.
//
// A build that was cut off is a build whose log is not at its end: whoever claims
// it next folds the log and goes on (state.go). Events have keys made of what
// they say, so what is said again is stored once. A task whose completion is in
// the log is not run again; one that had only started is run from its start.
// Commands are therefore run at least once, and exactly once where no crash or
// outage fell between a task's end and the commit of its event.
package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

const (
	claimEvery   = time.Second      // the backstop for lost kicks, and when the leases of dead owners are noticed
	drainTimeout = 5 * time.Second  // for the events of a build that is stopped with the server
	keepWork     = 24 * time.Hour   // a finished build's workspace, for a look at it
	sweepEvery   = time.Hour        // of workspaces
	retryEvery   = time.Second / 2  // of a store that is away
	readEvents   = 1000             // of a log at once
	storeTimeout = 10 * time.Second // of one call
)

// Log is the builds' logs; see eventlog.Log.
type Log interface {
	Append(ctx context.Context, buildID string, generation int64, events ...buildcast.NewEvent) (store.Appended, error)
	Read(ctx context.Context, buildID string, after int64, limit int) ([]buildcast.Event, error)
}

// Builds finds a build; see store.Builds.
type Builds interface {
	GetBuild(ctx context.Context, id string) (buildcast.Build, error)
}

// Cursor is a watch of one build; see live.Cursor.
type Cursor interface {
	Next(ctx context.Context) ([]buildcast.Event, error)
	Close()
}

// Target is where a build's output goes. Deploying the same build again, after a
// crash, must give the same URL. progress may be called with what it is doing.
type Target interface {
	Deploy(ctx context.Context, buildID, dir string, progress func(message string)) (previewURL string, err error)
}

// Config is what a pipeline needs. Fields without a default are required.
type Config struct {
	Owner string // of the leases: the same for each start on one data directory
	Dir   string // of the workspaces
	// Label makes a build's id the name of its workspace; two builds never share one.
	Label func(buildID string) string

	Log     Log
	Builds  Builds
	Leases  store.Leases
	Watch   func(buildID string, after int64) Cursor
	Targets map[string]Target // by name; buildcast.DeployNone needs none

	MaxBuilds int           // at once; default 4
	MaxTasks  int           // at once in one build; default 4
	LeaseTTL  time.Duration // default 30s; a build of a dead owner is taken over after it
	Logger    *slog.Logger  // default: slog.Default()
}

// Pipeline claims builds and runs them.
type Pipeline struct {
	Config
	kick chan struct{} // capacity 1

	mu      sync.Mutex
	running map[string]context.CancelCauseFunc // by build id
}

// New makes a pipeline. Nothing happens before Run.
func New(c Config) *Pipeline {
	if c.MaxBuilds <= 0 {
		c.MaxBuilds = 4
	}
	if c.MaxTasks <= 0 {
		c.MaxTasks = 4
	}
	if c.LeaseTTL <= 0 {
		c.LeaseTTL = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &Pipeline{Config: c, kick: make(chan struct{}, 1), running: make(map[string]context.CancelCauseFunc)}
}

// Kick is the hint that there may be a build to run. It never blocks.
func (p *Pipeline) Kick() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// Why a build's context ended.
var (
	errDraining  = errors.New("the server is stopping")
	errCancelled = errors.New("the build was cancelled")
	errDeleted   = errors.New("the build was deleted")
)

// Run claims and runs builds, the oldest first, until ctx ends. Then it stops
// the commands that run, without a word in the log: the next start, here or on
// another node, goes on with those builds.
func (p *Pipeline) Run(ctx context.Context) error {
	if !p.retry(ctx, "releasing the leases of the last run", func(ctx context.Context) error {
		return p.Leases.ReleaseLeases(ctx, p.Owner)
	}) {
		return nil
	}
	var builds sync.WaitGroup
	tick, sweep := time.NewTicker(claimEvery), time.NewTicker(sweepEvery)
	defer tick.Stop()
	defer sweep.Stop()
	p.sweep()
	for ctx.Err() == nil {
		p.claim(ctx, &builds)
		select {
		case <-p.kick:
		case <-tick.C:
		case <-sweep.C:
			p.sweep()
		case <-ctx.Done():
		}
	}
	builds.Wait()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := p.Leases.ReleaseLeases(ending, p.Owner); err != nil {
		p.Logger.Warn("leases stay until they run out", "error", err)
	}
	return nil
}

// claim starts as many builds as there is room for.
func (p *Pipeline) claim(ctx context.Context, builds *sync.WaitGroup) {
	running := p.runningIDs()
	free := p.MaxBuilds - len(running)
	if free <= 0 {
		return
	}
	ctxClaim, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	leases, err := p.Leases.ClaimBuilds(ctxClaim, p.Owner, p.LeaseTTL, free, running)
	if err != nil {
		if ctx.Err() == nil {
			p.Logger.Warn("no builds can be claimed", "error", err)
		}
		return
	}
	for _, l := range leases {
		buildCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		stop := context.AfterFunc(ctx, func() { cancel(errDraining) })
		p.mu.Lock()
		p.running[l.BuildID] = cancel
		p.mu.Unlock()
		builds.Go(func() {
			defer p.Kick() // there is room again
			defer func() {
				stop()
				cancel(nil)
				p.mu.Lock()
				defer p.mu.Unlock()
				delete(p.running, l.BuildID)
			}()
			p.runBuild(buildCtx, l)
		})
	}
}

func (p *Pipeline) runningIDs() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make([]string, 0, len(p.running))
	for id := range p.running {
		ids = append(ids, id)
	}
	return ids
}

// Remove removes what a deleted build left on the disk.
func (p *Pipeline) Remove(buildID string) error {
	p.mu.Lock()
	cancel := p.running[buildID]
	p.mu.Unlock()
	if cancel != nil {
		cancel(errDeleted) // it is ending: the sweep finds what it still writes
	}
	return os.RemoveAll(p.workspaceDir(buildID))
}

func (p *Pipeline) workspaceDir(buildID string) string {
	return filepath.Join(p.Dir, p.Label(buildID))
}

func (p *Pipeline) sweep() {
	keep := make(map[string]bool)
	for _, id := range p.runningIDs() {
		keep[p.Label(id)] = true
	}
	if err := sweepWorkspaces(p.Dir, time.Now().Add(-keepWork), keep); err != nil {
		p.Logger.Warn("old workspaces are still there", "error", err)
	}
}

// retry makes the call until it succeeds, fails for good, or ctx ends; it
// reports whether it succeeded.
func (p *Pipeline) retry(ctx context.Context, what string, call func(context.Context) error) bool {
	for said := false; ; said = true {
		limited, cancel := context.WithTimeout(ctx, storeTimeout)
		err := call(limited)
		cancel()
		switch {
		case err == nil:
			return true
		case ctx.Err() != nil:
			return false
		case !said:
			p.Logger.Warn("the store does not answer; trying again", "what", what, "error", err)
		}
		if c := buildcast.CodeOf(err); c == buildcast.NotFound || c == buildcast.Fenced {
			return false
		}
		pause(ctx, retryEvery)
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
