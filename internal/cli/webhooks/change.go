package webhooks

import (
	"context"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/verb"
	"github.com/buildcast/buildcast/internal/config"
)

// endpointFlags are an endpoint's settings. A setting without a flag stays as it is,
// or has the server's default. The flags have no environment variables, because
// those would silently apply to every endpoint that is added.
type endpointFlags struct {
	Type        []string          `placeholder:"PATTERN" env:"-" help:"Send only events of this type. * matches any characters, as in task_*. Give a list, or repeat the flag. Default: all types."`
	Build       []string          `placeholder:"ID" env:"-" help:"Send the events of this build; may be repeated. Default, without --project: all builds."`
	Project     []string          `placeholder:"NAME" env:"-" help:"Send the events of this project's builds; may be repeated."`
	Header      map[string]string `placeholder:"NAME=VALUE" mapsep:"none" env:"-" help:"Send this header with each request; may be repeated. NAME=@FILE reads the value from a file: flags are visible in process lists."`
	Description *string           `placeholder:"TEXT" env:"-" help:"What the endpoint is for."`
	RateLimit   *int              `placeholder:"N" env:"-" help:"Send at most N requests a second from each node. 0 is no limit."`
	Timeout     *time.Duration    `placeholder:"DURATION" env:"-" help:"How long the receiver may take to answer, such as 10s."`
	Ordering    string            `enum:",normal,strict" default:"" placeholder:"WORD" env:"-" help:"While an event is tried again, the later events of its build are sent (normal) or wait (strict)."`
	Payload     string            `enum:",full,thin" default:"" placeholder:"WORD" env:"-" help:"Send events with their data (full) or without (thin); a receiver of thin events fetches the data."`
}

func (f *endpointFlags) change() (buildcast.EndpointChange, error) {
	c := buildcast.EndpointChange{
		Types: list(f.Type), Builds: list(f.Build), Projects: list(f.Project),
		Description: f.Description, RateLimit: f.RateLimit,
	}
	if f.Timeout != nil {
		ms := int(f.Timeout.Milliseconds())
		c.TimeoutMS = &ms
	}
	if o := buildcast.Ordering(f.Ordering); o != "" {
		c.Ordering = &o
	}
	if p := buildcast.Payload(f.Payload); p != "" {
		c.Payload = &p
	}
	if f.Header == nil {
		return c, nil
	}
	headers := map[string]string{}
	for name, value := range f.Header {
		read, err := config.Secret("--header "+name, value)
		if err != nil {
			return c, &verb.ExitError{Code: verb.ExitUsage, Err: err}
		}
		headers[name] = read
	}
	c.Headers = &headers
	return c, nil
}

// list returns nil if the flag is not set. An empty value empties the list.
func list(words []string) *[]string {
	if words == nil {
		return nil
	}
	kept := []string{}
	for _, w := range words {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return &kept
}

type addCmd struct {
	URL string `arg:"" name:"url" placeholder:"URL" help:"Where requests go, such as https://example.com/hooks."`
	endpointFlags
	secretFlag
	verb.Connection
	Disabled bool `env:"-" help:"Send nothing until the endpoint is enabled."`
	JSON     bool `name:"json" help:"Print the endpoint as JSON."`
}

// Help returns the text below the summary in the verb's help.
func (addCmd) Help() string {
	return `
Examples:

    buildcast webhooks add https://example.com/hooks
    buildcast webhooks add https://example.com/hooks --type 'task_*,build_*' --project docs
    buildcast webhooks add https://example.com/hooks --secret-file secret.txt --header Authorization=@token.txt
    buildcast webhooks add https://example.com/hooks --json | jq -r .secret > secret.txt

It prints the endpoint. If no secret is given, it makes one and prints that too: the
receiver verifies requests with it.`
}

func (c *addCmd) Run(s *verb.Session) error {
	asked, err := c.change()
	if err != nil {
		return err
	}
	secret, err := c.readSecret(s)
	if err != nil {
		return err
	}
	asked.URL = &c.URL
	if text := secret.Reveal(); text != "" {
		asked.Secret = &text
	}
	if enabled := !c.Disabled; !enabled {
		asked.Enabled = &enabled
	}
	return c.With(s, func(ctx context.Context, cl *client.Client) error {
		made, err := cl.CreateEndpoint(ctx, asked)
		if err != nil {
			return err
		}
		return showMade(s, made, secret, c.JSON)
	})
}

type changeCmd struct {
	ID  string  `arg:"" name:"endpoint" placeholder:"ENDPOINT" help:"The endpoint's id."`
	URL *string `name:"url" placeholder:"URL" env:"-" help:"Where requests go."`
	endpointFlags
	verb.Connection
	JSON bool `name:"json" help:"Print the endpoint as JSON."`
}

// Help returns the text below the summary in the verb's help.
func (changeCmd) Help() string {
	return `
Examples:

    buildcast webhooks change ENDPOINT --url https://example.com/hooks/v2
    buildcast webhooks change ENDPOINT --type 'task_*' --rate-limit 50
    buildcast webhooks change ENDPOINT --type=        # all types again

A list or the headers that you give replace the old ones. Other settings stay.`
}

func (c *changeCmd) Run(s *verb.Session) error {
	asked, err := c.change()
	if err != nil {
		return err
	}
	asked.URL = c.URL
	if asked == (buildcast.EndpointChange{}) {
		return verb.Usage("nothing to change: give at least one setting; see `buildcast webhooks change --help`")
	}
	return c.With(s, func(ctx context.Context, cl *client.Client) error {
		e, err := cl.ChangeEndpoint(ctx, c.ID, asked)
		if err != nil {
			return err
		}
		if c.JSON {
			return s.PrintJSON(&e)
		}
		s.Fields(endpointRows(&e, time.Now()))
		return nil
	})
}

type rotateCmd struct {
	ID      string        `arg:"" name:"endpoint" placeholder:"ENDPOINT" help:"The endpoint's id."`
	Overlap time.Duration `default:"24h" placeholder:"DURATION" env:"-" help:"How long requests are signed with the old secret too, at most 168h. 0 ends it at once."`
	secretFlag
	verb.Connection
	JSON bool `name:"json" help:"Print the endpoint as JSON."`
}

// Help returns the text below the summary in the verb's help.
func (rotateCmd) Help() string {
	return `
Examples:

    buildcast webhooks rotate ENDPOINT
    buildcast webhooks rotate ENDPOINT --overlap 1h --secret-file - < secret.txt

Until the overlap ends each request is signed with both secrets. Give the receiver
the new one before.`
}

func (c *rotateCmd) Run(s *verb.Session) error {
	if c.Overlap < 0 || c.Overlap > buildcast.MaxSecretOverlap {
		return verb.Usage("--overlap is %v: use 0 to %v", c.Overlap, buildcast.MaxSecretOverlap)
	}
	secret, err := c.readSecret(s)
	if err != nil {
		return err
	}
	return c.With(s, func(ctx context.Context, cl *client.Client) error {
		e, err := cl.RotateSecret(ctx, c.ID, secret.Reveal(), c.Overlap)
		if err != nil {
			return err
		}
		return showMade(s, e, secret, c.JSON)
	})
}

// endpoints is the argument of verbs that act on several endpoints.
type endpoints struct {
	IDs []string `arg:"" name:"endpoint" placeholder:"ENDPOINT" help:"The endpoints' ids."`
	verb.Connection
}

// each calls change for each endpoint and prints that it is done.
func (c *endpoints) each(s *verb.Session, done string, change func(context.Context, *client.Client, string) error) error {
	return c.With(s, func(ctx context.Context, cl *client.Client) error {
		for _, id := range c.IDs {
			if err := change(ctx, cl, id); err != nil {
				return err
			}
			s.Print("%s %s", id, done)
		}
		return nil
	})
}

type removeCmd struct{ endpoints }

// Help returns the text below the summary in the verb's help.
func (removeCmd) Help() string {
	return `
Example:

    buildcast webhooks remove ENDPOINT

To keep the endpoint and the events that wait for it, disable it instead:

    buildcast webhooks disable ENDPOINT`
}

func (c *removeCmd) Run(s *verb.Session) error {
	return c.each(s, "removed", func(ctx context.Context, cl *client.Client, id string) error {
		return cl.DeleteEndpoint(ctx, id)
	})
}

type enableCmd struct{ endpoints }

func (c *enableCmd) Run(s *verb.Session) error { return c.enable(s, true, "enabled") }

type disableCmd struct{ endpoints }

func (c *disableCmd) Run(s *verb.Session) error { return c.enable(s, false, "disabled") }

func (c *endpoints) enable(s *verb.Session, on bool, done string) error {
	return c.each(s, done, func(ctx context.Context, cl *client.Client, id string) error {
		_, err := cl.ChangeEndpoint(ctx, id, buildcast.EndpointChange{Enabled: &on})
		return err
	})
}
