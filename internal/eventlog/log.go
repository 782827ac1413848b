// Package eventlog appends to builds' logs and reads them. Nothing else appends.
//
// Append is a group commit: one writer takes all appends that wait, stores them
// in one transaction, and answers each after the commit. While a transaction
// runs, the next group gathers; an idle log commits at once. The queue is bounded
// in appends and in bytes: beyond either bound, Append returns Overloaded at once.
package eventlog

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// Bounds of one transaction, and of the appends that wait for the next ones.
const (
	groupEvents = 4000
	groupBytes  = 4 << 20
	waitAppends = 4096
	waitBytes   = 64 << 20

	// storeTimeout bounds one transaction, so that a store that hangs is
	// reported as unavailable and callers do not pile up.
	storeTimeout = 10 * time.Second

	readEvents = 1000
	readBytes  = 4 << 20
)

// Log appends to builds' logs and reads them. Run must be running for Append to answer.
type Log struct {
	events      Events
	builds      Store
	subscribers []func(Change) // not changed once Run runs
	logger      *slog.Logger

	work  chan struct{} // capacity 1: an append waits
	purge chan struct{} // capacity 1: a log was cut

	// order is held from a change's commit until it is published: shared by appends
	// and creations, alone by a deletion. So subscribers learn of a build's deletion
	// before they get the next event under its id.
	order sync.RWMutex

	mu      sync.Mutex
	waiting []*request
	bytes   int // of waiting
	closed  bool
}

// Events appends and reads; see store.Appender and store.Reader.
type Events interface {
	AppendEvents(ctx context.Context, appends []store.Append) ([]store.Appended, error)
	ReadEvents(ctx context.Context, buildID string, after int64, limit, maxBytes int) ([]buildcast.Event, error)
}

// Builds creates builds; see store.Builds.
type Builds interface {
	CreateBuild(ctx context.Context, b store.NewBuild) (build buildcast.Build, created bool, err error)
}

// Cuts cuts logs; see store.Cuts and store.Purger.
type Cuts interface {
	DeleteBuild(ctx context.Context, id string) (first int64, err error)
	TruncateLog(ctx context.Context, id string, first int64) (int64, error)
	Purge(ctx context.Context, limit int) (more bool, err error)
}

// Store changes builds in the ways that are not appends.
type Store interface {
	Builds
	Cuts
}

type request struct {
	ctx     context.Context // the caller's
	append  store.Append
	bytes   int
	answer  chan answer // capacity 1: the writer never blocks on a caller that has left
	refusal answer      // of the last transaction that refused the request with others
}

type answer struct {
	store.Appended
	err error
}

// New makes a log over the store.
func New(events Events, builds Store, logger *slog.Logger) *Log {
	return &Log{events: events, builds: builds, logger: logger, work: make(chan struct{}, 1), purge: make(chan struct{}, 1)}
}

// Create stores a queued build, or returns the one that exists; see store.Builds.
func (l *Log) Create(ctx context.Context, b store.NewBuild) (build buildcast.Build, created bool, err error) {
	l.order.RLock()
	defer l.order.RUnlock()
	build, created, err = l.builds.CreateBuild(ctx, b)
	if err == nil && created {
		l.Publish(Change{Kind: Appended, BuildID: build.ID, Status: build.Status})
	}
	return build, created, err
}

// Append stores the events at the end of the build's log and returns after the
// commit. generation, unless it is 0, must be that of the build's lease. Every error
// is a *buildcast.Error:
//   - InvalidArgument or TooLarge if an event is invalid
//   - Fenced if the lease has another generation
//   - Overloaded if too many appends wait
//   - StoreUnavailable if the store fails
//   - Unreachable if ctx ends first; it wraps the context's cause
//
// After the last two the events may or may not be stored: keys make it safe to append
// them again.
func (l *Log) Append(ctx context.Context, buildID string, generation int64, events ...buildcast.NewEvent) (store.Appended, error) {
	if err := buildcast.ValidateBuildID(buildID); err != nil {
		return store.Appended{}, err
	}
	r := &request{ctx: ctx, append: store.Append{BuildID: buildID, Events: events, Generation: generation}, answer: make(chan answer, 1)}
	for i := range events {
		if err := events[i].Validate(); err != nil {
			return store.Appended{}, err
		}
		r.bytes += len(events[i].Data) + buildcast.EventOverhead
	}
	if err := l.enqueue(r); err != nil {
		return store.Appended{}, err
	}
	select {
	case a := <-r.answer:
		return a.Appended, a.err
	case <-ctx.Done():
		return store.Appended{}, buildcast.Errorf(buildcast.Unreachable,
			"the caller stopped waiting before the events were stored; they may be stored later, so append them again with the same keys").
			After(time.Second).Because(context.Cause(ctx))
	}
}

// Read returns the events after an id; see store.Reader.
func (l *Log) Read(ctx context.Context, buildID string, after int64, limit int) ([]buildcast.Event, error) {
	return l.events.ReadEvents(ctx, buildID, after, min(limit, readEvents), readBytes)
}

func (l *Log) enqueue(r *request) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return buildcast.Errorf(buildcast.StoreUnavailable, "the server is stopping; send it again to the next one").After(time.Second)
	}
	if len(l.waiting) >= waitAppends || l.bytes+r.bytes > waitBytes && len(l.waiting) > 0 {
		return buildcast.Errorf(buildcast.Overloaded, "%d appends are waiting already; try again shortly", len(l.waiting)).After(time.Second)
	}
	l.waiting = append(l.waiting, r)
	l.bytes += r.bytes
	select {
	case l.work <- struct{}{}:
	default:
	}
	return nil
}

// Run commits the appends, and purges the events that were cut off. When ctx ends it
// commits and answers the appends that still wait, and returns. Later appends are
// refused.
func (l *Log) Run(ctx context.Context) error {
	var purging sync.WaitGroup
	purging.Go(func() { l.runPurge(ctx) })
	defer purging.Wait()
	for {
		select {
		case <-l.work:
			l.commitWaiting(ctx)
		case <-ctx.Done():
			l.mu.Lock()
			l.closed = true
			l.mu.Unlock()
			l.commitWaiting(ctx)
			return nil
		}
	}
}

func (l *Log) commitWaiting(ctx context.Context) {
	for group := l.take(); len(group) > 0; group = l.take() {
		// A commit under way is finished even while the server stops: callers wait for it.
		l.commit(context.WithoutCancel(ctx), group)
	}
}

// take removes the next group from the queue.
func (l *Log) take() []*request {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, events, bytes := 0, 0, 0
	for _, r := range l.waiting {
		events += len(r.append.Events)
		if n > 0 && (events > groupEvents || bytes+r.bytes > groupBytes) {
			break
		}
		bytes += r.bytes
		n++
	}
	group := l.waiting[:n:n]
	l.waiting = append([]*request(nil), l.waiting[n:]...)
	l.bytes -= bytes
	return group
}

// commit stores the group in one transaction and answers it. If the store refuses
// the transaction for good, at least one of the appends is at fault, and the store
// does not say which. So commit tries both halves of the group, each with a timeout
// of its own, until each culprit is alone. The other appends wait for a few more
// transactions, and not for one transaction for each append.
func (l *Log) commit(ctx context.Context, group []*request) {
	for halves := [][]*request{group}; len(halves) > 0; {
		last := len(halves) - 1
		group, halves = halves[last], halves[:last]
		refused := l.commitOnce(ctx, waitingStill(group))
		if n := len(refused); n > 1 {
			halves = append(halves, refused[n/2:], refused[:n/2])
		}
	}
}

// waitingStill removes the requests whose callers no longer wait. They have been told
// that their events may or may not be stored.
func waitingStill(group []*request) []*request {
	return slices.DeleteFunc(group, func(r *request) bool { return r.ctx.Err() != nil })
}

// commitOnce stores the group in one transaction and answers its requests. If it
// refuses several together, it returns them without an answer.
func (l *Log) commitOnce(ctx context.Context, group []*request) (refused []*request) {
	if len(group) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	appends := make([]store.Append, len(group))
	for i, r := range group {
		appends[i] = r.append
	}
	l.order.RLock()
	defer l.order.RUnlock()
	results, err := l.events.AppendEvents(ctx, appends)
	if err != nil {
		l.logger.Warn("append failed", "appends", len(group), "error", err)
		results = make([]store.Appended, len(group))
	}
	for i, r := range group {
		a := answer{results[i], results[i].Err}
		if err != nil {
			a.err = err
		}
		if a.err == nil && (len(a.Added) > 0 || len(a.Events) == 0) { // unless all its events were stored before
			l.Publish(Change{Kind: Appended, BuildID: r.append.BuildID, Events: a.Added, Status: a.Status})
		}
		if a.err != nil && !isOwn(a.err) {
			refused = append(refused, r)
			r.refusal = a
			continue
		}
		r.answer <- a
	}
	if len(refused) == 1 {
		refused[0].answer <- refused[0].refusal
	}
	return refused
}

// isOwn reports whether the error belongs to this append alone or to the store
// itself. Any other error may have been caused by another append of the transaction.
func isOwn(err error) bool {
	return buildcast.Temporary(err) || buildcast.CodeOf(err) == buildcast.Fenced
}
