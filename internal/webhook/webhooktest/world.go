// Package webhooktest runs the webhooks of one node on a real store, with receivers
// in memory. Within a synctest bubble hours pass at once.
package webhooktest

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/store/sqlite"
	"github.com/buildcast/buildcast/internal/webhook"
)

// World is a node with a real store, and the receivers that it can reach.
type World struct {
	*testing.T
	*webhook.Service
	DB    *sqlite.Store
	Path  string                        // of the database
	Log   webhook.Log                   // of the node that runs
	LogAs func(webhook.Log) webhook.Log // what the next Start gives the service for its log; nil: the log itself
	Stop  func()
	Sites map[string]*Site // by host

	publish func(eventlog.Change)
	watched *watched
}

// watched remembers which builds the hub asked for last.
type watched struct {
	*sqlite.Store
	mu  sync.Mutex
	ids []string
}

func (s *watched) Bounds(ctx context.Context, ids []string) (map[string]store.Bounds, error) {
	s.mu.Lock()
	s.ids = ids
	s.mu.Unlock()
	return s.Store.Bounds(ctx, ids)
}

// Watched returns the builds that the hub's backstop asked for since the last call.
func (w *World) Watched() []string {
	w.watched.mu.Lock()
	defer w.watched.mu.Unlock()
	ids := w.watched.ids
	w.watched.ids = nil
	return ids
}

// New starts a node. tweak changes its configuration.
func New(t *testing.T, tweak ...func(*webhook.Config)) *World {
	t.Helper()
	path := filepath.Join(t.TempDir(), "b.db")
	db, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	w := &World{T: t, DB: db, Path: path, Sites: map[string]*Site{}}
	w.Start(tweak...)
	t.Cleanup(func() {
		w.Stop()
		_ = db.Close()
	})
	return w
}

// Start runs a node on the store, as a process does. Stop the one before first.
func (w *World) Start(tweak ...func(*webhook.Config)) {
	logger := slog.New(slog.NewTextHandler(w.Output(), nil))
	log := eventlog.New(w.DB, w.DB, logger)
	w.watched = &watched{Store: w.DB}
	hub := live.NewHub(w.watched)
	c := webhook.Config{
		Store: w.DB, Log: log, Statuses: w.DB.Statuses, Watch: hub.WatchEagerly, Owner: "node", Client: &http.Client{Transport: w},
		CheckURL: func(string) error { return nil }, Logger: logger,
	}
	for _, do := range tweak {
		do(&c)
	}
	if w.LogAs != nil {
		c.Log = w.LogAs(log)
	}
	w.Log, w.publish = log, log.Publish
	w.Service = webhook.New(c)
	log.Subscribe(hub.Changed)
	log.Subscribe(w.Changed)
	core, stopCore := context.WithCancel(context.WithoutCancel(w.Context()))
	ctx, stop := context.WithCancel(core)
	var parts, sending sync.WaitGroup
	parts.Go(func() { _ = log.Run(core) })
	parts.Go(func() { _ = hub.Run(core) })
	sending.Go(func() { _ = w.Service.Run(ctx) })
	w.Stop = sync.OnceFunc(func() {
		stop()
		sending.Wait()
		stopCore()
		parts.Wait()
	})
}

// Publish tells the node's parts of a change, as its log does.
func (w *World) Publish(c eventlog.Change) { w.publish(c) }

// Add appends n events to the build.
func (w *World) Add(build string, n int) {
	w.Helper()
	events := make([]buildcast.NewEvent, n)
	for i := range events {
		events[i] = buildcast.NewEvent{Type: "task_started", Data: json.RawMessage(`{"n":1}`)}
	}
	if _, err := w.Log.Append(w.Context(), build, 0, events...); err != nil {
		w.Fatal(err)
	}
}

// Listed returns the deliveries that the filter selects.
func (w *World) Listed(f store.DeliveryFilter) []buildcast.Delivery {
	w.Helper()
	if f.Limit == 0 {
		f.Limit = 100
	}
	page, err := w.Deliveries(w.Context(), f)
	if err != nil {
		w.Fatal(err)
	}
	return page.Deliveries
}

// Breaker returns the breaker of an endpoint.
func (w *World) Breaker(id string) buildcast.Breaker {
	w.Helper()
	e, err := w.Endpoint(w.Context(), id)
	if err != nil {
		w.Fatal(err)
	}
	return e.Breaker
}

// RoundTrip hands a request to the site that it is for.
func (w *World) RoundTrip(req *http.Request) (*http.Response, error) {
	s := w.Sites[req.URL.Host]
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r := Received{MessageID: req.Header.Get("Webhook-Id"), At: time.Now(), Header: req.Header, Body: body}
	r.Try, _ = strconv.Atoi(req.Header.Get("Webhook-Attempt"))
	if err := json.Unmarshal(body, &r.WebhookPayload); err != nil {
		return nil, err
	}
	return s.receive(req.Context(), r)
}
