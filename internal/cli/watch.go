package cli

import (
	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

type watchCmd struct {
	ID string `arg:"" placeholder:"ID" help:"The build's id."`
	verb.Connection
	JSON  bool   `name:"json" help:"Print each event as a line of JSON, and nothing else, on stdout."`
	After int64  `placeholder:"N" xor:"from" help:"Print only events with an id greater than N. Default: all."`
	From  string `placeholder:"latest" xor:"from" help:"latest: print only events that are appended from now on."`
	Tail  int64  `placeholder:"N" xor:"from" help:"Print the last N events, 1000 at most, and those that follow."`
}

// Help returns the text below the summary in the verb's help.
func (watchCmd) Help() string {
	return `
Examples:

    buildcast watch 01JD8Y6V9S3P4ZK0GQ2M5T7XWA
    buildcast watch nightly --json --after 120 >> events.ndjson
    buildcast watch nightly --tail 20

If there is no such build yet, it says so and waits for the build's first event.
It goes on through restarts of the server.

Exit codes: 0 completed; 1 failed; 130 cancelled, or left with Ctrl-C.`
}

func (w *watchCmd) Run(s *verb.Session) error {
	ctx, stop := s.UntilInterrupted()
	defer stop()
	f := newFollower(s, w.JSON)
	c, _, err := w.Find(ctx, f.option())
	if err != nil {
		return err
	}
	status, err := c.Status(ctx, w.ID)
	if buildcast.CodeOf(err) == buildcast.NotFound {
		s.Note("No such build yet: %s. Waiting for its first event; Ctrl-C ends the wait.", w.ID)
		f.absent = true
	} else if err != nil {
		return err
	}
	state, err := f.follow(ctx, c, w.ID, w.after(status))
	if ctx.Err() != nil {
		return &verb.ExitError{Code: verb.ExitCancelled}
	}
	return verdict(state, err)
}

// after is the id of the last event that is not printed. The status is the zero one
// if there is no build yet.
func (w *watchCmd) after(status buildcast.Status) int64 {
	start := buildcast.Start{Latest: w.From == "latest", Tail: w.Tail}
	if !start.Latest && start.Tail == 0 {
		return w.After // the server says if there is no such place
	}
	after, _ := start.Within(max(status.FirstEventID, 1), status.LastEventID) // the latest and a tail are always there
	return after
}

// Validate checks the flags' values.
func (w *watchCmd) Validate() error {
	if w.Tail < 0 || w.Tail > buildcast.MaxTail {
		return buildcast.Errorf(buildcast.InvalidArgument, "--tail is %d: use a number from 1 to %d", w.Tail, buildcast.MaxTail)
	}
	if w.From != "" && w.From != "latest" {
		return buildcast.Errorf(buildcast.InvalidArgument, "--from is %.40q: use latest, or --after or --tail with a number", w.From)
	}
	return nil
}
