// Package webhook delivers events to endpoints over HTTP.
//
// An endpoint is a cursor in each build's log that it follows. The transaction
// that appends makes the cursor where there is none; a node claims it, posts the
// events after it in order, stores after each how far it has come, and parks it
// at the end of the log. So there is no row per event while all goes well, and
// what is lost with a process is one step of a cursor: one event is sent twice.
//
// The parts: a [Service] keeps the endpoints and has a sender for each enabled
// one (sender.go), which claims cursors and works on each in a goroutine
// (cursor.go) and retries what has failed (retry.go). A failure is first taken
// for the event's: it is retried on a schedule while later events go on. Several
// in a row are taken for the endpoint's: its breaker opens (breaker.go), the
// cursors go back to where the failures began, and one event at a time is tried
// until one arrives.
package webhook

import (
	"context"
	"crypto/cipher"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/store"
)

const (
	// leaseTime is longer than the longest timeout of an attempt, and renewed
	// three times within it: a cursor is not claimed away from a node that lives.
	leaseTime = 90 * time.Second

	// pollTime is how often cursors and retries are looked for that nobody has
	// told this node of: those of another node that is gone, say.
	pollTime = 10 * time.Second

	// retention is how long deliveries that are over, and counts, are kept.
	retention = 7 * 24 * time.Hour

	storeTimeout = 20 * time.Second
)

// Log is the builds' logs; see eventlog.Log.
type Log interface {
	Append(ctx context.Context, buildID string, generation int64, events ...buildcast.NewEvent) (store.Appended, error)
	Read(ctx context.Context, buildID string, after int64, limit int) ([]buildcast.Event, error)
}

// Config is what a Service needs. Fields without a default are required.
type Config struct {
	Store store.Webhooks
	Log   Log
	// Watch gives a cursor that has seen the build's events up to after; see
	// live.Hub.WatchEagerly.
	Watch func(buildID string, after int64) *live.Cursor
	// Owner names this node in leases: the same after a restart, and no other's.
	Owner string
	// Client sends the requests; it follows no redirects and reaches no address
	// that it should not. CheckURL says what it will refuse in an endpoint's URL.
	Client   *http.Client
	CheckURL func(url string) error

	// Key, where set, encrypts secrets and headers in the store.
	Key cipher.AEAD
	// EnvironmentURL and EnvironmentSecret, where set, are those of an endpoint
	// that the server's settings keep, and not the API.
	EnvironmentURL, EnvironmentSecret string
	// Schedule is how long to wait before each retry of an event; default: 1, 2,
	// 4, 8 and 16 minutes, each ±10 %.
	Schedule []time.Duration
	// DrainTimeout is how long a stop waits for attempts under way; default: 10 s.
	DrainTimeout time.Duration
	Logger       *slog.Logger // default: slog.Default()
}

func (c Config) withDefaults() Config {
	if c.Schedule == nil {
		c.Schedule = []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute}
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Service keeps the endpoints and delivers to them while Run runs.
type Service struct {
	Config
	moves    mover
	counts   *counts
	changed  chan struct{}           // capacity 1: the endpoints are to be read again
	reports  chan buildcast.NewEvent // operational events that are not stored yet
	senders  atomic.Pointer[[]*sender]
	attempts context.Context // of requests: it outlasts Run's by the drain
	cancel   context.CancelFunc

	changing sync.Mutex // held while an endpoint is changed
	statuses statusCache
	doubts   doubts
}

// New makes a service. It does nothing before Run.
func New(c Config) *Service {
	s := &Service{
		Config: c.withDefaults(), moves: newMover(), counts: newCounts(ulid.Make().String()),
		changed: make(chan struct{}, 1), reports: make(chan buildcast.NewEvent, maxReports),
	}
	s.senders.Store(new([]*sender))
	s.attempts, s.cancel = context.WithCancel(context.Background())
	return s
}

// Changed is told of what has been committed; see eventlog.Log.Subscribe.
func (s *Service) Changed(c eventlog.Change) {
	if c.Kind != eventlog.Appended {
		return
	}
	s.counts.logged(c.Events)
	for _, sender := range *s.senders.Load() {
		sender.committed(c.BuildID, c.Status.Project, c.Events)
	}
}

// Run delivers until ctx ends. It then lets attempts under way end within
// DrainTimeout, and gives the cursors back.
func (s *Service) Run(ctx context.Context) error {
	defer s.cancel()
	// What a process before this one on the same data directory held is free.
	s.persist(ctx, "taking over", func(ctx context.Context) error { return s.Store.ReleaseCursors(ctx, s.Owner) })
	s.persist(ctx, "the endpoint of the settings", s.keepEnvironment)
	s.persist(ctx, "secrets in encrypted form", s.sealPlain)

	moving, stopMoving := context.WithCancel(context.WithoutCancel(ctx))
	var last, parts sync.WaitGroup
	last.Go(func() { s.moves.run(moving, s) })
	parts.Go(func() { s.supervise(ctx) })
	parts.Go(func() { s.housekeep(ctx) })
	parts.Go(func() { s.report(ctx) })

	<-ctx.Done()
	drained := time.AfterFunc(s.DrainTimeout, s.cancel)
	defer drained.Stop()
	parts.Wait()
	stopMoving()
	last.Wait()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	s.reportRest(end)
	if err := s.flush(end); err != nil {
		s.Logger.Warn("webhooks: counts of the last seconds are not stored", "error", err)
	}
	if err := s.Store.ReleaseCursors(end, s.Owner); err != nil {
		s.Logger.Warn("webhooks: cursors are free again when their leases end", "error", err)
	}
	return nil
}

// supervise has a sender run for each endpoint, and ends with all of them.
func (s *Service) supervise(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for {
		if err := s.refresh(ctx, &running); err != nil && ctx.Err() == nil {
			s.Logger.Warn("webhooks: the endpoints cannot be read; trying again", "error", err)
		}
		select {
		case <-s.changed:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// refresh reads the endpoints, starts senders for new ones, tells the others what
// has changed and stops those whose endpoints are gone.
func (s *Service) refresh(ctx context.Context, running *sync.WaitGroup) error {
	endpoints, err := s.Store.ListEndpoints(ctx)
	if err != nil {
		return err
	}
	before := map[string]*sender{}
	for _, sender := range *s.senders.Load() {
		before[sender.id] = sender
	}
	now := make([]*sender, 0, len(endpoints))
	var begun []*sender
	for _, e := range endpoints {
		t, err := s.open(e)
		if err != nil {
			s.Logger.Error("webhooks: the endpoint cannot be used", "endpoint", e.ID, "error", err)
			continue
		}
		sender := before[e.ID]
		if delete(before, e.ID); sender == nil {
			sender = newSender(s, t)
			begun = append(begun, sender)
		}
		sender.update(t)
		now = append(now, sender)
	}
	s.senders.Store(&now) // before they run: they are told of what is committed from here on
	for _, sender := range begun {
		ctx, cancel := context.WithCancel(ctx)
		sender.stop = cancel
		running.Go(func() { sender.run(ctx) })
	}
	for _, gone := range before {
		gone.stop()
	}
	return nil
}

// housekeep renews leases, stores counts and removes what is old.
func (s *Service) housekeep(ctx context.Context) {
	renew, flush, prune := time.NewTicker(leaseTime/3), time.NewTicker(flushTime), time.NewTicker(time.Hour)
	defer renew.Stop()
	defer flush.Stop()
	defer prune.Stop()
	for {
		var what string
		var do func(context.Context) error
		select {
		case <-renew.C:
			what, do = "leases are not renewed", func(ctx context.Context) error {
				now := time.Now()
				return s.Store.RenewCursors(ctx, s.Owner, now, now.Add(leaseTime).Truncate(time.Second), s.doubts.at(now)...)
			}
		case <-flush.C:
			what, do = "counts are not stored", s.flush
		case <-prune.C:
			what, do = "old deliveries are not removed", func(ctx context.Context) error {
				return s.Store.PruneDeliveries(ctx, time.Now().Add(-retention))
			}
		case <-ctx.Done():
			return
		}
		if err := bounded(ctx, do); err != nil && ctx.Err() == nil {
			s.Logger.Warn("webhooks: "+what+"; trying again", "error", err)
		}
	}
}

func bounded(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return do(ctx)
}

// persist does what must be stored, again and again while the store is away. It
// reports whether it was done; false: ctx has ended, or it never will be.
func (s *Service) persist(ctx context.Context, what string, do func(context.Context) error) bool {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := bounded(ctx, do)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		s.Logger.Warn("webhooks: "+what+" is not stored", "error", err)
		if !buildcast.Temporary(err) {
			return false
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false
		}
	}
}
