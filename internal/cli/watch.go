package cli

import (
	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

type watchCmd struct {
	ID string `arg:"" placeholder:"ID" help:"The build's id."`
	verb.Connection
	JSON  bool  `name:"json" help:"Print each event as a line of JSON, and nothing else, on stdout."`
	After int64 `placeholder:"N" help:"Print only events with an id greater than N. Default: all."`
}

// Help is shown below the summary.
func (watchCmd) Help() string {
	return `
Examples:

    buildcast watch 01JD8Y6V9S3P4ZK0GQ2M5T7XWA
    buildcast watch nightly --json --after 120 >> events.ndjson

It may begin before the build does, and goes on through restarts of the server.
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
	if _, err := c.Status(ctx, w.ID); buildcast.CodeOf(err) == buildcast.NotFound {
		s.Note("There is no build %s yet; waiting for its first event.", w.ID)
	} else if err != nil {
		return err
	}
	state, err := f.follow(ctx, c, w.ID, w.After)
	if ctx.Err() != nil {
		return &verb.ExitError{Code: verb.ExitCancelled}
	}
	return verdict(state, err)
}
