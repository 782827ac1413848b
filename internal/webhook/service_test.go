package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/store/sqlite"
	"github.com/buildcast/buildcast/webhooksig"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secretText = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// world is a node with a real store and a receiver in memory. It is used within a
// synctest bubble, so that hours pass at once.
type world struct {
	*testing.T
	*Service
	db    *sqlite.Store
	path  string        // of the database
	logAs func(Log) Log // set: what the next start gives the service for its log
	stop  func()
	sites map[string]*site // by host
}

func newWorld(t *testing.T, tweak ...func(*Config)) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "b.db")
	db, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, db: db, path: path, sites: map[string]*site{}}
	w.start(tweak...)
	t.Cleanup(func() {
		w.stop()
		_ = db.Close()
	})
	return w
}

// start runs a node on the store, as a process does.
func (w *world) start(tweak ...func(*Config)) {
	logger := slog.New(slog.NewTextHandler(w.Output(), nil))
	log := eventlog.New(w.db, w.db, logger)
	hub := live.NewHub(w.db)
	c := Config{
		Store: w.db, Log: log, Watch: hub.WatchEagerly, Owner: "node", Client: &http.Client{Transport: w},
		CheckURL: func(string) error { return nil }, Logger: logger,
	}
	for _, do := range tweak {
		do(&c)
	}
	if w.logAs != nil {
		c.Log = w.logAs(log)
	}
	w.Service = New(c)
	log.Subscribe(hub.Changed)
	log.Subscribe(w.Changed)
	core, stopCore := context.WithCancel(context.WithoutCancel(w.Context()))
	ctx, stop := context.WithCancel(core)
	var parts, sending sync.WaitGroup
	parts.Go(func() { _ = log.Run(core) })
	parts.Go(func() { _ = hub.Run(core) })
	sending.Go(func() { _ = w.Service.Run(ctx) })
	w.stop = sync.OnceFunc(func() {
		stop()
		sending.Wait()
		stopCore()
		parts.Wait()
	})
}

// site is a receiver.
type site struct {
	mu       sync.Mutex
	requests []received
	// answer says what the receiver does; nil: 200. It may wait on the context.
	answer func(context.Context, received) (*http.Response, error)
}

// received is a request as a receiver sees it.
type received struct {
	buildcast.WebhookPayload
	messageID string
	try       int
	at        time.Time
	header    http.Header
	body      []byte
}

// site makes an endpoint at a host of its own, and the receiver.
func (w *world) site(change buildcast.EndpointChange) (*site, buildcast.Endpoint) {
	w.Helper()
	s := &site{}
	host := fmt.Sprintf("site%d.example", len(w.sites))
	w.sites[host] = s
	url := "https://" + host + "/hook"
	change.URL = &url
	if change.Secret == nil {
		change.Secret = new(secretText)
	}
	e, err := w.Create(w.Context(), change)
	if err != nil {
		w.Fatal(err)
	}
	return s, e
}

func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	s := w.sites[req.URL.Host]
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r := received{messageID: req.Header.Get("Webhook-Id"), at: time.Now(), header: req.Header, body: body}
	r.try, _ = strconv.Atoi(req.Header.Get("Webhook-Attempt"))
	if err := json.Unmarshal(body, &r.WebhookPayload); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.requests = append(s.requests, r)
	answer := s.answer
	s.mu.Unlock()
	if answer == nil {
		return respond(200), nil
	}
	return answer(req.Context(), r)
}

func (s *site) set(answer func(context.Context, received) (*http.Response, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *site) all() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// of gives the requests for one event.
func (s *site) of(build string, id int64) []received {
	return slices.DeleteFunc(s.all(), func(r received) bool { return r.BuildID != build || r.ID != id })
}

// ids gives the ids that came of a build, in order of arrival.
func (s *site) ids(build string) (ids []int64) {
	for _, r := range s.all() {
		if r.BuildID == build {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func respond(status int, headers ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader("said " + strconv.Itoa(status)))}
}

func always(status int) func(context.Context, received) (*http.Response, error) {
	return func(context.Context, received) (*http.Response, error) { return respond(status), nil }
}

// refuse is a receiver that is not there.
func refuse(context.Context, received) (*http.Response, error) {
	return nil, errors.New("connection refused")
}

// append appends n events to the build.
func (w *world) add(build string, n int) {
	w.Helper()
	events := make([]buildcast.NewEvent, n)
	for i := range events {
		events[i] = buildcast.NewEvent{Type: "task_started", Data: json.RawMessage(`{"n":1}`)}
	}
	if _, err := w.Service.Log.Append(w.Context(), build, 0, events...); err != nil {
		w.Fatal(err)
	}
}

func (w *world) deliveries(f store.DeliveryFilter) []buildcast.Delivery {
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

func (w *world) breaker(id string) buildcast.Breaker {
	w.Helper()
	e, err := w.Endpoint(w.Context(), id)
	if err != nil {
		w.Fatal(err)
	}
	return e.Breaker
}

func upTo(n int) []int64 {
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = int64(i + 1)
	}
	return ids
}

// signed reports whether the request verifies with the secret.
func signed(r received, text string) error {
	secret, err := webhooksig.ParseSecret(text)
	if err != nil {
		return err
	}
	return webhooksig.Verifier{Secrets: []webhooksig.Secret{secret}, Now: func() time.Time { return r.at }}.Verify(r.header, r.body)
}
