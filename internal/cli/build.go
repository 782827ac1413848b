package cli

import (
	"cmp"
	"context"
	"time"

	"github.com/alecthomas/kong"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/progress"
	"github.com/buildcast/buildcast/internal/cli/verb"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/planfile"
)

type buildCmd struct {
	Plan    string  `arg:"" optional:"" placeholder:"PLAN" help:"The plan file, YAML or JSON, or a directory with a site."`
	Prompt  *prompt `placeholder:"TEXT" help:"What to build, instead of PLAN: a planner of the server makes the plan. @FILE reads it from a file, - from standard input."`
	NoCache bool    `help:"Run everything, and read nothing from the cache."`
	ID      string  `placeholder:"ID" help:"The build's id, 1 to 26 of A-Z a-z 0-9 _ -. Default: a new one."`
	Project string  `placeholder:"NAME" help:"The project that the build belongs to. Default: the plan's name."`
	Deploy  string  `placeholder:"TARGET" help:"Where the output goes: local, cloudflare, command or none. Default: the plan's."`
	Queued
}

// Queued is how a verb that queues a build runs it, on whichever server there is.
type Queued struct {
	verb.Remote
	Detach bool `help:"Exit as soon as the server has accepted the build."`
	JSON   bool `name:"json" help:"Print each event as a line of JSON, and nothing else, on stdout."`
	Exit   bool `help:"Exit when the build is over, even if this process serves the preview."`

	config.Config `embed:"" group:"own"`
}

// queue queues a build.
type queue func(ctx context.Context, c *client.Client) (buildcast.Build, error)

// Help returns the text below the summary in the verb's help.
func (buildCmd) Help() string {
	return `
Examples:

    buildcast build examples/hello-site/plan.yaml
    buildcast build my-site
    buildcast build --prompt "a landing page for a bakery"
    buildcast build plan.yaml --exit --json > events.ndjson
    buildcast build plan.yaml --server https://builds.example.com --detach

In a directory, plan.yaml, plan.yml or plan.json is taken. Without one, the build
brings all the directory's files, except those in .gitignore, and finds out how they
are installed and built (docs/plan.md, "detect").

The build runs on the server that --server names, or on the one that runs on this
machine. If there is none, this process is the server: it accepts the settings of
"buildcast serve" too, and serves the preview until Ctrl-C.

Exit codes: 0 completed; 1 failed; 2 wrong usage; 130 cancelled, or left with Ctrl-C.`
}

// hideSettings keeps the server's settings out of the help of verbs other than serve.
func hideSettings(k *kong.Kong) error {
	for _, cmd := range k.Model.Children {
		for _, flag := range cmd.Flags {
			if flag.Group != nil && flag.Group.Key == "own" {
				flag.Hidden = flag.Name != "data-dir" && flag.Name != "planner"
				flag.Group = nil
			}
		}
	}
	return nil
}

func (b *buildCmd) Run(s *verb.Session) error {
	asked, err := b.asked(s)
	if err != nil {
		return err
	}
	return b.run(s, func(ctx context.Context, c *client.Client) (buildcast.Build, error) { return c.CreateBuild(ctx, asked) })
}

// run queues the build and watches it to its end.
func (b *Queued) run(s *verb.Session, asked queue) error {
	ctx, stop := s.UntilInterrupted()
	defer stop()
	at := b.Server
	if at == "" {
		at = verb.Running(ctx, b.DataDir, b.Listen)
	}
	if at != "" {
		return b.onServer(ctx, s, at, asked)
	}
	if b.Detach {
		return buildcast.Errorf(buildcast.NotFound, "--detach needs a running server: start one with `buildcast serve`, or name one with --server URL")
	}
	return b.onOwnServer(ctx, s, asked)
}

// asked returns what to build: the plan of a file, or the prompt.
func (b *buildCmd) asked(s *verb.Session) (client.CreateBuild, error) {
	asked := client.CreateBuild{
		ID: b.ID, Project: b.Project, Deploy: b.Deploy,
		Options: buildcast.Options{NoCache: b.NoCache},
	}
	switch {
	case b.Plan != "" && b.Prompt != nil:
		return asked, verb.Usage("there are both a plan and a --prompt: give the plan to run it, or the prompt to have one made")
	case b.Plan == "" && b.Prompt == nil:
		return asked, verb.Usage("there is nothing to build: give a plan file, or --prompt TEXT; see `buildcast build --help`")
	case b.Prompt != nil:
		text, err := b.Prompt.read(s)
		asked.Prompt, asked.Planner = text, b.Planner
		return asked, err
	}
	plan, err := planfile.Find(b.Plan)
	if err != nil {
		return asked, &verb.ExitError{Code: verb.ExitUsage, Err: err}
	}
	asked.Plan, asked.Project = plan, cmp.Or(b.Project, plan.Name)
	if (&buildcast.Build{Plan: plan}).Planned() { // --planner may be a setting of the machine: other plans are not about it
		asked.Planner = b.Planner
	}
	return asked, nil
}

// onServer runs the build on a server that is another process.
func (b *Queued) onServer(ctx context.Context, s *verb.Session, at string, asked queue) error {
	f := newFollower(s, b.JSON)
	c, err := b.Client(at, f.option())
	if err != nil {
		return err
	}
	build, err := asked(ctx, c)
	if err != nil {
		return err
	}
	if b.Detach {
		return detached(s, &build, at, b.JSON)
	}
	headline(s, &build, at)
	state, err := f.follow(ctx, c, build.ID, 0)
	if ctx.Err() != nil {
		return left(s, build.ID, b.Server)
	}
	return verdict(state, err)
}

// onOwnServer runs the build in this process.
func (b *Queued) onOwnServer(ctx context.Context, s *verb.Session, asked queue) error {
	if err := b.Check(); err != nil {
		return err
	}
	own, err := startOwn(ctx, b.Config)
	if err != nil {
		return err
	}
	err = b.onOwn(ctx, s, own, asked)
	if stopErr := own.stop(); stopErr != nil {
		code := max(fail(s, err), verb.ExitFailed) // the build's own result is printed first
		return &verb.ExitError{Code: code, Err: stopErr}
	}
	return err
}

func (b *Queued) onOwn(ctx context.Context, s *verb.Session, own *ownServer, asked queue) error {
	c, err := client.New(own.url, client.APIKey(own.key))
	if err != nil {
		return err
	}
	defer c.CloseIdleConnections()
	build, err := asked(ctx, c)
	if err != nil {
		return err
	}
	headline(s, &build, own.url)
	watch, stop := own.whileRunning(ctx)
	defer stop()
	state, err := newFollower(s, b.JSON).follow(watch, c, build.ID, 0)
	if ctx.Err() != nil {
		return cancelOwn(context.WithoutCancel(ctx), s, c, build.ID)
	}
	if err := verdict(state, err); err != nil {
		return err
	}
	switch {
	case state.Status.PreviewURL == "":
		return nil
	case b.Exit:
		if own.lasting {
			s.Note("\nThe preview is served again by: buildcast serve")
		}
		return nil
	}
	s.Note("\nThe preview is served until Ctrl-C.")
	<-watch.Done()
	if verb.IsTerminal(s.Stderr) {
		s.Note("") // otherwise the prompt appears behind ^C
	}
	return nil
}

// cancelTimeout bounds the cancellation of a build on the server in this process.
const cancelTimeout = 5 * time.Second

// cancelOwn cancels the build: its server ends with this process.
func cancelOwn(ctx context.Context, s *verb.Session, c *client.Client, id string) error {
	ctx, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	if _, err := c.Cancel(ctx, id); err != nil {
		s.Note("Build %s could not be cancelled (%v). The next server on this data directory goes on with it.", id, err)
	} else {
		s.Note("Cancelled build %s.", id)
	}
	return &verb.ExitError{Code: verb.ExitCancelled}
}

// left prints how to go on after Ctrl-C, which ends the watching but not the build.
func left(s *verb.Session, id, named string) error {
	flag := ""
	if named != "" {
		flag = " --server " + named
	}
	s.Note("\nBuild %s goes on.\n  watch it again   buildcast watch %s%s\n  cancel it        buildcast cancel %s%s", id, id, flag, id, flag)
	return &verb.ExitError{Code: verb.ExitCancelled}
}

// headline prints the build's name and the address of its page.
func headline(s *verb.Session, b *buildcast.Build, at string) {
	name := b.ID
	if b.Project != "" {
		name = progress.Clean(b.Project) + "  " + b.ID
	}
	s.Note("%s\n%s\n", name, verb.PageURL(at, b.ID))
}

func detached(s *verb.Session, b *buildcast.Build, at string, asJSON bool) error {
	if asJSON {
		return s.PrintJSON(b)
	}
	s.Print("%s", b.ID)
	s.Note("Build %s is queued.\n  watch it   buildcast watch %s\n  see it     %s", b.ID, b.ID, verb.PageURL(at, b.ID))
	return nil
}

// verdict returns the exit code that stands for the build's end.
func verdict(state *progress.State, err error) error {
	if err != nil {
		return err
	}
	switch state.Status.Phase {
	case buildcast.Completed:
		return nil
	case buildcast.Cancelled:
		return &verb.ExitError{Code: verb.ExitCancelled}
	}
	return &verb.ExitError{Code: verb.ExitFailed} // the display has shown why
}
