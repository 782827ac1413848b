package webhooks

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/progress"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

type statusCmd struct {
	ID string `arg:"" optional:"" name:"endpoint" placeholder:"ENDPOINT" help:"Only this endpoint."`
	verb.Connection
	Window string `enum:"1h,24h,7d" default:"24h" placeholder:"WINDOW" env:"-" help:"Count the deliveries of the last 1h, 24h or 7d."`
	JSON   bool   `name:"json" help:"Print the whole status as JSON."`
}

// Help returns the text below the summary in the verb's help.
func (statusCmd) Help() string {
	return `
Examples:

    buildcast webhooks status
    buildcast webhooks status ENDPOINT --window 1h
    test "$(buildcast webhooks status --json | jq '[.endpoints[].dead] | add')" = 0

WAITING counts events that are not sent yet, RETRYING deliveries that failed and are
tried again, DEAD deliveries that were given up. P50 and P99 are the times that the
receiver took to answer.`
}

func (c *statusCmd) Run(s *verb.Session) error {
	return c.With(s, func(ctx context.Context, cl *client.Client) error {
		status, err := cl.WebhookStatus(ctx)
		if err != nil {
			return err
		}
		if c.ID != "" {
			if err := only(&status, c.ID); err != nil {
				return err
			}
		}
		if c.JSON {
			return s.PrintJSON(&status)
		}
		c.show(s, &status)
		return nil
	})
}

// only removes all other endpoints from the status.
func only(status *buildcast.WebhookStatus, id string) error {
	for _, e := range status.Endpoints {
		if e.EndpointID == id {
			status.Endpoints = []buildcast.EndpointStatus{e}
			return nil
		}
	}
	return buildcast.Errorf(buildcast.NotFound, "there is no endpoint %s: `buildcast webhooks list` lists all", id)
}

func (c *statusCmd) show(s *verb.Session, status *buildcast.WebhookStatus) {
	now := time.Now()
	if len(status.Endpoints) == 0 {
		s.Note("No endpoints yet. Add one: buildcast webhooks add https://example.com/hooks")
	} else {
		rows := [][]string{{"ENDPOINT", "STATE", "WAITING", "RETRYING", "DEAD", "DELIVERED", "SUCCESS", "P50", "P99", "URL"}}
		for i := range status.Endpoints {
			e := &status.Endpoints[i]
			w := e.Windows[c.Window]
			rows = append(rows, []string{
				e.EndpointID, endpointState(e.Enabled, e.Breaker, now), number(e.Backlog), number(e.Retrying), number(e.Dead),
				number(w.Delivered), percent(w.Success), milliseconds(w.P50MS), milliseconds(w.P99MS), progress.Clean(e.URL),
			})
		}
		s.Table(rows)
	}
	for i := range status.Endpoints {
		if e := &status.Endpoints[i]; e.Breaker.Reason != "" && e.Breaker.State != buildcast.BreakerClosed {
			s.Note("%s is failing: %s", e.EndpointID, progress.Clean(e.Breaker.Reason))
		}
	}
	w := status.Log.Windows[c.Window]
	s.Note("In the last %s %d events with %s of data were appended. The database has %s.", c.Window, w.Events, size(w.Bytes), size(status.Log.Bytes))
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// percent formats a share. It rounds down, so that one failure is visible.
func percent(share *float64) string {
	if share == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", float64(int64(*share*1000))/10)
}

func milliseconds(ms *float64) string {
	if ms == nil {
		return "-"
	}
	return fmt.Sprintf("%.0fms", *ms)
}

// size formats a number of bytes.
func size(n int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB"}
	value, unit := float64(n), 0
	for value >= 1000 && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}
