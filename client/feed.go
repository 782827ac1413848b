package client

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/backoff"
)

const (
	// maxStrikes is how many streams in a row may fail, while polls get through,
	// before only polls are made for a while.
	maxStrikes = 3
	// minPolls and maxPolls are how long such a while is: each is twice the one before.
	minPolls = time.Minute
	maxPolls = 16 * time.Minute
	// lived is how long a stream must have lasted not to have failed, where no
	// event came: two heartbeats.
	lived = 30 * time.Second
)

// feed returns the events after a cursor to a follower: over a stream, and by long
// polls where streams do not get through. A stream that fails is followed by a
// poll, which tells whose fault it is: the stream's where the poll is answered,
// else the server's or the network's. So the errors that it returns are polls'.
type feed struct {
	open   func(ctx context.Context, after int64) (*stream, error)
	poll   func(ctx context.Context, after int64, wait time.Duration) (Poll, error)
	logger *slog.Logger

	stream *stream   // nil: none is open
	reopen time.Time // the next stream is not opened before
	doubt  error     // why the last stream failed, while no poll has been answered since

	strikes int
	polls   time.Time     // until then there are only polls
	spell   time.Duration // how long the last while of polls was
}

// next returns what comes after the cursor. It waits for it: as long as wait says
// in polls, for ever on a stream. A wait of 0 is always a poll. The stream lives
// on after the call, so ctx must be the same in each.
func (f *feed) next(ctx context.Context, after int64, wait time.Duration) (Poll, error) {
	if f.doubt == nil && wait > 0 && !time.Now().Before(f.polls) {
		p, err := f.read(ctx, after)
		if err == nil || ctx.Err() != nil {
			return p, err
		}
		f.doubt = err
	}
	if f.doubt != nil {
		wait = 0 // it is only to find out: then the next stream can be tried
	}
	p, err := f.poll(ctx, after, wait)
	switch {
	case buildcast.CodeOf(err) == buildcast.CursorGone:
		f.doubt = nil // that was the cursor's fault, not the stream's
	case err == nil && f.doubt != nil:
		f.strike(f.doubt)
		f.doubt = nil
	}
	return p, err
}

// read returns the next events of the stream. There may be more, until the stream
// has said that it is over. It opens a stream if none is open, or if one
// broke that was good.
func (f *feed) read(ctx context.Context, after int64) (Poll, error) {
	for {
		if f.stream != nil && f.stream.last != after {
			f.close()
		}
		if f.stream == nil {
			backoff.Pause(ctx, time.Until(f.reopen))
			s, err := f.open(ctx, after)
			if errors.Is(err, errOver) {
				return Poll{LastEventID: after}, nil
			}
			if err != nil {
				return Poll{}, err
			}
			f.stream = s
		}
		s := f.stream
		events, err := s.next()
		good := s.gave || time.Since(s.began) >= lived
		if good {
			f.strikes, f.spell = 0, 0
		}
		if err != nil {
			f.close()
			f.reopen = time.Now().Add(pauseAfter(s, err))
		}
		switch {
		case len(events) > 0:
			return Poll{Events: events, FirstEventID: s.first, LastEventID: s.last, HasMore: !errors.Is(err, errOver)}, nil
		case errors.Is(err, errOver):
			return Poll{LastEventID: after}, nil
		case ctx.Err() != nil || !good || errors.Is(err, errDefect):
			return Poll{}, err
		}
	}
}

// pauseAfter is how long to wait before the next stream. A server that stops ends
// all its streams at once, and has told each how long to stay away.
func pauseAfter(s *stream, err error) time.Duration {
	d := minBackoff
	if errors.Is(err, errEnded) {
		d = min(max(d, s.parser.retry), maxBackoff)
	}
	return d/2 + rand.N(d/2) //nolint:gosec // spreads load, guards nothing
}

// strike counts a stream that failed while a poll was answered. What is sure to
// fail again is not tried three times.
func (f *feed) strike(err error) {
	f.strikes++
	_, other := errors.AsType[*noStream](err)
	refused := isAnswer(err) && !mayPass(err)
	if f.strikes < maxStrikes && !other && !refused && !errors.Is(err, errSilent) {
		return
	}
	f.strikes = 0
	f.spell = min(max(2*f.spell, minPolls), maxPolls)
	f.polls = time.Now().Add(f.spell + rand.N(f.spell/4)) //nolint:gosec // as above
	f.logger.Info("following by polls: streams do not get through", "for", f.spell, "reason", err)
}

// close ends the stream, if there is one.
func (f *feed) close() {
	if f.stream != nil {
		f.stream.close()
		f.stream = nil
	}
}
