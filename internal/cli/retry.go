package cli

import (
	"context"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

type retryCmd struct {
	ID   string `arg:"" placeholder:"ID" help:"The finished build's id."`
	From string `enum:"failed,start" default:"failed" placeholder:"WHERE" help:"failed: what the build completed is taken over; start: everything runs again."`
	Queued
}

// Help returns the text below the summary in the verb's help.
func (retryCmd) Help() string {
	return `
Examples:

    buildcast retry 01JD8Y6V9S3P4ZK0GQ2M5T7XWA
    buildcast retry 01JD8Y6V9S3P4ZK0GQ2M5T7XWA --from start --detach

The retry is a new build with the plan of the old one. It takes over the tasks and
stages that the old build has completed, if its workspace is still there, and runs
the rest. Workspaces of failed builds are kept for the server's --keep-failed.

It runs where "buildcast build" would, and has its exit codes.`
}

func (r *retryCmd) Run(s *verb.Session) error {
	if err := buildcast.ValidateBuildID(r.ID); err != nil {
		return &verb.ExitError{Code: verb.ExitUsage, Err: err}
	}
	return r.run(s, func(ctx context.Context, c *client.Client) (buildcast.Build, error) {
		return c.Retry(ctx, r.ID, client.Retry{From: r.From})
	})
}
