package cli

import (
	"bufio"
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/progress"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

// redraw is the shortest time between two frames on a terminal.
const redraw = 100 * time.Millisecond

// display shows a build's events as they come.
type display interface {
	event(e buildcast.Event, s *progress.State, rows []progress.Line) error
	// tick is called every redraw, and when the terminal's size changes.
	tick(s *progress.State) error
	// end is called last, with the state at the build's end, or when watching ended.
	end(s *progress.State) error
}

// follower shows one build.
type follower struct {
	show   display
	asJSON bool
	link   *verb.Link
	absent bool // whether the server knows no such build yet
	note   func(format string, args ...any)
}

// newFollower returns a follower with the display that fits stdout. The client that
// is given to follow must have the follower's option.
func newFollower(s *verb.Session, asJSON bool) *follower {
	f := &follower{asJSON: asJSON, link: s.NewLink(), note: s.Note}
	switch {
	case asJSON:
		f.show = &jsonDisplay{out: bufio.NewWriter(s.Stdout)}
	case verb.IsTerminal(s.Stdout):
		f.link.Changed = nil // the display reads Lost
		f.show = &screenDisplay{out: s.Stdout, screen: progress.NewScreen(s.Stdout), link: f.link}
	default:
		f.show = &plainDisplay{out: bufio.NewWriter(s.Stdout)}
	}
	return f
}

func (f *follower) option() client.Option { return client.Logger(f.link.Logger()) }

// follow shows the build's events after an id until the build is over or ctx ends.
// It returns the state that the events lead to.
func (f *follower) follow(ctx context.Context, c *client.Client, id string, after int64) (*progress.State, error) {
	from := int64(0)
	if f.asJSON {
		from = after // only the display for people needs the events before
	}
	state := &progress.State{Absent: f.absent}
	events := make(chan buildcast.Event)
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(events)
		gap := func(first, last int64) { f.note("Events %d to %d of build %s are no longer kept.", first, last, id) }
		for e, err := range c.FollowFrom(gctx, id, client.FollowOptions{Start: buildcast.Start{After: from}, Gap: gap}) {
			if err != nil {
				return err
			}
			select {
			case events <- e:
			case <-gctx.Done():
				return context.Cause(gctx)
			}
		}
		return nil
	})
	group.Go(func() error {
		return draw(f.show, state, events, after)
	})
	err := group.Wait()
	if endErr := f.show.end(state); err == nil {
		err = endErr
	}
	if err != nil {
		return state, err
	}
	if !state.Status.Phase.Terminal() { // all events of the end were skipped
		state.Status, err = c.Status(ctx, id)
	}
	return state, err
}

// draw shows events as they come. Only its goroutine draws.
func draw(show display, state *progress.State, events <-chan buildcast.Event, after int64) error {
	clock := time.NewTicker(redraw)
	defer clock.Stop()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return nil
			}
			rows := state.Apply(e)
			if e.ID <= after {
				continue
			}
			if err := show.event(e, state, rows); err != nil {
				return err
			}
			continue
		case <-clock.C:
		case <-resized:
		}
		if err := show.tick(state); err != nil {
			return err
		}
	}
}

// jsonDisplay prints each event as one line of JSON, and nothing else.
type jsonDisplay struct{ out *bufio.Writer }

func (d *jsonDisplay) event(e buildcast.Event, _ *progress.State, _ []progress.Line) error {
	if _, err := d.out.Write(append(e.AppendJSON(nil), '\n')); err != nil {
		return err
	}
	return d.out.Flush()
}

func (d *jsonDisplay) tick(*progress.State) error { return nil }
func (d *jsonDisplay) end(*progress.State) error  { return d.out.Flush() }

// plainDisplay prints lines, for a pipe or a log file.
type plainDisplay struct{ out *bufio.Writer }

func (d *plainDisplay) event(e buildcast.Event, s *progress.State, _ []progress.Line) error {
	for _, line := range s.Lines(e) {
		if _, err := d.out.WriteString(line + "\n"); err != nil {
			return err
		}
	}
	return d.out.Flush()
}

func (d *plainDisplay) tick(*progress.State) error { return nil }

func (d *plainDisplay) end(s *progress.State) error {
	for _, row := range s.Result() {
		if _, err := d.out.WriteString(progress.Look{}.Whole(row) + "\n"); err != nil {
			return err
		}
	}
	return d.out.Flush()
}

// screenDisplay is the live display of a terminal.
type screenDisplay struct {
	out    *os.File
	screen *progress.Screen
	link   *verb.Link
	rows   []progress.Line // to be printed with the next frame
}

func (d *screenDisplay) event(_ buildcast.Event, _ *progress.State, rows []progress.Line) error {
	d.rows = append(d.rows, rows...)
	return nil
}

func (d *screenDisplay) tick(s *progress.State) error {
	k := verb.Look(d.out)
	s.Notice = ""
	if d.link.Lost() {
		s.Notice = "The server does not answer; trying again"
	}
	return d.screen.Draw(d.take(k), s.Frame(k, time.Now()), k.Width)
}

func (d *screenDisplay) end(s *progress.State) error {
	k := verb.Look(d.out)
	rows := d.take(k)
	if result := s.Result(); len(result) > 0 {
		rows = append(rows, "")
		for _, row := range result {
			rows = append(rows, k.Whole(row))
		}
	}
	return d.screen.Close(rows, k.Width)
}

func (d *screenDisplay) take(k progress.Look) []string {
	out := make([]string, len(d.rows))
	for i, row := range d.rows {
		out[i] = k.Render(row)
	}
	d.rows = nil
	return out
}
