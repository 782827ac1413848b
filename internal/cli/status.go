package cli

import (
	"fmt"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cli/progress"
)

type statusCmd struct {
	ID string `arg:"" placeholder:"ID" help:"The build's id."`
	remote
	local
	JSON bool `name:"json" help:"Print the status as JSON."`
}

// Help is shown below the summary.
func (statusCmd) Help() string {
	return `
Examples:

    buildcast status 01JD8Y6V9S3P4ZK0GQ2M5T7XWA
    test "$(buildcast status nightly --json | jq -r .status)" = completed`
}

func (c *statusCmd) Run(s *session) error {
	ctx, stop := s.untilInterrupted()
	defer stop()
	cl, _, err := c.find(ctx, c.local)
	if err != nil {
		return err
	}
	st, err := cl.Status(ctx, c.ID)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(&st)
	}
	for _, line := range align(statusRows(&st, time.Now())) {
		s.print("%s", line)
	}
	return nil
}

// statusRows leaves out what there is nothing to say about.
func statusRows(st *buildcast.Status, now time.Time) [][]string {
	created := st.CreatedAt.Std()
	rows := [][]string{
		{"build", st.BuildID},
		{"project", progress.Clean(st.Project)},
		{"status", fmt.Sprintf("%s, %d%%", st.Phase, st.Progress)},
		{"message", progress.Clean(st.Message)},
		{"tasks", tasksInWords(st.Tasks)},
		{"created", fmt.Sprintf("%s (%s)", created.Local().Format("2006-01-02 15:04:05"), ago(now.Sub(created)))},
		{"took", took(st, now)},
		{"error", progress.Clean(st.Error)},
		{"preview", progress.Clean(st.PreviewURL)},
		{"events", fmt.Sprint(st.LastEventID)},
	}
	kept := rows[:0]
	for _, row := range rows {
		if row[1] != "" && row[1] != "-" && (row[0] != "message" || st.Message != st.Error) {
			kept = append(kept, row)
		}
	}
	return kept
}

func tasksInWords(t buildcast.Tasks) string {
	if t.Total == 0 && t.Started == 0 {
		return ""
	}
	text := fmt.Sprintf("%d of %d completed", t.Completed, max(t.Total, t.Started))
	if t.Failed > 0 {
		text += fmt.Sprintf(", %d failed", t.Failed)
	}
	return text
}
