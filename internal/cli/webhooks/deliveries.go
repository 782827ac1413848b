package webhooks

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/progress"
	"github.com/buildcast/buildcast/internal/cli/verb"
)

type testCmd struct {
	ID string `arg:"" name:"endpoint" placeholder:"ENDPOINT" help:"The endpoint's id."`
	verb.Connection
	JSON bool `name:"json" help:"Print the attempt as JSON."`
}

// Help returns the text below the summary in the verb's help.
func (testCmd) Help() string {
	return `
Example:

    buildcast webhooks test ENDPOINT

It prints what the receiver answered. Exit codes: 0 if it answered 2xx, 1 if not.`
}

func (c *testCmd) Run(s *verb.Session) error {
	return c.With(s, func(ctx context.Context, cl *client.Client) error {
		a, err := cl.TestEndpoint(ctx, c.ID)
		if err != nil {
			return err
		}
		if c.JSON {
			err = s.PrintJSON(&a)
		} else {
			s.Fields([][]string{
				{"answer", answerOf(&a)},
				{"took", fmt.Sprintf("%d ms", a.DurationMS)},
				{"error", progress.Clean(a.Error)},
				{"response", progress.Clean(a.Response)},
			})
		}
		if err == nil && !delivered(a.Status) {
			err = &verb.ExitError{Code: verb.ExitFailed}
		}
		return err
	})
}

func delivered(status int) bool { return status >= 200 && status <= 299 }

// answerOf returns the status of the receiver's answer, such as "404 Not Found".
func answerOf(a *buildcast.Attempt) string {
	if a.Status == 0 {
		return "none"
	}
	return fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status))
}

type failuresCmd struct {
	ID string `arg:"" optional:"" name:"endpoint" placeholder:"ENDPOINT" help:"Only deliveries to this endpoint."`
	verb.Connection
	Build string `placeholder:"ID" env:"-" help:"Only events of this build."`
	State string `enum:",retrying,dead,delivered" default:"" placeholder:"STATE" env:"-" help:"Only deliveries in this state: retrying, dead (given up) or delivered (after a failure). Default: retrying and dead."`
	Limit int    `default:"50" placeholder:"N" env:"-" help:"List at most N deliveries, 1 to 10000."`
	JSON  bool   `name:"json" help:"Print each delivery, with its attempts, as a line of JSON."`
}

// Help returns the text below the summary in the verb's help.
func (failuresCmd) Help() string {
	return `
Examples:

    buildcast webhooks failures
    buildcast webhooks failures ENDPOINT --state dead --build nightly
    buildcast webhooks failures --json | jq -c '{buildId, eventId, answers: [.attempts[].status]}'

To deliver them again: buildcast webhooks redeliver --help`
}

func (c *failuresCmd) Run(s *verb.Session) error {
	if err := verb.CheckLimit(c.Limit); err != nil {
		return err
	}
	states := []buildcast.DeliveryState{buildcast.DeliveryState(c.State)}
	if c.State == "" {
		states = []buildcast.DeliveryState{buildcast.DeliveryRetrying, buildcast.DeliveryDead}
	}
	return c.With(s, func(ctx context.Context, cl *client.Client) error {
		var all []buildcast.Delivery
		more := false
		for _, state := range states {
			found, rest, err := c.read(ctx, cl, state)
			if err != nil {
				return err
			}
			all, more = append(all, found...), more || rest
		}
		slices.SortStableFunc(all, func(a, b buildcast.Delivery) int { return b.CreatedAt.Std().Compare(a.CreatedAt.Std()) })
		more = more || len(all) > c.Limit
		return c.show(s, all[:min(len(all), c.Limit)], more)
	})
}

// read returns the newest deliveries in the state, and reports whether there are more.
func (c *failuresCmd) read(ctx context.Context, cl *client.Client, state buildcast.DeliveryState) ([]buildcast.Delivery, bool, error) {
	return verb.Pages(c.Limit, func(before string, n int) ([]buildcast.Delivery, string, error) {
		page, err := cl.Deliveries(ctx, client.DeliveryFilter{EndpointID: c.ID, BuildID: c.Build, State: state, Before: before, Limit: n})
		return page.Deliveries, page.Next, err
	})
}

func (c *failuresCmd) show(s *verb.Session, all []buildcast.Delivery, more bool) error {
	if c.JSON {
		for i := range all {
			if err := s.PrintJSON(&all[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(all) == 0 {
		s.Note("No delivery matches.")
		return nil
	}
	rows := [][]string{{"BUILD", "EVENT", "TYPE", "STATE", "TRIES", "FIRST", "NEXT", "ENDPOINT", "LAST ANSWER"}}
	now := time.Now()
	for i := range all {
		d := &all[i]
		next := "-"
		if d.RetryAt != nil {
			next = verb.In(d.RetryAt.Std().Sub(now))
		}
		rows = append(rows, []string{
			d.BuildID, strconv.FormatInt(d.EventID, 10), d.EventType, string(d.State), strconv.Itoa(d.Tries),
			verb.Ago(now.Sub(d.CreatedAt.Std())), next, d.EndpointID, lastAnswer(d),
		})
	}
	s.Table(rows)
	if more {
		s.NoteMore(c.Limit)
	}
	return nil
}

// lastAnswer describes the result of the last attempt in one line.
func lastAnswer(d *buildcast.Delivery) string {
	if len(d.Attempts) == 0 {
		return "-"
	}
	a := &d.Attempts[len(d.Attempts)-1]
	if a.Status == 0 {
		return verb.Dash(a.Error)
	}
	return answerOf(a)
}

type redeliverCmd struct {
	ID    string `arg:"" name:"endpoint" placeholder:"ENDPOINT" help:"The endpoint's id."`
	Build string `arg:"" optional:"" placeholder:"BUILD" help:"The event's build."`
	Event int64  `arg:"" optional:"" placeholder:"EVENT" help:"The event's id. It is delivered again even if it was delivered before."`
	verb.Connection
	Since string `placeholder:"TIME" env:"-" help:"Deliver all events that were given up since this time: how long ago, such as 2h, or a time such as 2026-11-23T07:14:31Z."`
}

// Help returns the text below the summary in the verb's help.
func (redeliverCmd) Help() string {
	return `
Examples:

    buildcast webhooks redeliver ENDPOINT nightly 17
    buildcast webhooks redeliver ENDPOINT --since 24h`
}

func (c *redeliverCmd) Run(s *verb.Session) error {
	one := c.Build != "" && c.Event > 0
	if one == (c.Since != "") || (c.Build != "") != one {
		return verb.Usage("nothing to deliver: give a build and an event's id, or --since; see `buildcast webhooks redeliver --help`")
	}
	var since time.Time
	if !one {
		var err error
		if since, err = parseSince(c.Since, time.Now()); err != nil {
			return &verb.ExitError{Code: verb.ExitUsage, Err: err}
		}
	}
	return c.With(s, func(ctx context.Context, cl *client.Client) error {
		if one {
			if err := cl.Redeliver(ctx, c.ID, c.Build, c.Event); err != nil {
				return err
			}
			s.Print("event %d of build %s is queued to be delivered again", c.Event, c.Build)
			return nil
		}
		n, err := cl.RedeliverDead(ctx, c.ID, since)
		if err != nil {
			return err
		}
		s.Print("%d queued to be delivered again", n)
		return nil
	})
}

// parseSince parses a time, or how long ago it was.
func parseSince(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("--since is %q: use how long ago, such as 2h, or a time such as 2026-11-23T07:14:31Z", text)
	}
	return t, nil
}

type rewindCmd struct {
	ID    string `arg:"" name:"endpoint" placeholder:"ENDPOINT" help:"The endpoint's id."`
	Build string `arg:"" placeholder:"BUILD" help:"The build's id."`
	Event int64  `arg:"" placeholder:"EVENT" help:"The id of the first event to deliver again."`
	verb.Connection
}

// Help returns the text below the summary in the verb's help.
func (rewindCmd) Help() string {
	return `
Example:

    buildcast webhooks rewind ENDPOINT nightly 1

This event and all events of the build after it are delivered again, in order. The
receiver can recognize them by their webhook-id.`
}

func (c *rewindCmd) Run(s *verb.Session) error {
	return c.With(s, func(ctx context.Context, cl *client.Client) error {
		if err := cl.Rewind(ctx, c.ID, c.Build, c.Event); err != nil {
			return err
		}
		s.Print("events of build %s are delivered again from event %d on", c.Build, c.Event)
		return nil
	})
}
