package webhooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/progress"
	"github.com/buildcast/buildcast/internal/cli/verb"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/webhook/request"
	"github.com/buildcast/buildcast/webhooksig"
)

type listenCmd struct {
	ForwardTo string `required:"" placeholder:"URL" env:"-" help:"The receiver, such as http://localhost:3000/hooks."`
	secretFlag
	verb.Connection
	Build   []string          `placeholder:"ID" env:"-" help:"Forward only the events of this build, and exit when it is over; may be repeated. Default: all builds that are running or begin later."`
	Type    []string          `placeholder:"PATTERN" env:"-" help:"Forward only events of this type. * matches any characters, as in task_*. Give a list, or repeat the flag. Default: all types."`
	Header  map[string]string `placeholder:"NAME=VALUE" mapsep:"none" env:"-" help:"Send this header with each request; may be repeated. NAME=@FILE reads the value from a file."`
	Payload string            `enum:"full,thin" default:"full" placeholder:"WORD" env:"-" help:"Forward events with their data (full) or without (thin)."`
	Replay  bool              `env:"-" help:"Also forward the events that are stored already."`
	JSON    bool              `name:"json" help:"Print each request as a line of JSON."`
}

// Help returns the text below the summary in the verb's help.
func (listenCmd) Help() string {
	return `
Examples:

    buildcast webhooks listen --forward-to http://localhost:3000/hooks
    buildcast webhooks listen --forward-to http://localhost:3000/hooks --build nightly --replay
    buildcast webhooks listen --forward-to http://localhost:3000/hooks --type 'task_*' --json

The receiver gets the requests that an endpoint gets: signed, and a build's events
in order. The command sends them itself, so the server does not need to reach the
receiver. It prints a line for each request with the receiver's answer. A request
that fails is not sent again.

Exit codes: with --build, 0 if the receiver accepted all events, 1 if not; 130 after
Ctrl-C.`
}

// receiverTimeout is how long a receiver may take to answer.
const receiverTimeout = 10 * time.Second

// maxNamed is how many builds can be named: each needs a stream.
const maxNamed = maxFollowed

func (c *listenCmd) Run(s *verb.Session) error {
	to, err := c.receiver()
	if err != nil {
		return &verb.ExitError{Code: verb.ExitUsage, Err: err}
	}
	secret, err := c.readSecret(s)
	if err != nil {
		return err
	}
	made := secret.IsZero()
	if made {
		secret = webhooksig.NewSecret()
	}
	to.Secrets = []webhooksig.Secret{secret}
	ctx, stop := s.UntilInterrupted()
	defer stop()
	l := s.NewLink()
	cl, _, err := c.Find(ctx, client.Logger(l.Logger()))
	if err != nil {
		return err
	}
	s.Note("Forwarding events to %s. Ctrl-C ends it.", shown(to.URL))
	if made {
		s.Note("Requests are signed with a secret that was made for this run:\n\n    %s\n", secret.Reveal())
	}
	p := &poster{to: to, shows: shower(s, c.JSON), http: receiverClient()}
	defer p.http.CloseIdleConnections()
	f := &forwarder{
		builds: cl, replay: c.Replay, link: l.Logger(), note: s.Note,
		matches: (&buildcast.Endpoint{Types: c.Type}).Matches, post: p.post,
	}
	if len(c.Build) > 0 {
		err = f.named(ctx, c.Build)
	} else {
		err = f.all(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return &verb.ExitError{Code: verb.ExitCancelled}
	case err == nil && p.failed > 0:
		return &verb.ExitError{Code: verb.ExitFailed, Err: fmt.Errorf("the receiver did not accept %d of %d events", p.failed, p.sent)}
	}
	return err
}

// receiver checks the flags and returns the receiver that they describe.
func (c *listenCmd) receiver() (request.Receiver, error) {
	to := request.Receiver{URL: c.ForwardTo, Payload: buildcast.Payload(c.Payload), Headers: map[string]string{}}
	u, err := url.Parse(c.ForwardTo)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return to, errors.New("--forward-to is not a URL: use one such as http://localhost:3000/hooks")
	}
	if len(c.Build) > maxNamed {
		return to, fmt.Errorf("--build names %d builds: use at most %d", len(c.Build), maxNamed)
	}
	for _, id := range c.Build {
		if err := buildcast.ValidateBuildID(id); err != nil {
			return to, err
		}
	}
	for name, value := range c.Header {
		if to.Headers[name], err = config.Secret("--header "+name, value); err != nil {
			return to, err
		}
	}
	return to, nil
}

// shown returns the URL without the parts that may hold a password or a token.
func shown(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "the receiver"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return progress.Clean(u.String())
}

// receiverClient uses no proxy and follows no redirects.
func receiverClient() *http.Client {
	return &http.Client{
		Timeout:       receiverTimeout,
		Transport:     &http.Transport{MaxIdleConnsPerHost: maxFollowed, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// forwarded is a request and its result.
type forwarded struct {
	At         buildcast.Time `json:"at"`
	BuildID    string         `json:"buildId"`
	EventID    int64          `json:"eventId"`
	EventType  string         `json:"eventType"`
	Status     int            `json:"status"` // 0: there was no answer
	DurationMS int64          `json:"durationMs"`
	Error      string         `json:"error,omitempty"`
}

// poster sends events to one receiver and prints the result of each. It is safe for
// concurrent use.
type poster struct {
	to   request.Receiver
	http *http.Client

	mu           sync.Mutex
	shows        func(*forwarded) error
	sent, failed int
}

// post sends the event once. A failure of the receiver is not an error: post returns
// one if ctx has ended or if nothing can be printed.
func (p *poster) post(ctx context.Context, e *buildcast.Event) error {
	began := time.Now()
	req, err := request.New(ctx, p.to, e, 1, began)
	if err != nil {
		return err
	}
	f := &forwarded{At: buildcast.TimeOf(began), BuildID: e.BuildID, EventID: e.ID, EventType: e.Type}
	f.Status, f.Error = p.exchange(req)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f.DurationMS = time.Since(began).Milliseconds()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
	if !delivered(f.Status) {
		p.failed++
	}
	return p.shows(f)
}

// maxReply bounds how much of an answer is read, in bytes.
const maxReply = 8 << 10

func (p *poster) exchange(req *http.Request) (status int, failure string) {
	resp, err := p.http.Do(req) //nolint:gosec // the user names the receiver
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL, which may hold a token
		}
		return 0, progress.Clean(err.Error())
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	switch {
	case err != nil:
		return 0, "the answer was cut off: " + progress.Clean(err.Error())
	case delivered(resp.StatusCode):
		return resp.StatusCode, ""
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(reply)), "\n")
	return resp.StatusCode, progress.Clean(first)
}

// shower returns a function that prints a line for each request.
func shower(s *verb.Session, asJSON bool) func(*forwarded) error {
	if asJSON {
		return func(f *forwarded) error { return s.PrintJSON(f) }
	}
	build, typ := 8, 16 // widths of columns; they grow
	return func(f *forwarded) error {
		build, typ = max(build, len(f.BuildID)), max(typ, len(f.EventType))
		answer, style := strconv.Itoa(f.Status), progress.Good
		if !delivered(f.Status) {
			style = progress.Bad
		}
		if f.Status == 0 {
			answer = "-"
		}
		line := progress.Line{Left: []progress.Span{
			{Style: progress.Dim, Text: f.At.Std().Local().Format("15:04:05.000")},
			{Text: fmt.Sprintf("  %-*s  %5d  %-*s  ", build, f.BuildID, f.EventID, typ, f.EventType)},
			{Style: style, Text: fmt.Sprintf("%3s", answer)},
			{Text: fmt.Sprintf("  %5d ms", f.DurationMS)},
		}}
		if f.Error != "" {
			line.Left = append(line.Left, progress.Span{Style: progress.Bad, Text: "  " + f.Error})
		}
		_, err := fmt.Fprintln(s.Stdout, verb.Look(s.Stdout).Whole(line))
		return err
	}
}
