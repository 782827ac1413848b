package webhooks

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/backoff"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

const (
	maxFollowed = 50 // builds at once: each is a stream
	maxWaiting  = 1000
	// lookAround is how often new builds are looked for.
	lookAround = time.Second
	// idleTurn is how long a build may be silent before it makes room for one that waits.
	idleTurn = 10 * time.Second
)

// errTurnOver ends the turn of a build that is silent.
var errTurnOver = errors.New("another build waits for its turn")

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
	waiting []start // for their turn, the longest first
	crowded bool    // it was said that builds wait

	mu    sync.Mutex
	turns map[string]*turn
	back  []start // whose turns are over
}

// start is a build to follow, and the event to begin after.
type start struct {
	id    string
	after int64
}

// turn is a build that is being followed.
type turn struct {
	heard time.Time // when the last event came
	end   context.CancelCauseFunc
}

// named forwards these builds, until all of them are over.
func (f *forwarder) named(ctx context.Context, ids []string) error {
	var starts []start
	for _, id := range ids {
		status, err := f.builds.Status(ctx, id)
		switch {
		case buildcast.CodeOf(err) == buildcast.NotFound:
			f.note("No such build yet: %s. Waiting for its first event.", id)
		case err != nil:
			return err
		case status.Phase.Terminal() && !f.replay:
			f.note("Build %s is over. To forward its events, use --replay.", id)
		}
		starts = append(starts, f.from(id, status.LastEventID))
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range starts {
		group.Go(func() error {
			_, err := f.follow(ctx, ctx, s, func() {})
			return err
		})
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
	f.turns = map[string]*turn{}
	clock := time.NewTicker(lookAround)
	defer clock.Stop()
	retry := backoff.Backoff{Min: lookAround, Max: 10 * lookAround}
	for {
		f.startWaiting(ctx)
		select {
		case <-clock.C:
		case <-ctx.Done(): // a build's follow has failed, or it is left
			return f.group.Wait()
		}
		found, err := seen.look(ctx, f.builds.Builds)
		switch {
		case err != nil && ctx.Err() == nil && !buildcast.Temporary(err):
			cancel()
			_ = f.group.Wait() // they end with ctx
			return err
		case err != nil:
			f.link.Warn("looking for builds", "error", err)
			retry.Wait(ctx, err)
			continue
		case retry.Failures() > 0:
			f.link.Info("looking for builds again")
			retry.Reset()
		}
		for _, id := range found {
			f.add(start{id: id})
		}
	}
}

// begin finds the builds that go on, and where the list of all begins.
func (f *forwarder) begin(ctx context.Context) (*horizon, error) {
	// The list comes first: a build that begins after it is found by the next look.
	h := new(horizon)
	if _, err := h.look(ctx, f.builds.Builds); err != nil {
		return nil, err
	}
	for phase := range livePhases {
		before := ""
		for range maxPages {
			live, err := f.builds.Builds(ctx, client.Filter{Phase: phase, Limit: verb.PageSize, Before: before})
			if err != nil {
				return nil, err
			}
			for i := range live.Builds {
				b := &live.Builds[i]
				h.ids[b.BuildID] = true
				f.add(f.from(b.BuildID, b.LastEventID))
			}
			if before = live.Next; before == "" {
				break
			}
		}
	}
	return h, nil
}

// livePhases gives those of builds that go on, in the order that builds go through them.
func livePhases(yield func(buildcast.Phase) bool) {
	_ = yield(buildcast.Queued) && yield(buildcast.Planning) && yield(buildcast.Executing) && yield(buildcast.Deploying)
}

// from is where a build that is there already is followed from.
func (f *forwarder) from(id string, last int64) start {
	if f.replay {
		last = 0
	}
	return start{id, last}
}

// add has the build followed when it is its turn. The log of operations is sent
// to nobody who does not name it.
func (f *forwarder) add(s start) {
	if s.id == buildcast.OperationsBuild {
		return
	}
	for _, w := range f.waiting {
		if w.id == s.id {
			return
		}
	}
	if len(f.waiting) == maxWaiting {
		f.note("Build %s is not followed: %d builds wait already. To follow it, use --build.", s.id, maxWaiting)
		return
	}
	f.waiting = append(f.waiting, s)
}

// startWaiting follows as many builds as there is room for, and makes room for
// the others. Those that wait lose nothing: their events are in the log.
func (f *forwarder) startWaiting(ctx context.Context) {
	f.mu.Lock()
	for _, s := range f.back {
		f.add(s)
	}
	f.back = nil
	f.mu.Unlock()
	for len(f.waiting) > 0 {
		s := f.waiting[0]
		if !f.group.TryGo(func() error { return f.take(ctx, s) }) {
			f.endTurns(len(f.waiting))
			if !f.crowded {
				f.crowded = true
				f.note("More than %d builds are running: they are followed in turns.", maxFollowed)
			}
			return
		}
		f.waiting = f.waiting[1:]
	}
}

// endTurns makes room for n builds where others are silent.
func (f *forwarder) endTurns(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.turns {
		if n > 0 && time.Since(t.heard) >= idleTurn {
			t.end(errTurnOver)
			n--
		}
	}
}

// take is a build's turn.
func (f *forwarder) take(ctx context.Context, s start) error {
	turnCtx, end := context.WithCancelCause(ctx)
	defer end(nil)
	t := &turn{time.Now(), end}
	f.mu.Lock()
	f.turns[s.id] = t
	f.mu.Unlock()
	after, err := f.follow(ctx, turnCtx, s, func() {
		f.mu.Lock()
		t.heard = time.Now()
		f.mu.Unlock()
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.turns, s.id)
	if errors.Is(err, errTurnOver) {
		f.back = append(f.back, start{s.id, after})
		return nil
	}
	return err
}

// follow posts a build's events to its end, or that of the turn, and gives the
// last one that was posted. An event is posted to its end even then.
func (f *forwarder) follow(ctx, turn context.Context, s start, heard func()) (after int64, err error) {
	after = s.after
	for e, err := range f.builds.Follow(turn, s.id, s.after) {
		switch code := buildcast.CodeOf(err); {
		case code == buildcast.NotFound || code == buildcast.CursorAhead:
			f.note("Build %s was deleted.", s.id)
			return after, nil
		case err != nil:
			return after, fmt.Errorf("build %s: %w", s.id, err)
		}
		heard()
		if f.matches(e.Type) {
			if err := f.post(ctx, &e); err != nil {
				return after, err
			}
		}
		after = e.ID
	}
	return after, nil
}

// maxPages bounds how far back one look goes.
const maxPages = 10

// horizon is what the list of builds was when it was last looked at.
type horizon struct {
	looked bool
	ids    map[string]bool
	// since is when the oldest build in the list was created, where there are more
	// behind it: what is older is not new, though it was not seen.
	since time.Time
}

// look gives the builds that are new in the list, the oldest first. They may be
// over already. The first look finds none.
func (h *horizon) look(ctx context.Context, list func(context.Context, client.Filter) (client.Page, error)) (found []string, err error) {
	ids, before, last := map[string]bool{}, "", time.Time{}
	for range maxPages {
		page, err := list(ctx, client.Filter{Limit: verb.PageSize, Before: before})
		if err != nil {
			return nil, err
		}
		known := !h.looked
		for i := range page.Builds {
			id := page.Builds[i].BuildID
			ids[id], last = true, page.Builds[i].CreatedAt.Std()
			if h.ids[id] || last.Before(h.since) {
				known = true
			} else if h.looked {
				found = append([]string{id}, found...)
			}
		}
		if before = page.Next; before == "" || known {
			break
		}
	}
	h.ids, h.looked = ids, true
	if before != "" && last.After(h.since) {
		h.since = last
	}
	return found, nil
}
