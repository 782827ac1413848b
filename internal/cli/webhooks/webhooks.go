package webhooks

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/progress"
	"github.com/buildcast/buildcast/internal/cli/verb"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/webhooksig"
)

type Command struct {
	List      listCmd      `cmd:"" help:"List the endpoints and the events that each is sent."`
	Add       addCmd       `cmd:"" help:"Add an endpoint. It is sent the events from now on."`
	Change    changeCmd    `cmd:"" help:"Change an endpoint's settings."`
	Test      testCmd      `cmd:"" help:"Send a test request to an endpoint now."`
	Status    statusCmd    `cmd:"" help:"Print how many events wait or failed, and how fast receivers answer."`
	Failures  failuresCmd  `cmd:"" help:"List events that were not delivered, the newest first."`
	Redeliver redeliverCmd `cmd:"" help:"Deliver one event again, or all events that were given up."`
	Rewind    rewindCmd    `cmd:"" help:"Deliver a build's events again, beginning with one of them."`
	Rotate    rotateCmd    `cmd:"" help:"Replace an endpoint's secret. Requests are signed with the old one too for a while."`
	Remove    removeCmd    `cmd:"" help:"Remove endpoints. Events that wait for them are not sent."`
	Enable    enableCmd    `cmd:"" help:"Send events to endpoints again."`
	Disable   disableCmd   `cmd:"" help:"Stop sending events to endpoints without removing them."`
	Listen    listenCmd    `cmd:"" help:"Forward events to a receiver on this machine, to try it out. It needs no endpoint."`
}

// Help returns the text below the summary in the verb's help.
func (Command) Help() string {
	return `
Begin with a receiver on this machine, then add an endpoint for the real one:

    buildcast webhooks listen --forward-to http://localhost:3000/hooks
    buildcast webhooks add https://example.com/hooks --type 'task_*,build_*'
    buildcast webhooks test ENDPOINT

If the server has API keys, these commands need one: set BUILDCAST_API_KEY.`
}

// secretVariable holds the secret itself. No flag does: flags are visible in process lists.
const secretVariable = "BUILDCAST_WEBHOOK_SECRET" //nolint:gosec // a name

// secretFlag names the source of a webhook's secret.
type secretFlag struct {
	SecretFile string `placeholder:"FILE" env:"-" help:"File with the secret that signs requests. - reads it from stdin. Default: $BUILDCAST_WEBHOOK_SECRET. If that is empty too, a secret is made and printed once."`
}

// maxSecret bounds what is read from the file, in bytes; secrets are shorter.
const maxSecret = 4 << 10

// readSecret returns the secret, or the zero one if neither the flag nor the variable is set.
func (f *secretFlag) readSecret(s *verb.Session) (webhooksig.Secret, error) {
	from := secretVariable
	text, err := config.Secret(from, os.Getenv(secretVariable)) // @FILE, as for the server
	if err != nil {
		return webhooksig.Secret{}, &verb.ExitError{Code: verb.ExitUsage, Err: err}
	}
	if f.SecretFile != "" {
		from = "--secret-file"
		file := s.Stdin
		if f.SecretFile != "-" {
			if file, err = os.Open(f.SecretFile); err != nil {
				return webhooksig.Secret{}, verb.Usage("--secret-file: %w", err)
			}
			defer file.Close()
		}
		b, err := io.ReadAll(io.LimitReader(file, maxSecret))
		if err != nil {
			return webhooksig.Secret{}, fmt.Errorf("--secret-file: %w", err)
		}
		if text = strings.TrimSpace(string(b)); text == "" {
			return webhooksig.Secret{}, verb.Usage("--secret-file: the file is empty: write the secret into it as one line")
		}
	}
	if text == "" {
		return webhooksig.Secret{}, nil
	}
	secret, err := webhooksig.ParseSecret(text)
	if err != nil {
		return secret, verb.Usage("%s: %w", from, err)
	}
	return secret, nil
}

// showMade prints an endpoint whose secret is new. A secret that the caller gave is
// not printed: the caller has it, and output may end in a log.
func showMade(s *verb.Session, e buildcast.Endpoint, given webhooksig.Secret, asJSON bool) error {
	if !given.IsZero() {
		e.Secret = ""
	}
	if asJSON {
		return s.PrintJSON(&e)
	}
	s.Fields(endpointRows(&e, time.Now()))
	if e.Secret != "" {
		s.Note("Give the receiver this secret now: it is not printed again.")
	}
	return nil
}

func endpointRows(e *buildcast.Endpoint, now time.Time) [][]string {
	rate := ""
	if e.RateLimit > 0 {
		rate = fmt.Sprintf("%d requests a second", e.RateLimit)
	}
	names := slices.Sorted(maps.Keys(e.Headers))
	return [][]string{
		{"endpoint", e.ID},
		{"url", progress.Clean(e.URL)},
		{"description", progress.Clean(e.Description)},
		{"events", several(e.Types, "all types")},
		{"of", followed(e)},
		{"state", endpointState(e.Enabled, e.Breaker, now)},
		{"reason", progress.Clean(e.DisabledReason)},
		{"ordering", string(e.Ordering)},
		{"payload", string(e.Payload)},
		{"timeout", (time.Duration(e.TimeoutMS) * time.Millisecond).String()},
		{"rate limit", rate},
		{"headers", several(names, "")},
		{"secret", e.Secret},
	}
}

// followed describes the builds whose events the endpoint is sent.
func followed(e *buildcast.Endpoint) string {
	var parts []string
	if len(e.Builds) > 0 {
		parts = append(parts, "builds "+several(e.Builds, ""))
	}
	if len(e.Projects) > 0 {
		parts = append(parts, "projects "+several(e.Projects, ""))
	}
	return several(parts, "all builds")
}

// several joins words, or returns the text that stands for none.
func several(words []string, none string) string {
	if len(words) == 0 {
		return none
	}
	return progress.Clean(strings.Join(words, ", "))
}

// endpointState describes in a few words whether events are sent.
func endpointState(enabled bool, b buildcast.Breaker, now time.Time) string {
	switch {
	case !enabled:
		return "disabled"
	case b.State == buildcast.BreakerHalfOpen:
		return "failing, probing"
	case b.State == buildcast.BreakerOpen && b.ProbeAt != nil:
		return "failing, probe " + verb.In(b.ProbeAt.Std().Sub(now))
	case b.State == buildcast.BreakerOpen:
		return "failing"
	}
	return "enabled"
}

type listCmd struct {
	verb.Connection
	JSON bool `name:"json" help:"Print each endpoint as a line of JSON."`
}

// Help returns the text below the summary in the verb's help.
func (listCmd) Help() string {
	return `
Examples:

    buildcast webhooks list
    buildcast webhooks list --json | jq -r 'select(.enabled | not) | .id' | xargs buildcast webhooks enable

Secrets and the values of headers are never printed.`
}

func (c *listCmd) Run(s *verb.Session) error {
	return c.With(s, func(ctx context.Context, cl *client.Client) error {
		all, err := cl.Endpoints(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			for i := range all {
				if err := s.PrintJSON(&all[i]); err != nil {
					return err
				}
			}
			return nil
		}
		if len(all) == 0 {
			s.Note("No endpoints yet. Add one: buildcast webhooks add https://example.com/hooks")
			return nil
		}
		rows := [][]string{{"ENDPOINT", "STATE", "EVENTS", "OF", "URL", "DESCRIPTION"}}
		for i := range all {
			e := &all[i]
			rows = append(rows, []string{
				e.ID, endpointState(e.Enabled, e.Breaker, time.Now()), several(e.Types, "all types"), followed(e),
				progress.Clean(e.URL), progress.Clean(e.Description),
			})
		}
		s.Table(rows)
		return nil
	})
}
