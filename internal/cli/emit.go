package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

type emitCmd struct {
	ID   string `arg:"" placeholder:"ID" help:"The build's id. An unknown id creates a build that you report yourself."`
	Type string `arg:"" placeholder:"TYPE" help:"The event's type, such as task_started."`
	Data string `arg:"" optional:"" placeholder:"JSON" help:"The event's data. - reads it from stdin. Default: {}."`
	verb.Connection
	Key string `placeholder:"KEY" help:"Makes it safe to repeat the command: for a key that the build has already, nothing is appended and the id of the stored event is printed."`
}

// Help returns the text below the summary in the verb's help.
func (emitCmd) Help() string {
	return `
Examples:

    buildcast emit nightly task_started '{"taskName": "Compile"}'
    buildcast emit nightly crawl.page '{"message": "page 3 of 7", "progress": 42}'
    buildcast emit nightly report - < report.json

It prints the event's id once the event is stored.`
}

func (e *emitCmd) Run(s *verb.Session) error {
	data := []byte(e.Data)
	if e.Data == "-" {
		var err error
		// One byte more than the limit, so that the check below finds data that is too large.
		if data, err = io.ReadAll(io.LimitReader(s.Stdin, buildcast.MaxEventData+1)); err != nil {
			return fmt.Errorf("reading the data from stdin: %w", err)
		}
	}
	event := buildcast.NewEvent{Type: e.Type, Data: json.RawMessage(data), Key: e.Key}
	for _, err := range []error{buildcast.ValidateBuildID(e.ID), event.Validate()} {
		if err != nil {
			return &verb.ExitError{Code: verb.ExitUsage, Err: err}
		}
	}
	return e.With(s, func(ctx context.Context, c *client.Client) error {
		ids, err := c.Append(ctx, e.ID, event)
		if err != nil {
			return err
		}
		s.Print("%d", ids[0])
		return nil
	})
}
