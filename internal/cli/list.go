package cli

import (
	"fmt"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/progress"
)

type listCmd struct {
	remote
	local
	Status  string `enum:",queued,planning,executing,deploying,completed,failed,cancelled" default:"" placeholder:"STATUS" help:"Only builds with this status: queued, planning, executing, deploying, completed, failed or cancelled."`
	Project string `placeholder:"NAME" help:"Only builds of this project."`
	Limit   int    `default:"20" placeholder:"N" help:"At most so many builds, 1 to 10000."`
	JSON    bool   `name:"json" help:"Print each build's status as a line of JSON."`
}

// Help is shown below the summary.
func (listCmd) Help() string {
	return `
Examples:

    buildcast list
    buildcast list --status failed --project docs
    buildcast list --json --limit 1000 | jq -r .previewUrl`
}

// pageSize is how many builds are asked for at once.
const pageSize = 100

func (l *listCmd) Run(s *session) error {
	if l.Limit < 1 || l.Limit > 10_000 {
		return &exitError{exitUsage, fmt.Errorf("--limit is %d: use 1 to 10000", l.Limit)}
	}
	ctx, stop := s.untilInterrupted()
	defer stop()
	c, _, err := l.find(ctx, l.local)
	if err != nil {
		return err
	}
	var all []buildcast.Status
	more := true
	for before := ""; more && len(all) < l.Limit; {
		page, err := c.Builds(ctx, client.Filter{
			Phase: buildcast.Phase(l.Status), Project: l.Project, Before: before, Limit: min(l.Limit-len(all), pageSize),
		})
		if err != nil {
			return err
		}
		all, before, more = append(all, page.Builds...), page.Next, page.Next != ""
	}
	if l.JSON {
		return s.printJSON(items(all)...)
	}
	if len(all) == 0 {
		s.note("%s", l.empty())
		return nil
	}
	s.table(buildRows(all, time.Now()))
	if more {
		s.note("There are more: list them with --limit %d.", min(10*l.Limit, 10_000))
	}
	return nil
}

func (l *listCmd) empty() string {
	if l.Status != "" || l.Project != "" {
		return "No build is like that. `buildcast list` shows all."
	}
	return "No builds yet. Run one: buildcast build examples/hello-site/plan.yaml"
}

func items(all []buildcast.Status) (v []any) {
	for i := range all {
		v = append(v, &all[i])
	}
	return v
}

func buildRows(all []buildcast.Status, now time.Time) [][]string {
	rows := [][]string{{"ID", "PROJECT", "STATUS", "DONE", "TASKS", "CREATED", "TOOK", "MESSAGE"}}
	for i := range all {
		b := &all[i]
		message := b.Message
		if b.PreviewURL != "" {
			message = b.PreviewURL
		}
		rows = append(rows, []string{
			b.BuildID, dash(b.Project), string(b.Phase), fmt.Sprintf("%3d%%", b.Progress), tasks(b.Tasks),
			ago(now.Sub(b.CreatedAt.Std())), took(b, now), progress.Clean(message),
		})
	}
	return rows
}

func tasks(t buildcast.Tasks) string {
	if t.Total == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", t.Completed, t.Total)
}

// took is how long the build has run, or ran.
func took(b *buildcast.Status, now time.Time) string {
	switch {
	case b.StartedAt == nil:
		return "-"
	case b.FinishedAt != nil:
		return progress.Duration(b.FinishedAt.Std().Sub(b.StartedAt.Std()))
	}
	return progress.Duration(now.Sub(b.StartedAt.Std()))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return progress.Clean(s)
}
