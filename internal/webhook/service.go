// Package webhook keeps the webhook endpoints and shows how deliveries stand.
//
// A [Service] validates endpoints, seals their secrets (seal.go) and stores them. It
// runs the delivery to them, which is internal/webhook/delivery's, and answers for it:
// tests, rewinds, redeliveries (manage.go) and the status (status.go). The endpoint
// that the server's settings name is kept by environment.go.
package webhook

import (
	"context"
	"crypto/cipher"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/webhook/counts"
	"github.com/buildcast/buildcast/internal/webhook/delivery"
)

const (
	// flushTime is how often counts are stored: a kill loses those since.
	flushTime = 10 * time.Second

	// pruneTime is how often deliveries that are over, and counts, are removed once
	// they are older than counts.Retention.
	pruneTime = time.Hour
)

// Log is the builds' logs; see eventlog.Log.
type Log interface {
	delivery.Log
	delivery.Appender
}

// Pruner removes what is old; see store.Deliveries.
type Pruner interface {
	PruneDeliveries(ctx context.Context, before time.Time) error
}

// Store is what a Service needs of the store.
type Store interface {
	delivery.Store
	EndpointStore
	Redeliveries
	Backlogs
	Pruner
	counts.Store
}

// Config is what a Service needs. Fields without a default are required.
type Config struct {
	Store Store
	Log   Log
	// Statuses returns the statuses of the builds that exist; see store.Reader.
	Statuses func(ctx context.Context, buildIDs []string) (map[string]buildcast.Status, error)
	// Watch makes a cursor that has seen the build's events up to after; see
	// live.Hub.WatchEagerly.
	Watch func(buildID string, after int64) *live.Cursor
	// Owner names this node in leases. It is the same after a restart, and differs
	// from all other nodes'.
	Owner string
	// Client sends the requests. It follows no redirects, and refuses addresses that
	// must not be reached. CheckURL refuses the URLs that it would refuse.
	Client   *http.Client
	CheckURL func(url string) error

	// Key encrypts secrets and headers in the store; nil: they are stored as they are.
	Key cipher.AEAD
	// EnvironmentURL and EnvironmentSecret are those of the endpoint that the server's
	// settings keep; empty: the settings do not say.
	EnvironmentURL, EnvironmentSecret string
	// Schedule is how long to wait before each retry of an event; default: 1, 2, 4, 8
	// and 16 minutes, each ±10 %.
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

// Service keeps the endpoints, and delivers to them while Run runs.
type Service struct {
	endpoints   *endpoints
	environment environment
	delivery    *delivery.Dispatcher
	reports     *delivery.Reports
	counts      *counts.Counts
	status      statusCache
	logger      *slog.Logger

	countStore   counts.Store
	redeliveries Redeliveries
	backlogs     Backlogs
	pruner       Pruner
	statuses     func(ctx context.Context, buildIDs []string) (map[string]buildcast.Status, error)
}

// New makes a service. It does nothing before Run.
func New(c Config) *Service {
	c = c.withDefaults()
	reports := delivery.NewReports(c.Log, c.Logger)
	s := &Service{
		environment: environment{c.EnvironmentURL, c.EnvironmentSecret},
		reports:     reports, counts: counts.New(ulid.Make().String()), logger: c.Logger,
		countStore: c.Store, redeliveries: c.Store, backlogs: c.Store, pruner: c.Store, statuses: c.Statuses,
	}
	s.endpoints = &endpoints{
		store: c.Store, seal: sealer{c.Key}, checkURL: c.CheckURL, reports: reports, logger: c.Logger,
		changed: make(chan struct{}, 1), onChange: s.status.forget,
	}
	s.delivery = delivery.New(delivery.Config{
		Store: c.Store, Endpoints: s.endpoints, Log: c.Log, Watch: c.Watch, Owner: c.Owner, Client: c.Client,
		Schedule: c.Schedule, DrainTimeout: c.DrainTimeout, Counts: s.counts, Reports: reports, Logger: c.Logger,
	})
	return s
}

// Changed is told of each commit; see eventlog.Log.Subscribe.
func (s *Service) Changed(c eventlog.Change) {
	if c.Kind == eventlog.Appended {
		s.counts.Logged(c.Events)
	}
	s.delivery.Changed(c)
}

// Run delivers until ctx ends. It then lets attempts under way end within
// DrainTimeout, and releases the cursors.
func (s *Service) Run(ctx context.Context) error {
	s.persist(ctx, "the endpoint of the settings", func(ctx context.Context) error { return s.environment.keep(ctx, s.endpoints) })
	s.persist(ctx, "secrets in encrypted form", s.endpoints.sealPlain)

	var parts sync.WaitGroup
	parts.Go(func() { s.keepCounts(ctx) })
	parts.Go(func() { s.reports.Run(ctx) })
	err := s.delivery.Run(ctx)
	parts.Wait()

	_ = delivery.Bounded(context.WithoutCancel(ctx), func(ctx context.Context) error {
		s.reports.Flush(ctx)
		if err := s.counts.Flush(ctx, s.countStore); err != nil {
			s.logger.Warn("webhooks: the counts of the last seconds are not stored", "error", err)
		}
		return nil
	})
	return err
}

// keepCounts stores counts, and removes deliveries and counts that are old.
func (s *Service) keepCounts(ctx context.Context) {
	flush, prune := time.NewTicker(flushTime), time.NewTicker(pruneTime)
	defer flush.Stop()
	defer prune.Stop()
	for {
		var err error
		select {
		case <-flush.C:
			err = delivery.Bounded(ctx, func(ctx context.Context) error { return s.counts.Flush(ctx, s.countStore) })
		case <-prune.C:
			err = delivery.Bounded(ctx, func(ctx context.Context) error {
				return s.pruner.PruneDeliveries(ctx, time.Now().Add(-counts.Retention))
			})
		case <-ctx.Done():
			return
		}
		if err != nil && ctx.Err() == nil {
			s.logger.Warn("webhooks: counts are not stored, or old deliveries not removed; trying again", "error", err)
		}
	}
}

// persist stores something while the store may be away. What is not stored because
// ctx ended is stored at the next start; any other failure is logged.
func (s *Service) persist(ctx context.Context, what string, do func(context.Context) error) {
	_ = delivery.Persist(ctx, s.logger, what, do)
}
