// Package pipeline runs the builds that have a plan: it claims a lease, works
// through the tasks as their needs allow, runs install and build, and deploys.
//
// A build's log is all that is known of it. A run reports events whose keys are
// made from their data, so a run that begins again reports nothing twice:
// it reads the log, passes over the tasks that are completed, and goes on. The
// lease's generation fences the run that came before. If the workspace no longer
// exists (another node has taken over, or the machine was started
// again), completed tasks are done again without events: what they made is
// needed, and their events stand.
//
// Events go through an emitter that never blocks: while the store is away the
// work goes on and its events wait, in order. A build holds its place among
// those that run until the log has taken all of them.
//
// A run ends early in one of three ways, and reports nothing more in any of them:
// the lease was lost, somebody else ended the build (a cancel), or
// this node drains. Processes are gone within a second.
package pipeline

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/store"
)

// Log is where a build's events are appended and read; see eventlog.Log.
type Log interface {
	Append(ctx context.Context, buildID string, generation int64, events ...buildcast.NewEvent) (store.Appended, error)
	Read(ctx context.Context, buildID string, after int64, limit int) ([]buildcast.Event, error)
}

// Builds returns a build and its plan, or NotFound.
type Builds interface {
	GetBuild(ctx context.Context, id string) (buildcast.Build, error)
}

// Target is where a build's output goes. A repeated deploy of the same build must
// be safe. The message of an *buildcast.Error is shown to people as it is. The
// error wraps fs.ErrNotExist if dir holds no files to deploy; then progress was
// not called.
type Target interface {
	Deploy(ctx context.Context, buildID, dir string, progress func(message string)) (previewURL string, err error)
}

// Config is what a Pipeline is made of. The first seven are required.
type Config struct {
	Owner   string // of the leases: the same at each start on one data directory
	Dir     string // of the workspaces
	Log     Log
	Builds  Builds
	Leases  store.Leases
	Watch   func(buildID string, after int64, wake func()) *live.Cursor // see live.Hub
	Targets map[string]Target                                           // by name; "none" needs none

	// Label makes a build id a directory name. Nil: the id itself, which is
	// enough only if file names are case-sensitive.
	Label         func(buildID string) string
	MaxBuilds     int           // at once; 0: 4
	MaxTasks      int           // of one build at once; 0: 4
	LeaseTTL      time.Duration // how long a dead node's builds wait for another; 0: 30s
	DrainTimeout  time.Duration // for events that wait when Run is told to end; 0: 5s
	KeepWorkspace time.Duration // after a build's end; 0: 24h
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
	c.KeepWorkspace = cmp.Or(c.KeepWorkspace, 24*time.Hour)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return c
}

const (
	// claimEvery is how often builds are looked for without a kick: those whose
	// lease ran out, and those that another node queued.
	claimEvery = time.Second
	// storeTimeout bounds one call, so that a store that hangs is asked again.
	storeTimeout = 10 * time.Second
)

// Pipeline runs builds. Kick and Remove may be called from many goroutines, at any time.
type Pipeline struct {
	config Config
	log    *slog.Logger
	kick   chan struct{} // capacity 1
	retry  retryDelay    // of failed tasks

	readPatience time.Duration // see the constant

	sick bool // the store failed at the last call; belongs to Run's goroutine

	mu      sync.Mutex
	running map[string]*run      // by build id
	begun   int                  // how many runs have begun
	shelf   map[string]time.Time // builds that are not claimed until then
}

// New makes a pipeline. It does nothing before Run.
func New(cfg Config) *Pipeline {
	cfg = cfg.withDefaults()
	return &Pipeline{
		config: cfg, log: cfg.Logger, kick: make(chan struct{}, 1),
		retry: retryDelay{first: time.Second, most: 30 * time.Second}, readPatience: readPatience,
		running: make(map[string]*run), shelf: make(map[string]time.Time),
	}
}

// Kick tells that a build may be waiting. It is a hint and never blocks.
func (p *Pipeline) Kick() {
	select {
	case p.kick <- struct{}{}:
	default: // one waits already
	}
}

// Run runs builds until ctx ends. Then it claims no more, stops the commands
// that run, waits up to DrainTimeout until the log has taken their events, and
// gives the leases back. It is called once, and returns nil.
func (p *Pipeline) Run(ctx context.Context) error {
	// The end of ctx means take no more builds; that of abandon, leave what is not done.
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
	// Leases of before a restart are given back first: their builds go on at once.
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

// claim takes leases for the free places.
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
	if p.note(ctx, "builds wait: none can be claimed", err); err != nil {
		return nil
	}
	return leases
}

// release gives all leases back.
func (p *Pipeline) release(ctx context.Context, timeout time.Duration) bool {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := p.config.Leases.ReleaseLeases(limited, p.config.Owner)
	p.note(ctx, "leases are not given back: their builds wait until they run out", err)
	return err == nil
}

// note logs the first of a row of failures of the store.
func (p *Pipeline) note(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil && !p.sick {
		p.log.Warn(what, "error", err)
	}
	p.sick = err != nil
}

// begin gives a run its place, and the context that its stop ends.
func (p *Pipeline) begin(abandon context.Context, lease store.Lease) (*run, context.Context) {
	life, stop := context.WithCancelCause(abandon)
	r := &run{pipeline: p, lease: lease, log: p.log.With("build", lease.BuildID), stop: stop}
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
	remove := r.remove
	p.mu.Unlock()
	if remove {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		if err := p.Remove(ctx, r.lease.BuildID); err != nil {
			r.log.Warn("the workspace of a deleted build is still there", "error", err)
		}
	}
	p.Kick()
}

// Changed is told of what has been committed; see eventlog.Log.Subscribe. A build
// that was created is claimed at once.
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
