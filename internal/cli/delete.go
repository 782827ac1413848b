package cli

import "github.com/buildcast/buildcast"

type deleteCmd struct {
	IDs []string `arg:"" name:"id" placeholder:"ID" help:"The builds' ids."`
	remote
	local
}

// Help is shown below the summary.
func (deleteCmd) Help() string {
	return `
Examples:

    buildcast delete 01JD8Y6V9S3P4ZK0GQ2M5T7XWA
    buildcast list --status failed --json | jq -r .buildId | xargs buildcast delete

Only finished builds can be deleted: cancel a running one first.`
}

func (d *deleteCmd) Run(s *session) error {
	ctx, stop := s.untilInterrupted()
	defer stop()
	c, _, err := d.find(ctx, d.local)
	if err != nil {
		return err
	}
	for _, id := range d.IDs {
		if err := c.Delete(ctx, id); err != nil {
			if buildcast.CodeOf(err) == buildcast.NotFinished {
				return buildcast.Errorf(buildcast.NotFinished, "build %s is not finished: `buildcast cancel %s` first", id, id)
			}
			return err
		}
		s.print("%s deleted", id)
	}
	return nil
}
