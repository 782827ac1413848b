package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/verb"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cli/progress"
)

type statusCmd struct {
	ID string `arg:"" placeholder:"ID" help:"The build's id."`
	verb.Connection
	JSON bool `name:"json" help:"Print the status as JSON."`
}

// Help returns the text below the summary in the verb's help.
func (statusCmd) Help() string {
	return `
Examples:

    buildcast status 01JD8Y6V9S3P4ZK0GQ2M5T7XWA
    test "$(buildcast status nightly --json | jq -r .status)" = completed`
}

func (c *statusCmd) Run(s *verb.Session) error {
	return c.With(s, func(ctx context.Context, cl *client.Client) error {
		st, err := cl.Status(ctx, c.ID)
		if err != nil {
			return err
		}
		if c.JSON {
			return s.PrintJSON(&st)
		}
		s.Fields(statusRows(&st, time.Now()))
		return nil
	})
}

// statusRows returns what there is to know about the build; an empty value is not shown.
func statusRows(st *buildcast.Status, now time.Time) [][]string {
	created, message := st.CreatedAt.Std(), st.Message
	if message == st.Error {
		message = ""
	}
	return [][]string{
		{"build", st.BuildID},
		{"project", progress.Clean(st.Project)},
		{"status", fmt.Sprintf("%s, %d%%", st.Phase, st.Progress)},
		{"message", progress.Clean(message)},
		{"tasks", tasksInWords(st.Tasks)},
		{"created", fmt.Sprintf("%s (%s)", created.Local().Format("2006-01-02 15:04:05"), verb.Ago(now.Sub(created)))},
		{ranOrRuns(st), took(st, now)},
		{"error", progress.Clean(st.Error)},
		{"preview", progress.Clean(st.PreviewURL)},
		{"events", eventsInWords(st)},
	}
}

// ranOrRuns names the build's duration: a build that runs has not taken it yet.
func ranOrRuns(st *buildcast.Status) string {
	if st.Phase.Terminal() {
		return "took"
	}
	return "running"
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

// eventsInWords counts the events that are kept.
func eventsInWords(st *buildcast.Status) string {
	kept := max(st.LastEventID-max(st.FirstEventID, 1)+1, 0)
	if st.FirstEventID <= 1 {
		return fmt.Sprint(kept)
	}
	return fmt.Sprintf("%d (the first has id %d: older ones were deleted)", kept, st.FirstEventID)
}
