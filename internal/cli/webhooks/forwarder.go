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
	maxFollowed = 50 // builds followed at once; each needs a stream
	maxWaiting  = 1000
	// lookAround is the time between two looks for new builds.
	lookAround = time.Second
	// idleTurn is how long a build may be silent before it makes room for one that waits.
	idleTurn = 10 * time.Second
)

// errTurnOver ends the turn of a build without recent events.
var errTurnOver = errors.New("another build waits for its turn")

// forwarder posts the events of builds, those of one build in order.
type forwarder struct {
	builds interface {
		Builds(ctx context.Context, f client.Filter) (client.Page, error)
		Status(ctx context.Context, id string) (buildcast.Status, error)
		Follow(ctx context.Context, id string, after int64) iter.Seq2[buildcast.Event, error]
	}
	replay  bool // whether stored events are posted too
	matches func(eventType string) bool
	post    func(ctx context.Context, e *buildcast.Event) error
	link    *slog.Logger // gets a warning when the server does not answer, and a line when it does again
	note    func(format string, args ...any)

	group   *errgroup.Group
	waiting []start // builds that wait for their turn; the first one has waited longest
	crowded bool    // whether a note has said that builds take turns

	mu    sync.Mutex
	turns map[string]*turn
	back  []start // builds whose turn was ended
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

// named forwards the events of these builds until all of them are over.
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

// all forwards the events of builds that are running or begin later, until ctx ends.
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
		case <-ctx.Done(): // following a build failed, or the caller ended it
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

// begin adds the builds that are running, and returns the list as it is now.
func (f *forwarder) begin(ctx context.Context) (*horizon, error) {
	// The list is read first, so that the next look finds builds that begin meanwhile.
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

// livePhases yields the phases of running builds, in the order that builds go through
// them: a build that moves on between two requests is not missed.
func livePhases(yield func(buildcast.Phase) bool) {
	_ = yield(buildcast.Queued) && yield(buildcast.Planning) && yield(buildcast.Executing) && yield(buildcast.Deploying)
}

// from returns where to begin with a build that exists already.
func (f *forwarder) from(id string, last int64) start {
	if f.replay {
		last = 0
	}
	return start{id, last}
}

// add queues the build to be followed. The log of operations is forwarded only if it
// is named.
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

// startWaiting starts to follow as many builds as fit, and ends turns to make room
// for the others. Builds that wait lose nothing: their events are in the log.
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

// endTurns ends the turns of up to n builds without recent events.
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

// take follows a build for one turn.
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

// follow posts a build's events until the build or the turn ends. It returns the id
// of the last event that it is done with. The end of a turn does not interrupt a post.
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

// horizon is the list of builds as the last look saw it.
type horizon struct {
	looked bool
	ids    map[string]bool
	// since is when the oldest build that the last look saw was created, if it did not
	// see all. An older build is not new, although it was not seen.
	since time.Time
}

// look returns the builds that are new in the list, the oldest first; some may be
// over already. The first look returns none.
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
