package cli

import (
	"context"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

type cancelCmd struct {
	ID string `arg:"" placeholder:"ID" help:"The build's id."`
	verb.Connection
}

// Help returns the text below the summary in the verb's help.
func (cancelCmd) Help() string {
	return `
Examples:

    buildcast cancel 01JD8Y6V9S3P4ZK0GQ2M5T7XWA

The build's running commands are stopped. A build that is over stays as it is; that
is an error unless it was cancelled.`
}

func (c *cancelCmd) Run(s *verb.Session) error {
	return c.With(s, func(ctx context.Context, cl *client.Client) error {
		st, err := cl.Cancel(ctx, c.ID)
		if err != nil {
			return err
		}
		if st.Phase != buildcast.Cancelled {
			return buildcast.Errorf(buildcast.Conflict, "build %s is over already: it %s", c.ID, st.Phase)
		}
		s.Print("%s cancelled", c.ID)
		return nil
	})
}
