// Package pipeline runs the builds that have a plan or a prompt: it claims a lease, runs the
// tasks in the order of their needs, runs install and build, and deploys.
//
// A build's log is its only state. The keys of a run's events are computed from
// their data, so a resumed run reports nothing twice: it reads the log, skips the
// completed tasks, and continues. The lease's generation fences the previous run.
// If the workspace no longer exists (another node has taken over, or the machine
// was restarted), completed tasks run again without events: their files are
// needed, and the log has their events already.
//
// Events go through an emitter that never blocks: while the store is unreachable,
// the work continues and its events wait, in order. A build holds its place among
// the running builds until the log has stored all its events.
//
// A run ends early for one of three reasons: the lease is lost, the build was ended
// from outside (a cancel), or this node drains. It then reports nothing more, and
// its processes end within a second.
package pipeline

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/deploy"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/pipeline/inputs"
	"github.com/buildcast/buildcast/internal/runner"
	"github.com/buildcast/buildcast/internal/store"
)

// Log appends and reads a build's events; see eventlog.Log.
type Log interface {
	Append(ctx context.Context, buildID string, generation int64, events ...buildcast.NewEvent) (store.Appended, error)
	Read(ctx context.Context, buildID string, after int64, limit int) ([]buildcast.Event, error)
}

// Builds returns a build and its plan, or NotFound.
type Builds interface {
	GetBuild(ctx context.Context, id string) (buildcast.Build, error)
}

// Target deploys a build's output. A repeated deploy of the same build must be
// safe. The message of a *buildcast.Error is shown to users as it is. The error
// wraps fs.ErrNotExist if the site has no files; Deploy must then not have
// called progress.
type Target interface {
	Deploy(ctx context.Context, site deploy.Site, progress func(deploy.Progress)) (deploy.Deployment, error)
}

// Runner runs the builds' commands; see runner.Runner.
type Runner interface {
	Run(ctx context.Context, spec runner.Spec) (runner.Result, error)
	// Sandbox names what confines the commands; "none" if nothing does.
	Sandbox() string
	// May returns why no commands run here, or none of builds in which a planner has a
	// part (planned); nil if they do.
	May(planned bool) error
}

// Config configures a Pipeline. The first nine fields are required.
type Config struct {
	Owner   string // of the leases: the same at each start on one data directory
	Dir     string // of the workspaces
	Log     Log
	Builds  Builds
	Leases  store.Leases
	Plans   store.Plans                                                 // those that a planner makes
	Watch   func(buildID string, after int64, wake func()) *live.Cursor // see live.Hub
	Targets map[string]Target                                           // by name; "none" needs no entry
	Runner  Runner
	Planner Planner // nil: there is none
	Secrets Secrets // nil: builds have none

	// Network, if set, gives commands a way to the network and to this server's services.
	Network Network
	// Cache keeps what tasks and stages made. Nil: nothing is kept.
	Cache *cache.Cache

	// Label turns a build id into a directory name. Nil means the id itself, which
	// suffices only if file names are case-sensitive.
	Label         func(buildID string) string
	MaxBuilds     int           // at once; 0: 4
	MaxTasks      int           // of one build at once; 0: 4
	LeaseTTL      time.Duration // after it, another node may claim a dead node's builds; 0: 30s
	DrainTimeout  time.Duration // for events that wait when Run is told to end; 0: 5s
	KeepWorkspace time.Duration // after a completed build's end; 0: 1h
	KeepFailed    time.Duration // after a failed or cancelled build's end, for its retry; 0: 24h
	Logger        *slog.Logger  // nil: slog's default
}

func (c Config) withDefaults() Config {
	if c.Label == nil {
		c.Label = func(id string) string { return id }
	}
	c.MaxBuilds = cmp.Or(c.MaxBuilds, 4)
	c.MaxTasks = cmp.Or(c.MaxTasks, 4)
	c.LeaseTTL = cmp.Or(c.LeaseTTL, 30*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 5*time.Second)
	c.KeepWorkspace = cmp.Or(c.KeepWorkspace, time.Hour)
	c.KeepFailed = cmp.Or(c.KeepFailed, 24*time.Hour)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return c
}

const (
	// claimEvery is how often the pipeline claims builds without a kick: those whose
	// lease expired, and those that another node queued.
	claimEvery = time.Second
	// storeTimeout bounds one call, so that a call that hangs is repeated.
	storeTimeout = 10 * time.Second
)

// Pipeline runs builds. Kick and Remove may be called from many goroutines, at any time.
type Pipeline struct {
	config Config
	log    *slog.Logger
	kick   chan struct{} // capacity 1
	retry  retryDelay    // of failed tasks

	platform *inputs.Platform // of commands

	readPatience time.Duration // see the constant

	sick bool // the store failed at the last call; belongs to Run's goroutine

	mu      sync.Mutex
	running map[string]*run      // by build id
	begun   int                  // number of runs that have begun
	shelf   map[string]time.Time // builds that are not claimed until then
}

// New makes a pipeline. It does nothing before Run.
func New(cfg Config) *Pipeline {
	cfg = cfg.withDefaults()
	return &Pipeline{
		config: cfg, log: cfg.Logger, kick: make(chan struct{}, 1),
		retry: retryDelay{first: time.Second, most: 30 * time.Second}, readPatience: readPatience,
		platform: inputs.NewPlatform(commandPath()),
		running:  make(map[string]*run), shelf: make(map[string]time.Time),
	}
}

// Kick makes the pipeline look for waiting builds. It is a hint and never blocks.
func (p *Pipeline) Kick() {
	select {
	case p.kick <- struct{}{}:
	default: // a kick waits already
	}
}

// Run runs builds until ctx ends. Then it claims no more, stops the running
// commands, waits up to DrainTimeout until the log has stored their events, and
// releases the leases. It is called once, and returns nil.
func (p *Pipeline) Run(ctx context.Context) error {
	// When ctx ends, claim no more builds; when abandon ends, drop unfinished work.
	abandon, giveUp := lasting(ctx, p.config.DrainTimeout)
	defer giveUp()
	var parts sync.WaitGroup
	parts.Go(func() { p.sweepWorkspaces(ctx) })
	p.claimBuilds(ctx, abandon, &parts)
	parts.Wait()
	p.release(context.WithoutCancel(ctx), time.Second)
	return nil
}

// lasting returns a context that ends d after ctx.
func lasting(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		wait(late, d)
		cancel()
	})
	return late, func() { stop(); cancel() }
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// claimBuilds starts builds until ctx ends.
func (p *Pipeline) claimBuilds(ctx, abandon context.Context, parts *sync.WaitGroup) {
	tick := time.NewTicker(claimEvery)
	defer tick.Stop()
	// Release the leases from before a restart first: their builds continue at once.
	for released := false; ctx.Err() == nil; {
		if released = released || p.release(ctx, storeTimeout); released {
			for _, lease := range p.claim(ctx) {
				r, life := p.begin(abandon, lease)
				parts.Go(func() {
					r.run(life, ctx)
					p.end(context.WithoutCancel(abandon), r)
				})
			}
		}
		select {
		case <-p.kick:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// claim claims leases for the free places.
func (p *Pipeline) claim(ctx context.Context) []store.Lease {
	p.mu.Lock()
	free := p.config.MaxBuilds - len(p.running)
	except := p.shelved()
	for id := range p.running {
		except = append(except, id)
	}
	p.mu.Unlock()
	if free <= 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	leases, err := p.config.Leases.ClaimBuilds(limited, p.config.Owner, p.config.LeaseTTL, free, except)
	if p.note(ctx, "builds cannot be claimed: they wait", err); err != nil {
		return nil
	}
	return leases
}

// release releases all leases.
func (p *Pipeline) release(ctx context.Context, timeout time.Duration) bool {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := p.config.Leases.ReleaseLeases(limited, p.config.Owner)
	p.note(ctx, "leases cannot be released: their builds wait until they expire", err)
	return err == nil
}

// note logs the first of several consecutive failures of the store.
func (p *Pipeline) note(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil && !p.sick {
		p.log.Warn(what, "error", err)
	}
	p.sick = err != nil
}

// begin takes a place for a run, and returns the context that its stop ends.
func (p *Pipeline) begin(abandon context.Context, lease store.Lease) (*run, context.Context) {
	life, stop := context.WithCancelCause(abandon)
	r := &run{pipeline: p, lease: lease, log: p.log.With("build", lease.BuildID), stop: stop, ended: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun++
	r.number = p.begun
	p.running[lease.BuildID] = r
	return r, life
}

// end frees the build's place.
func (p *Pipeline) end(ctx context.Context, r *run) {
	p.mu.Lock()
	delete(p.running, r.lease.BuildID)
	close(r.ended)
	remove := r.remove
	p.mu.Unlock()
	if remove {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		if err := p.Remove(ctx, r.lease.BuildID); err != nil {
			r.log.Warn("the workspace of a deleted build is not removed yet", "error", err)
		}
	}
	p.Kick()
}

// Changed is the pipeline's subscription to commits; see eventlog.Log.Subscribe. A
// build that was created is claimed at once.
func (p *Pipeline) Changed(c eventlog.Change) {
	if c.Kind == eventlog.Appended && len(c.Events) == 0 {
		p.Kick()
	}
}

// Why a run ends early.
var (
	errOver     = errors.New("the build is over")
	errDraining = errors.New("this node is stopping")
)

// targets are the names of what builds may deploy to here.
func (p *Pipeline) targets() []string {
	return slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(p.config.Targets)), buildcast.DeployNone)))
}
