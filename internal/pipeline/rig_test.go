package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/deploy"
	"github.com/buildcast/buildcast/internal/eventlog"
	"github.com/buildcast/buildcast/internal/live"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/runner"
	"github.com/buildcast/buildcast/internal/store"
	"github.com/buildcast/buildcast/internal/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is much longer than any step here; a test that reaches it has failed.
const patience = time.Minute

var quiet = slog.New(slog.DiscardHandler)

// faultyStore is a store that can become unreachable.
type faultyStore struct {
	store.Store
	away      atomic.Bool // all of it
	noRenewal atomic.Bool // only the renewal of leases
	refused   atomic.Int64
}

func (f *faultyStore) gone() error {
	if !f.away.Load() {
		return nil
	}
	f.refused.Add(1)
	return store.Unavailable(errors.New("pulled out"), "the test has taken the store away")
}

func (f *faultyStore) AppendEvents(ctx context.Context, a []store.Append) ([]store.Appended, error) {
	if err := f.gone(); err != nil {
		return nil, err
	}
	return f.Store.AppendEvents(ctx, a)
}

func (f *faultyStore) ReadEvents(ctx context.Context, id string, after int64, limit, maxBytes int) ([]buildcast.Event, error) {
	if err := f.gone(); err != nil {
		return nil, err
	}
	return f.Store.ReadEvents(ctx, id, after, limit, maxBytes)
}

func (f *faultyStore) Bounds(ctx context.Context, ids []string) (map[string]store.Bounds, error) {
	if err := f.gone(); err != nil {
		return nil, err
	}
	return f.Store.Bounds(ctx, ids)
}

func (f *faultyStore) GetBuild(ctx context.Context, id string) (buildcast.Build, error) {
	if err := f.gone(); err != nil {
		return buildcast.Build{}, err
	}
	return f.Store.GetBuild(ctx, id)
}

func (f *faultyStore) ClaimBuilds(ctx context.Context, owner string, ttl time.Duration, limit int, except []string) ([]store.Lease, error) {
	if err := f.gone(); err != nil {
		return nil, err
	}
	return f.Store.ClaimBuilds(ctx, owner, ttl, limit, except)
}

func (f *faultyStore) RenewLease(ctx context.Context, l store.Lease, ttl time.Duration) error {
	if f.noRenewal.Load() {
		return store.Unavailable(errors.New("pulled out"), "no renewals")
	}
	if err := f.gone(); err != nil {
		return err
	}
	return f.Store.RenewLease(ctx, l, ttl)
}

func (f *faultyStore) SavePlan(ctx context.Context, l store.Lease, p *buildcast.Plan) error {
	if err := f.gone(); err != nil {
		return err
	}
	return f.Store.SavePlan(ctx, l, p)
}

func (f *faultyStore) ReleaseLeases(ctx context.Context, owner string) error {
	if err := f.gone(); err != nil {
		return err
	}
	return f.Store.ReleaseLeases(ctx, owner)
}

// site is a target that records what it deployed.
type site struct {
	mu     sync.Mutex
	files  map[string][]string // names by build id
	deploy func(dir string) error

	progress, url string // texts that it reports in place of its own
}

func (s *site) Deploy(_ context.Context, d deploy.Site, progress func(deploy.Progress)) (deploy.Deployment, error) {
	progress(deploy.Progress{Message: cmp.Or(s.progress, "Copying")})
	if s.deploy != nil {
		if err := s.deploy(d.Dir); err != nil {
			return deploy.Deployment{}, err
		}
	}
	entries, err := os.ReadDir(d.Dir)
	if err != nil {
		return deploy.Deployment{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if s.files == nil {
		s.files = map[string][]string{}
	}
	s.files[d.BuildID] = names
	return deploy.Deployment{URL: cmp.Or(s.url, "http://preview.test/"+d.BuildID)}, nil
}

// rig is a store, a log and a hub that pipelines run on.
type rig struct {
	t      *testing.T
	dir    string
	store  *faultyStore
	log    *eventlog.Log
	hub    *live.Hub
	target *site
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), target: &site{}}
	db, err := sqlite.Open(t.Context(), filepath.Join(r.dir, "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	r.store = &faultyStore{Store: db}
	r.hub = live.NewHub(r.store)
	r.log = eventlog.New(r.store, r.store, quiet)
	r.log.Subscribe(r.hub.Changed)
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { _ = r.log.Run(ctx) })
	parts.Go(func() { _ = r.hub.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		parts.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// pipeline makes a pipeline of the rig. Its workspaces are below the owner's name.
func (r *rig) pipeline(owner string, change ...func(*Config)) *Pipeline {
	cfg := Config{
		Owner: owner, Dir: filepath.Join(r.dir, owner), Log: r.log, Builds: r.store, Leases: r.store, Plans: r.store,
		Watch:   r.hub.Watch,
		Targets: map[string]Target{buildcast.DeployLocal: r.target}, Runner: runner.Direct(), Logger: quiet,
	}
	for _, c := range change {
		c(&cfg)
	}
	p := New(cfg)
	p.retry = retryDelay{first: time.Millisecond, most: time.Millisecond}
	return p
}

// start runs a pipeline until the returned stop is called, or the test ends.
func (r *rig) start(p *Pipeline) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				r.t.Errorf("Run gave %v", err)
			}
		case <-time.After(patience):
			r.t.Error("the pipeline does not drain")
		}
	})
	r.t.Cleanup(stop)
	return stop
}

// build queues a build.
func (r *rig) build(id string, plan *buildcast.Plan) {
	r.t.Helper()
	if plan.Name == "" {
		plan.Name = id
	}
	if err := plan.Validate(); err != nil {
		r.t.Fatal(err)
	}
	if _, _, err := r.store.CreateBuild(r.t.Context(), store.NewBuild{ID: id, Project: "test", Plan: plan}); err != nil {
		r.t.Fatal(err)
	}
}

// run queues a build, runs it on a pipeline of its own, and returns its events.
func (r *rig) run(id string, plan *buildcast.Plan) []buildcast.Event {
	r.t.Helper()
	r.build(id, plan)
	stop := r.start(r.pipeline("solo"))
	r.end(id)
	stop()
	return r.events(id)
}

// events returns the build's events so far.
func (r *rig) events(id string) []buildcast.Event {
	r.t.Helper()
	var all []buildcast.Event
	for {
		more, err := r.log.Read(context.Background(), id, int64(len(all)), 1000)
		if err != nil {
			r.t.Fatal(err)
		}
		if len(more) == 0 {
			return all
		}
		all = append(all, more...)
		if last := all[len(all)-1]; last.ID != int64(len(all)) {
			r.t.Fatalf("event %d is at position %d", last.ID, len(all))
		}
	}
}

// await waits for an event, and returns it.
func (r *rig) await(id string, is func(*buildcast.Event) bool) buildcast.Event {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	cursor := r.hub.Watch(id, 0, nil)
	defer cursor.Close()
	for {
		batch, err := cursor.Next(ctx)
		if ctx.Err() != nil {
			r.t.Fatalf("the event does not come; there are\n%s", lines(r.events(id)))
		}
		if err != nil {
			continue // the test has made the store unreachable
		}
		events := slices.Clone(batch.Events) // the batch is shared with other readers
		for i := range events {
			if is(&events[i]) {
				return events[i]
			}
		}
	}
}

// end waits for the build's last event.
func (r *rig) end(id string) buildcast.Event {
	r.t.Helper()
	status := buildcast.NewStatus(id, "", buildcast.Now())
	return r.await(id, func(e *buildcast.Event) bool {
		status.Apply(e)
		return status.Phase.Terminal()
	})
}

// output waits for a line of output.
func (r *rig) output(id, line string) {
	r.t.Helper()
	r.await(id, func(e *buildcast.Event) bool { return slices.Contains(read[report.BuildLog](e).Lines, line) })
}

func (r *rig) status(id string) buildcast.Status {
	r.t.Helper()
	b, err := r.store.GetBuild(context.Background(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return b.Status
}

func read[T any](e *buildcast.Event) (data T) {
	_ = json.Unmarshal(e.Data, &data)
	return data
}

// of returns the events of a type.
func of(events []buildcast.Event, typ string) (found []buildcast.Event) {
	for _, e := range events {
		if e.Type == typ {
			found = append(found, e)
		}
	}
	return found
}

// keys returns the keys of the events, without output.
func keys(events []buildcast.Event) (all []string) {
	for i := range events {
		if k := strings.TrimPrefix(report.Key(events[i].Type, events[i].Data), buildcast.ReservedKeyPrefix); k != "" {
			all = append(all, k)
		}
	}
	return all
}

func lines(events []buildcast.Event) string {
	var b strings.Builder
	for i := range events {
		b.Write(events[i].AppendJSON(nil))
		b.WriteByte('\n')
	}
	return b.String()
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// shell is a task that runs a command.
func shell(name, script string, needs ...string) buildcast.Task {
	return buildcast.Task{Name: name, Run: script, Needs: needs}
}

// record is a file to which commands append what they do.
type record string

func (r *rig) record() record { return record(filepath.Join(r.t.TempDir(), "record")) }

// note returns a command that appends a line.
func (f record) note(line string) string { return fmt.Sprintf("echo %q >> '%s'", line, string(f)) }

func (f record) lines(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(string(f))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}
