package cli

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/emit"
)

const (
	maxFollowed = 50 // builds at once: each is a stream
	maxWaiting  = 1000
	// lookAround is how often new builds are looked for.
	lookAround = time.Second
	// maxPages bounds how far back one look goes.
	maxPages = 10
)

// livePhases are those of builds that go on.
var livePhases = []buildcast.Phase{buildcast.Queued, buildcast.Planning, buildcast.Executing, buildcast.Deploying}

// forwarder posts the events of builds, each build's one after the other.
type forwarder struct {
	builds interface {
		Builds(ctx context.Context, f client.Filter) (client.Page, error)
		Status(ctx context.Context, id string) (buildcast.Status, error)
		Follow(ctx context.Context, id string, after int64) iter.Seq2[buildcast.Event, error]
	}
	replay  bool // from the first event on, not from now on
	matches func(eventType string) bool
	post    func(ctx context.Context, e *buildcast.Event) error
	link    *slog.Logger // is told when the server does not answer, and when it does again
	note    func(format string, args ...any)

	group   *errgroup.Group
	waiting []start // for their turn, the oldest first
	crowded bool    // it was said that builds wait
}

// start is a build to follow, and the event to begin after.
type start struct {
	id    string
	after int64
}

// named forwards these builds, until all of them are over.
func (f *forwarder) named(ctx context.Context, ids []string) error {
	var starts []start
	for _, id := range ids {
		status, err := f.builds.Status(ctx, id)
		switch {
		case buildcast.CodeOf(err) == buildcast.NotFound:
			f.note("There is no build %s yet; waiting for its first event.", id)
		case err != nil:
			return err
		case status.Phase.Terminal() && !f.replay:
			f.note("Build %s is over: --replay forwards its events.", id)
		}
		starts = append(starts, f.from(id, status.LastEventID))
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range starts {
		group.Go(func() error { return f.follow(ctx, s) })
	}
	return group.Wait()
}

// all forwards the builds that go on now and those that begin later, until ctx ends.
func (f *forwarder) all(ctx context.Context) error {
	seen, err := f.begin(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.group, ctx = errgroup.WithContext(ctx)
	f.group.SetLimit(maxFollowed)
	clock := time.NewTicker(lookAround)
	defer clock.Stop()
	backoff := emit.Backoff{Min: lookAround, Max: 10 * lookAround}
	for {
		f.startWaiting(ctx)
		select {
		case <-clock.C:
		case <-ctx.Done(): // a build's follow has failed, or it is left
			return f.group.Wait()
		}
		found, err := f.look(ctx, seen)
		switch {
		case ctx.Err() != nil:
			return f.group.Wait()
		case err != nil && !emit.Temporary(err):
			cancel()
			_ = f.group.Wait() // they end with ctx
			return err
		case err != nil:
			f.link.Warn("looking for builds", "error", err)
			backoff.Wait(ctx, err)
			continue
		case backoff.Failures() > 0:
			f.link.Info("looking for builds again")
			backoff.Reset()
		}
		for _, id := range found {
			f.add(start{id: id})
		}
	}
}

// horizon is what the list of builds was when it was last looked at.
type horizon struct {
	ids   map[string]bool
	since buildcast.Time // builds that were created before are none of ours
}

// begin finds the builds that go on, and where the list of all begins.
func (f *forwarder) begin(ctx context.Context) (*horizon, error) {
	// The list comes first: a build that begins after it is found by the next look.
	page, err := f.builds.Builds(ctx, client.Filter{Limit: pageSize})
	if err != nil {
		return nil, err
	}
	h := &horizon{ids: map[string]bool{}}
	for i := range page.Builds {
		h.ids[page.Builds[i].BuildID] = true
	}
	if len(page.Builds) > 0 {
		h.since = page.Builds[0].CreatedAt
	}
	for _, phase := range livePhases {
		live, err := f.builds.Builds(ctx, client.Filter{Phase: phase, Limit: maxFollowed})
		if err != nil {
			return nil, err
		}
		for i := range live.Builds {
			b := &live.Builds[i]
			h.ids[b.BuildID] = true
			f.add(f.from(b.BuildID, b.LastEventID))
		}
	}
	return h, nil
}

// look gives the builds that are new in the list, the oldest first. They may be
// over already.
func (f *forwarder) look(ctx context.Context, h *horizon) (found []string, err error) {
	ids, before := map[string]bool{}, ""
	var last buildcast.Time
	for range maxPages {
		page, err := f.builds.Builds(ctx, client.Filter{Limit: pageSize, Before: before})
		if err != nil {
			return nil, err
		}
		fresh := 0
		for i := range page.Builds {
			b := &page.Builds[i]
			ids[b.BuildID], last = true, b.CreatedAt
			if !h.ids[b.BuildID] && !b.CreatedAt.Std().Before(h.since.Std()) {
				found = append([]string{b.BuildID}, found...)
				fresh++
			}
		}
		if before = page.Next; before == "" || fresh < len(page.Builds) {
			break
		}
	}
	h.ids = ids
	if before != "" && last.Std().After(h.since.Std()) {
		h.since = last // what slides into the list where another is deleted is not new
	}
	return found, nil
}

// from is where a build that is there already is followed from.
func (f *forwarder) from(id string, last int64) start {
	if f.replay {
		last = 0
	}
	return start{id, last}
}

// add has the build followed when it is its turn.
func (f *forwarder) add(s start) {
	for _, w := range f.waiting {
		if w.id == s.id {
			return
		}
	}
	if len(f.waiting) == maxWaiting {
		f.note("Build %s is left out: %d wait already. Name it with --build.", s.id, maxWaiting)
		return
	}
	f.waiting = append(f.waiting, s)
}

// startWaiting follows as many builds as there is room for. Those that wait lose
// nothing: their events are in the log.
func (f *forwarder) startWaiting(ctx context.Context) {
	for len(f.waiting) > 0 {
		s := f.waiting[0]
		if !f.group.TryGo(func() error { return f.follow(ctx, s) }) {
			if !f.crowded {
				f.crowded = true
				f.note("%d builds are followed at once; others wait for their turn.", maxFollowed)
			}
			return
		}
		f.waiting = f.waiting[1:]
	}
}

// follow posts a build's events to its end.
func (f *forwarder) follow(ctx context.Context, s start) error {
	for e, err := range f.builds.Follow(ctx, s.id, s.after) {
		switch code := buildcast.CodeOf(err); {
		case code == buildcast.NotFound || code == buildcast.CursorAhead:
			f.note("Build %s was deleted.", s.id)
			return nil
		case err != nil:
			return fmt.Errorf("build %s: %w", s.id, err)
		}
		if !f.matches(e.Type) {
			continue
		}
		if err := f.post(ctx, &e); err != nil {
			return err
		}
	}
	return nil
}
