// Package delivery sends events to webhook endpoints.
//
// An endpoint is a cursor in each build's log that it follows. The transaction
// that appends makes the cursor if there is none. A node claims the cursor, posts
// the events after it in order, stores after each event how far it has come, and
// parks the cursor at the end of the log. While all goes well there is no row per
// event, and a killed process sends one event of each cursor twice.
//
// A [Dispatcher] runs a sender for each endpoint (sender.go). The sender claims
// cursors (claim.go), works on each in a goroutine (cursor.go) and retries events
// that failed (retry.go). A failure is first taken for the event's: the event is
// retried on a schedule while later events go on. Several failures in a row are
// taken for the endpoint's: its breaker opens (breaker.go), its cursors go back to
// where the failures began, and one event at a time is sent as a probe (probe.go)
// until one arrives. The mover (mover.go) stores the moves of all cursors.
package delivery

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/webhook/counts"
)

const (
	// leaseTime is longer than the longest timeout of an attempt. A lease is renewed
	// three times within it, so nobody claims a cursor from a node that is alive.
	leaseTime = 90 * time.Second

	// pollTime is how often a sender looks for cursors and retries that nobody told
	// this node of, such as those of another node that is gone.
	pollTime = 10 * time.Second

	// lastMoves is how long cursors are moved after the drain.
	lastMoves = 2 * time.Second

	// MaxTimeout bounds an attempt.
	MaxTimeout = 30 * time.Second
)

// Log reads builds' logs; see eventlog.Log.
type Log interface {
	Read(ctx context.Context, buildID string, after int64, limit int) ([]buildcast.Event, error)
}

// Cursors are the endpoints' places in the logs; see store.Cursors.
type Cursors interface {
	ClaimCursors(ctx context.Context, owner, endpointID string, builds []string, now, until time.Time, limit int) ([]store.Cursor, error)
	MoveCursors(ctx context.Context, owner string, moves []store.Move) ([]store.Moved, error)
}

// Leases are those of cursors and retries; see store.CursorLeases.
type Leases interface {
	RenewCursors(ctx context.Context, owner string, now, until time.Time, except ...time.Time) error
	ReleaseCursors(ctx context.Context, owner string) error
}

// Retries are the deliveries that failed; see store.Retries.
type Retries interface {
	ClaimDeliveries(ctx context.Context, owner, endpointID string, now, until time.Time, limit int) ([]buildcast.Delivery, error)
	SaveDelivery(ctx context.Context, owner string, d buildcast.Delivery) error
	RecallDeliveries(ctx context.Context, endpointID string, since time.Time) error
}

// Store is what a Dispatcher needs of the store.
type Store interface {
	Cursors
	Leases
	Retries
}

// Config is what a Dispatcher needs. All fields are required.
type Config struct {
	Store     Store
	Endpoints Endpoints
	Log       Log
	// Watch makes a cursor that has seen the build's events up to after; see
	// live.Hub.WatchEagerly.
	Watch func(buildID string, after int64) *live.Cursor
	// Owner names this node in leases. It is the same after a restart, and differs
	// from all other nodes'.
	Owner string
	// Client sends the requests. It follows no redirects, and refuses addresses that
	// must not be reached.
	Client *http.Client
	// Schedule is how long to wait before each retry of an event, ±10 %.
	Schedule []time.Duration
	// DrainTimeout is how long a stop waits for attempts under way.
	DrainTimeout time.Duration
	Counts       *counts.Counts
	Reports      *Reports
	Logger       *slog.Logger
}

// Dispatcher delivers to all endpoints while Run runs.
type Dispatcher struct {
	config  Config
	mover   *mover
	senders atomic.Pointer[[]*sender]
	doubts  doubts

	// attempts is the context of requests and of what must be stored after them. It
	// outlasts Run's by the drain.
	attempts context.Context
	abandon  context.CancelFunc
}

// New makes a dispatcher. It does nothing before Run, except that Ping works.
func New(c Config) *Dispatcher {
	d := &Dispatcher{config: c}
	d.senders.Store(new([]*sender))
	d.attempts, d.abandon = context.WithCancel(context.Background())
	d.mover = newMover(c.Store, c.Owner, c.Logger)
	return d
}

// Changed tells the senders of a commit; see eventlog.Log.Subscribe. It waits for
// nothing.
func (d *Dispatcher) Changed(c eventlog.Change) {
	for _, n := range *d.senders.Load() {
		switch c.Kind {
		case eventlog.Appended:
			n.committed(c.BuildID, c.Status.Project, c.Events)
		case eventlog.Truncated:
			n.truncated(c.BuildID)
		case eventlog.Hinted: // the node that stored the events delivers them; the poll is the backstop
		}
	}
}

// Run delivers until ctx ends. It then waits up to DrainTimeout for attempts under
// way, and releases the cursors.
func (d *Dispatcher) Run(ctx context.Context) error {
	defer d.abandon()
	// A lease of this owner is one that an earlier process on the same data directory held.
	if err := d.persist(ctx, "the takeover of cursors", func(ctx context.Context) error {
		return d.config.Store.ReleaseCursors(ctx, d.config.Owner)
	}); err != nil && ctx.Err() == nil {
		d.config.Logger.Warn("webhooks: cursors of the process before this one are free when their leases end", "error", err)
	}

	moving, stopMoving := context.WithCancel(context.WithoutCancel(ctx))
	defer stopMoving()
	var last, parts sync.WaitGroup
	// After the drain nothing waits for a store that is away: the events whose moves
	// are lost are sent again.
	defer context.AfterFunc(d.attempts, func() { time.AfterFunc(lastMoves, stopMoving) })()
	idle := make(chan struct{})
	last.Go(func() { d.mover.run(moving, idle) })
	parts.Go(func() { d.supervise(ctx) })
	parts.Go(func() { d.renew(ctx) })

	<-ctx.Done()
	drained := time.AfterFunc(d.config.DrainTimeout, d.abandon)
	defer drained.Stop()
	parts.Wait()
	close(idle)
	last.Wait()
	err := Bounded(context.WithoutCancel(ctx), func(ctx context.Context) error {
		return d.config.Store.ReleaseCursors(ctx, d.config.Owner)
	})
	if err != nil {
		d.config.Logger.Warn("webhooks: cursors are free again when their leases end", "error", err)
	}
	return nil
}

// supervise runs a sender for each endpoint, and returns when all have ended.
func (d *Dispatcher) supervise(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for {
		if err := d.refresh(ctx, &running); err != nil && ctx.Err() == nil {
			d.config.Logger.Warn("webhooks: the endpoints cannot be read; trying again", "error", err)
		}
		select {
		case <-d.config.Endpoints.Changed():
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// refresh reads the endpoints, starts senders for new ones, updates the others and
// stops those whose endpoints no longer exist.
func (d *Dispatcher) refresh(ctx context.Context, running *sync.WaitGroup) error {
	var endpoints []*Endpoint
	if err := Bounded(ctx, func(ctx context.Context) (err error) {
		endpoints, err = d.config.Endpoints.Usable(ctx)
		return err
	}); err != nil {
		return err
	}
	before := map[string]*sender{}
	for _, n := range *d.senders.Load() {
		before[n.id] = n
	}
	now := make([]*sender, 0, len(endpoints))
	var begun []*sender
	for _, ep := range endpoints {
		n := before[ep.ID]
		if delete(before, ep.ID); n == nil {
			n = newSender(d, ep)
			begun = append(begun, n)
		}
		n.update(ep)
		now = append(now, n)
	}
	// Senders that have not begun learn of commits from here on; their first poll
	// finds what was committed earlier.
	d.senders.Store(&now)
	for _, n := range begun {
		ctx, cancel := context.WithCancel(ctx)
		n.stop = cancel
		running.Go(func() {
			defer cancel()
			n.run(ctx)
		})
	}
	for _, n := range before {
		n.stop()
	}
	return nil
}

// renew renews the leases.
func (d *Dispatcher) renew(ctx context.Context) {
	tick := time.NewTicker(leaseTime / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		err := Bounded(ctx, func(ctx context.Context) error {
			now := time.Now()
			return d.config.Store.RenewCursors(ctx, d.config.Owner, now, now.Add(leaseTime).Truncate(time.Second), d.doubts.at(now)...)
		})
		if err != nil && ctx.Err() == nil {
			d.config.Logger.Warn("webhooks: leases are not renewed; trying again", "error", err)
		}
		d.mover.release(ctx)
	}
}

// persist stores something; see Persist.
func (d *Dispatcher) persist(ctx context.Context, what string, do func(context.Context) error) error {
	return Persist(ctx, d.config.Logger, what, do)
}

// Rewound makes whoever delivers from the cursor look at it anew: it was put
// somewhere else.
func (d *Dispatcher) Rewound(endpointID, buildID string) {
	if n := d.sender(endpointID); n != nil {
		n.rewound(buildID)
	}
}

// RetriesDue makes the endpoint's sender look for retries now.
func (d *Dispatcher) RetriesDue(endpointID string) {
	if n := d.sender(endpointID); n != nil {
		n.expect(new(buildcast.Now()))
	}
}

// sender returns the endpoint's; nil if nothing is delivered to it here.
func (d *Dispatcher) sender(id string) *sender {
	all := *d.senders.Load()
	i := slices.IndexFunc(all, func(n *sender) bool { return n.id == id })
	if i < 0 {
		return nil
	}
	return all[i]
}
