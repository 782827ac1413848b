package cli

import (
	"context"

	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/progress"
	"github.com/buildcast/buildcast/internal/cli/verb"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/httpapi"
	"github.com/buildcast/buildcast/internal/planfile"
	"github.com/buildcast/buildcast/internal/planner"
	"github.com/buildcast/buildcast/internal/server"
)

type planCmd struct {
	verb.Remote
	Prompt  *prompt `required:"" placeholder:"TEXT" help:"What the plan is to build. @FILE reads it from a file, - from standard input."`
	Project string  `placeholder:"NAME" help:"The project that the plan is for."`
	NoCache bool    `help:"Ask the planner, also if it has answered the same prompt before."`
	JSON    bool    `name:"json" help:"Print the plan as JSON."`

	config.Config `embed:"" group:"own"`
}

// Help returns the text below the summary in the verb's help.
func (planCmd) Help() string {
	return `
Examples:

    buildcast plan --prompt "a landing page for a bakery" > plan.yaml
    buildcast plan --prompt @prompt.txt --planner command --json

The planner is asked by the server that --server names, or by the one that runs on
this machine. If there is none, this process asks it. Nothing is run: read the plan,
change it if you like, and give it to "buildcast build".`
}

func (c *planCmd) Run(s *verb.Session) error {
	text, err := c.Prompt.read(s)
	if err != nil {
		return err
	}
	ctx, stop := s.UntilInterrupted()
	defer stop()
	made, err := c.make(ctx, s, text)
	switch {
	case ctx.Err() != nil:
		return &verb.ExitError{Code: verb.ExitCancelled}
	case err != nil:
		return err
	}
	who := progress.Clean(made.Planner)
	if made.Model != "" {
		who += " (" + progress.Clean(made.Model) + ")"
	}
	s.Note("A plan of %s, made by %s. Nothing was run.", countTasks(made.Plan), who)
	if c.JSON {
		return s.PrintJSON(made.Plan)
	}
	file, err := planfile.Format(made.Plan)
	if err != nil {
		return err
	}
	_, err = s.Stdout.Write(file)
	return err
}

func (c *planCmd) make(ctx context.Context, s *verb.Session, text string) (client.Planned, error) {
	at := c.Server
	if at == "" {
		at = verb.Running(ctx, c.DataDir, c.Listen)
	}
	if at == "" {
		return c.makeHere(ctx, s, text)
	}
	cl, err := c.Client(at)
	if err != nil {
		return client.Planned{}, err
	}
	defer cl.CloseIdleConnections()
	return cl.Plan(ctx, client.PlanRequest{Prompt: text, Project: c.Project, Planner: c.Planner, NoCache: c.NoCache})
}

// makeHere asks the planner in this process. It prints the names of tasks as they come.
func (c *planCmd) makeHere(ctx context.Context, s *verb.Session, text string) (client.Planned, error) {
	if err := c.Check(); err != nil {
		return client.Planned{}, err
	}
	asked := httpapi.PlanRequest{Prompt: text, Project: c.Project, Planner: c.Planner, NoCache: c.NoCache}
	named := 0
	made, err := server.MakePlan(ctx, &c.Config, asked, func(p planner.Progress) {
		for _, line := range p.Lines {
			s.Note(" │ %s", progress.Clean(line))
		}
		for ; named < len(p.Tasks); named++ {
			s.Note(" ○ %s", progress.Clean(p.Tasks[named]))
		}
	})
	return client.Planned{Plan: made.Plan, Planner: made.Planner, Model: made.Model}, err
}
