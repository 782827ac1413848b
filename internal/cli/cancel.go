package cli

import "github.com/buildcast/buildcast"

type cancelCmd struct {
	ID string `arg:"" placeholder:"ID" help:"The build's id."`
	remote
	local
}

// Help is shown below the summary.
func (cancelCmd) Help() string {
	return `
Examples:

    buildcast cancel 01JD8Y6V9S3P4ZK0GQ2M5T7XWA

What the build runs is stopped. A build that is over stays as it is, which is no
error if it was cancelled before.`
}

func (c *cancelCmd) Run(s *session) error {
	ctx, stop := s.untilInterrupted()
	defer stop()
	cl, _, err := c.find(ctx, c.local)
	if err != nil {
		return err
	}
	st, err := cl.Cancel(ctx, c.ID)
	if err != nil {
		return err
	}
	if st.Phase != buildcast.Cancelled {
		return buildcast.Errorf(buildcast.Conflict, "build %s is over already: it %s", c.ID, st.Phase)
	}
	s.print("%s cancelled", c.ID)
	return nil
}
