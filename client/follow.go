package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/backoff"
)

const (
	followWait  = 25 * time.Second // how long a poll waits for events
	followLimit = 1000             // events of one answer
	// frame is how far polls of a busy build are apart: events of one frame come together.
	frame = 50 * time.Millisecond
	// idle is how far empty answers are apart where the server, or a proxy, does not wait.
	idle = time.Second
	// maxDefects is how many answers in a row may be wrong before that is an error.
	maxDefects = 10

	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// FollowOptions say where to begin, and who is told of gaps.
type FollowOptions struct {
	// Start is where to begin; default: with the first event that is kept.
	Start buildcast.Start
	// Gap is told that the events from one id to another are no longer kept: the
	// log was cut before they were given. What follows begins after them. Default:
	// the client's logger is told.
	Gap func(from, to int64)
}

// Follow returns the build's events with an id greater than after, each once, in
// order and without a gap, as they come. It ends when the build is finished and
// all that is stored has been given. A build that does not exist yet is waited
// for. If the log is cut before the cursor, Follow goes on with the first event
// that is kept; FollowFrom tells its caller what was missed.
//
// The events come over a stream (server-sent events), and by long polls where a
// proxy holds streams back or there are none; streams are tried again later. Lost
// connections, restarts and an absent server cost time only: it goes on from the
// last event that it gave. An error comes once, as the last: ctx has ended, or
// the server will not give the events (Unauthenticated with a wrong key, or a
// code of its own such as token_expired; CursorAhead if the log ends before
// after; NotFound if the build is deleted meanwhile; Internal after ten wrong
// answers in a row).
//
//	for event, err := range c.Follow(ctx, buildID, 0) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(event.Progress, event.Type)
//	}
func (c *Client) Follow(ctx context.Context, buildID string, after int64) iter.Seq2[buildcast.Event, error] {
	return c.FollowFrom(ctx, buildID, FollowOptions{Start: buildcast.Start{After: after}})
}

// FollowFrom is Follow with options.
func (c *Client) FollowFrom(ctx context.Context, buildID string, o FollowOptions) iter.Seq2[buildcast.Event, error] {
	return func(yield func(buildcast.Event, error) bool) {
		f := newFollower(buildID, o.Start.After, c.logger)
		if o.Gap != nil {
			f.gap = o.Gap
		}
		source := &feed{
			open: func(ctx context.Context, after int64) (*stream, error) { return c.stream(ctx, buildID, after) },
			poll: func(ctx context.Context, after int64, wait time.Duration) (Poll, error) {
				return c.Events(ctx, buildID, after, followLimit, wait)
			},
			logger: c.logger,
		}
		defer source.close()
		f.poll = source.next
		f.ask = func(ctx context.Context) (buildcast.Status, error) { return c.Status(ctx, buildID) }
		if o.Start.Latest || o.Start.Tail > 0 {
			if err := f.retry(ctx, func() error { return f.find(ctx, c, o.Start) }); err != nil {
				yield(buildcast.Event{}, err)
				return
			}
		}
		f.run(ctx, yield)
	}
}

// follower is one cursor over one log, and the fold that knows its end.
type follower struct {
	buildID string
	// poll returns what comes after a cursor, and waits for it: a feed does.
	poll   func(ctx context.Context, after int64, wait time.Duration) (Poll, error)
	ask    func(ctx context.Context) (buildcast.Status, error)
	gap    func(from, to int64) // is told what is missed
	logger *slog.Logger

	cursor int64 // the last event that was given
	// status is the fold of the log up to the cursor, or beyond it.
	status buildcast.Status
	folded bool // status is true: not so at first where the cursor begins inside the log
}

func newFollower(buildID string, after int64, logger *slog.Logger) *follower {
	return &follower{
		buildID: buildID, cursor: after, logger: logger, folded: after == 0,
		status: buildcast.NewStatus(buildID, "", buildcast.Time{}),
		gap: func(from, to int64) {
			logger.Warn("events are no longer kept", "build", buildID, "from", from, "to", to)
		},
	}
}

// find asks where the cursor begins.
func (f *follower) find(ctx context.Context, c *Client, start buildcast.Start) error {
	p, err := c.EventsFrom(ctx, f.buildID, start, 1, 0)
	if err != nil {
		return err
	}
	after := p.LastEventID
	if len(p.Events) > 0 {
		after = p.Events[0].ID - 1
	}
	f.begin(after)
	return nil
}

// begin puts the cursor where the log begins for it. Its fold does not know what
// comes before.
func (f *follower) begin(after int64) { f.cursor, f.folded = after, after == 0 }

func (f *follower) run(ctx context.Context, yield func(buildcast.Event, error) bool) {
	for {
		began := time.Now()
		var events []buildcast.Event
		var more bool
		err := f.retry(ctx, func() (err error) {
			events, more, err = f.read(ctx)
			return err
		})
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
		if more {
			continue
		}
		waited := f.folded
		// An empty answer after a long wait is the time to hear from the server
		// what this client's fold may not know.
		if err == nil && !f.over() && (len(events) == 0 || !f.folded) {
			err = f.retry(ctx, func() error { return f.refresh(ctx) })
		}
		if err != nil {
			yield(buildcast.Event{}, err)
			return
		}
		if f.over() {
			return
		}
		if waited {
			backoff.Pause(ctx, time.Until(began.Add(apart(events))))
		}
	}
}

// apart is the least time from one poll to the next.
func apart(events []buildcast.Event) time.Duration {
	if len(events) == 0 {
		return idle
	}
	return frame
}

// over reports whether the build is finished and its events have been given, as
// far as an answer that has no more knows.
func (f *follower) over() bool {
	return f.folded && f.status.Phase.Terminal() && f.cursor >= f.status.LastEventID
}

// read polls once, and moves the cursor over the events that it returns.
func (f *follower) read(ctx context.Context) (events []buildcast.Event, more bool, err error) {
	wait := followWait
	if !f.folded {
		wait = 0 // the build may be finished
	}
	p, err := f.poll(ctx, f.cursor, wait)
	if e, ok := errors.AsType[*buildcast.CursorError](err); ok && buildcast.CodeOf(err) == buildcast.CursorGone && e.FirstEventID > f.cursor+1 {
		f.gap(f.cursor+1, e.FirstEventID-1)
		f.begin(e.FirstEventID - 1)
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	if f.cursor == 0 && p.FirstEventID > 1 { // who has seen nothing has no gap
		f.begin(p.FirstEventID - 1)
	}
	events = f.accept(p.Events)
	if len(events) == 0 && (len(p.Events) > 0 || p.HasMore) {
		return nil, false, buildcast.Errorf(buildcast.Internal, "event %d of build %s is missing in the server's answer", f.cursor+1, f.buildID)
	}
	return events, p.HasMore || events != nil && events[len(events)-1].ID < p.LastEventID, nil
}

// accept takes the events that follow the cursor without a gap, and passes over
// those that were given already. What lies beyond a gap is read again.
func (f *follower) accept(events []buildcast.Event) []buildcast.Event {
	var next []buildcast.Event
	for _, e := range events {
		if e.BuildID != f.buildID || e.ID > f.cursor+1 {
			break
		}
		if e.ID <= f.cursor {
			continue
		}
		f.cursor = e.ID
		if f.folded && e.ID > f.status.LastEventID {
			folded := e // Apply sets the progress; the server's own is given
			f.status.Apply(&folded)
		}
		next = append(next, e)
	}
	return next
}

// refresh takes the server's fold in place of the own one.
func (f *follower) refresh(ctx context.Context) error {
	s, err := f.ask(ctx)
	switch {
	case buildcast.CodeOf(err) == buildcast.NotFound && f.cursor == 0:
		return nil // it is not there yet
	case err != nil:
		return err
	case s.LastEventID < f.cursor:
		return buildcast.Errorf(buildcast.Internal, "the status of build %s is from before event %d", f.buildID, f.cursor)
	}
	f.status, f.folded = s, true
	return nil
}

// retry calls until there is no error, or one that stays.
func (f *follower) retry(ctx context.Context, call func() error) error {
	retry := backoff.Backoff{Min: minBackoff, Max: maxBackoff}
	for defects := 0; ; {
		err := call()
		switch {
		case err == nil:
			if retry.Failures() > 0 {
				f.logger.Info("following again", "build", f.buildID, "after", f.cursor)
			}
			return nil
		case ctx.Err() != nil:
			return f.ended(ctx, err)
		case !mayPass(err):
			return err
		}
		if defects++; buildcast.Temporary(err) {
			defects = 0
		}
		if defects == maxDefects {
			return err
		}
		if retry.Failures() == 0 {
			f.logger.Warn("following is interrupted", "build", f.buildID, "after", f.cursor, "error", err)
		}
		retry.Wait(ctx, err)
		if ctx.Err() != nil {
			return f.ended(ctx, err)
		}
	}
}

// mayPass reports whether the same request is worth repeating: a defect may be a
// proxy's, or gone with the server's next start.
func mayPass(err error) bool {
	return buildcast.Temporary(err) || buildcast.CodeOf(err) == buildcast.Internal
}

// ended is ctx's error, with the failure that kept the caller waiting.
func (f *follower) ended(ctx context.Context, last error) error {
	cause := context.Cause(ctx)
	if errors.Is(last, cause) {
		last = nil
	}
	if last == nil {
		return fmt.Errorf("following build %s after event %d: %w", f.buildID, f.cursor, cause)
	}
	return fmt.Errorf("following build %s after event %d: %w; the last attempt failed: %w", f.buildID, f.cursor, cause, last)
}
