package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/progress"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

type listCmd struct {
	verb.Connection
	Status  string `enum:",queued,planning,executing,deploying,completed,failed,cancelled" default:"" placeholder:"STATUS" help:"Only builds with this status: queued, planning, executing, deploying, completed, failed or cancelled."`
	Project string `placeholder:"NAME" help:"Only builds of this project."`
	Limit   int    `default:"20" placeholder:"N" help:"List at most N builds, 1 to 10000."`
	JSON    bool   `name:"json" help:"Print each build's status as a line of JSON."`
}

// Help returns the text below the summary in the verb's help.
func (listCmd) Help() string {
	return `
Examples:

    buildcast list
    buildcast list --status failed --project docs
    buildcast list --json --limit 1000 | jq -r .previewUrl`
}

func (l *listCmd) Run(s *verb.Session) error {
	if err := verb.CheckLimit(l.Limit); err != nil {
		return err
	}
	return l.With(s, func(ctx context.Context, c *client.Client) error {
		all, more, err := verb.Pages(l.Limit, func(before string, n int) ([]buildcast.Status, string, error) {
			page, err := c.Builds(ctx, client.Filter{Phase: buildcast.Phase(l.Status), Project: l.Project, Before: before, Limit: n})
			return page.Builds, page.Next, err
		})
		if err != nil {
			return err
		}
		return l.show(s, all, more)
	})
}

func (l *listCmd) show(s *verb.Session, all []buildcast.Status, more bool) error {
	if l.JSON {
		return s.PrintJSON(items(all)...)
	}
	if len(all) == 0 {
		s.Note("%s", l.empty())
		return nil
	}
	s.Table(buildRows(all, time.Now()))
	if more {
		s.NoteMore(l.Limit)
	}
	return nil
}

func (l *listCmd) empty() string {
	if l.Status != "" || l.Project != "" {
		return "No build matches. `buildcast list` lists all."
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
	rows := [][]string{{"ID", "PROJECT", "STATUS", "DONE", "TASKS", "CREATED", "TIME", "MESSAGE"}}
	for i := range all {
		b := &all[i]
		message := b.Message
		if b.PreviewURL != "" {
			message = b.PreviewURL
		}
		rows = append(rows, []string{
			b.BuildID, verb.Dash(b.Project), string(b.Phase), fmt.Sprintf("%3d%%", b.Progress), tasks(b.Tasks),
			verb.Ago(now.Sub(b.CreatedAt.Std())), took(b, now), progress.Clean(message),
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

// took returns how long the build has been running, or ran.
func took(b *buildcast.Status, now time.Time) string {
	switch {
	case b.StartedAt == nil:
		return "-"
	case b.FinishedAt != nil:
		return progress.Duration(b.FinishedAt.Std().Sub(b.StartedAt.Std()))
	}
	return progress.Duration(now.Sub(b.StartedAt.Std()))
}
