package cli

import (
	"context"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

type deleteCmd struct {
	IDs []string `arg:"" name:"id" placeholder:"ID" help:"The builds' ids."`
	verb.Connection
}

// Help returns the text below the summary in the verb's help.
func (deleteCmd) Help() string {
	return `
Examples:

    buildcast delete 01JD8Y6V9S3P4ZK0GQ2M5T7XWA
    buildcast list --status failed --json | jq -r .buildId | xargs buildcast delete

Only finished builds can be deleted: cancel a running one first.`
}

func (d *deleteCmd) Run(s *verb.Session) error {
	return d.With(s, func(ctx context.Context, c *client.Client) error {
		for _, id := range d.IDs {
			err := c.Delete(ctx, id)
			if buildcast.CodeOf(err) == buildcast.NotFinished {
				return buildcast.Errorf(buildcast.NotFinished, "build %s is not finished: `buildcast cancel %s` first", id, id)
			}
			if err != nil {
				return err
			}
			s.Print("%s deleted", id)
		}
		return nil
	})
}
