package cli

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"strings"

	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cleanup"
	"github.com/buildcast/buildcast/internal/cli/progress"
	"github.com/buildcast/buildcast/internal/cli/verb"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/server"
)

type cleanupCmd struct {
	verb.Remote
	OlderThan string `placeholder:"AGE" help:"Remove what is older, such as 7d or 36h. Default: --preview-keep for deployments and previews, a day for workspaces."`
	Branch    string `default:"build-*" placeholder:"PATTERN" help:"Only what belongs to builds with such a branch; it begins with build-."`
	DryRun    bool   `help:"Only count what would be removed."`
	JSON      bool   `name:"json" help:"Print each step as a line of JSON, and nothing else, on stdout."`

	config.Config `embed:"" group:"own"`
}

// Help returns the text below the summary in the verb's help.
func (cleanupCmd) Help() string {
	return `
Examples:

    buildcast cleanup --dry-run
    buildcast cleanup --older-than 7d
    buildcast cleanup --branch 'build-01JD*' --older-than 1h

It asks the server that --server names, or the one that runs on this machine. If there
is none, it cleans the data directory itself, with the settings of "buildcast serve". A
server does the same by itself, each day. Running builds, the deployment that a project's
own address shows, and branches that are not builds' are never touched.`
}

func (c *cleanupCmd) Run(s *verb.Session) error {
	what := client.Cleanup{OlderThan: c.OlderThan, Branch: c.Branch, DryRun: c.DryRun}
	asked, err := request(what)
	if err != nil {
		return &verb.ExitError{Code: verb.ExitUsage, Err: err}
	}
	ctx, stop := s.UntilInterrupted()
	defer stop()
	at := c.Server
	if at == "" {
		at = verb.Running(ctx, c.DataDir, c.Listen)
	}
	if at == "" {
		return c.show(s, c.onDataDir(ctx, s, asked))
	}
	cl, err := c.Client(at)
	if err != nil {
		return err
	}
	return c.show(s, cl.Cleanup(ctx, what))
}

func request(what client.Cleanup) (asked cleanup.Request, err error) {
	asked = cleanup.Request{Branch: what.Branch, DryRun: what.DryRun}
	if what.OlderThan != "" {
		if asked.OlderThan, err = cleanup.ParseAge(what.OlderThan); err != nil {
			return asked, err
		}
	}
	return asked, asked.Check()
}

// onDataDir cleans with a server that holds the data directory and does not run.
func (c *cleanupCmd) onDataDir(ctx context.Context, s *verb.Session, asked cleanup.Request) iter.Seq2[client.CleanupStep, error] {
	return func(yield func(client.CleanupStep, error) bool) {
		if err := c.Check(); err != nil {
			yield(client.CleanupStep{}, err)
			return
		}
		c.Listen, c.PreviewListen = "127.0.0.1:0", "127.0.0.1:0"
		srv, err := server.New(ctx, c.Config, version(), newLogger(s.Stderr, "text", slog.LevelError.String()))
		if err != nil {
			yield(client.CleanupStep{}, err)
			return
		}
		defer srv.Close()
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		going := true
		err = srv.Cleanup(ctx, asked, func(l cleanup.Line) {
			if going = going && yield(stepOf(l), nil); !going {
				stop()
			}
		})
		if going && err != nil && ctx.Err() != nil {
			yield(client.CleanupStep{}, context.Cause(ctx))
		}
	}
}

func stepOf(l cleanup.Line) client.CleanupStep {
	step := client.CleanupStep{Part: l.Part, Done: l.Done, Total: l.Total, Error: l.Error}
	if l.Removed != nil {
		step.Removed = &client.Removed{Count: l.Removed.Count, Bytes: l.Removed.Bytes}
	}
	return step
}

// show draws the steps as a bar, and prints the sums at the end.
func (c *cleanupCmd) show(s *verb.Session, steps iter.Seq2[client.CleanupStep, error]) error {
	screen := progress.NewScreen(s.Stderr)
	bar := !c.JSON && verb.IsTerminal(s.Stderr)
	var parts []client.CleanupStep
	failed := false
	for step, err := range steps {
		if bar && (err != nil || step.Removed != nil) {
			_ = screen.Close(nil, verb.Look(s.Stderr).Width) // an error: the terminal is gone
		}
		switch {
		case err != nil:
			return err
		case c.JSON:
			if err := s.PrintJSON(step); err != nil {
				return err
			}
		case step.Removed == nil && bar:
			k := verb.Look(s.Stderr)
			_ = screen.Draw(nil, []string{k.Render(cleanupBar(k, step))}, k.Width)
		}
		if step.Removed != nil {
			parts = append(parts, step)
			failed = failed || step.Error != ""
		}
	}
	if !c.JSON {
		c.sums(s, parts)
	}
	if failed {
		return &verb.ExitError{Code: verb.ExitFailed}
	}
	return nil
}

// cleanupBar is one part's progress.
func cleanupBar(k progress.Look, step client.CleanupStep) progress.Line {
	left := fmt.Sprintf("%-12s", step.Part)
	if step.Total == 0 {
		return progress.Line{Left: []progress.Span{{Style: progress.Plain, Text: left + "looking"}}}
	}
	right := fmt.Sprintf("  %d/%d", step.Done, step.Total)
	columns := min(max(k.Width, 1), 100) - progress.Width(left+right) - 1
	if columns < 10 {
		return progress.Line{Left: []progress.Span{{Style: progress.Bold, Text: left + right}}}
	}
	filled := columns * step.Done / step.Total
	return progress.Line{Left: []progress.Span{
		{Style: progress.Plain, Text: left},
		{Style: progress.Good, Text: strings.Repeat("━", filled)},
		{Style: progress.Dim, Text: strings.Repeat("─", columns-filled)},
		{Style: progress.Plain, Text: right},
	}}
}

func (c *cleanupCmd) sums(s *verb.Session, parts []client.CleanupStep) {
	head := []string{"PART", "REMOVED", "FREED"}
	if c.DryRun {
		head = []string{"PART", "WOULD REMOVE", "WOULD FREE"}
	}
	rows := [][]string{head}
	for _, p := range parts {
		rows = append(rows, []string{p.Part, fmt.Sprint(p.Removed.Count), bytesOf(p.Removed.Bytes)})
	}
	s.Table(rows)
	for _, p := range parts {
		if p.Error != "" {
			s.Note("%s: %s", p.Part, progress.Clean(p.Error))
		}
	}
}

func bytesOf(n int64) string {
	switch {
	case n == 0:
		return "-"
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
