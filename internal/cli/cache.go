package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/cli/progress"
	"github.com/buildcast/buildcast/internal/cli/verb"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/server"
)

type cacheCmd struct {
	Ls    cacheLsCmd    `cmd:"" help:"List what the cache has, what was used last first."`
	Why   cacheWhyCmd   `cmd:"" help:"Say why a task of a build was taken from the cache, or ran."`
	Prune cachePruneCmd `cmd:"" help:"Remove what was not used lately."`
}

// cacheConnection finds the cache: that of the server that is named or running, or
// the one in the data directory.
type cacheConnection struct{ verb.Connection }

// with runs remote with a client for the server, or local with the cache of the data
// directory if no server runs. lock keeps servers away meanwhile.
func (c *cacheConnection) with(s *verb.Session, lock bool, use func(context.Context, cacheService) error) error {
	ctx, stop := s.UntilInterrupted()
	defer stop()
	if c.Server == "" && verb.Running(ctx, c.DataDir, c.Listen) == "" {
		return c.local(ctx, lock, use)
	}
	cl, _, err := c.Find(ctx)
	if err != nil {
		return err
	}
	return use(ctx, cacheService{list: cl.Cache, why: cl.WhyCached, prune: cl.PruneCache})
}

// cacheService is what both ways have in common.
type cacheService struct {
	list  func(ctx context.Context, limit int) (buildcast.CacheUsage, error)
	why   func(ctx context.Context, build, task string) (buildcast.CacheReason, error)
	prune func(ctx context.Context, age time.Duration) (buildcast.CachePruned, error)
}

func (c *cacheConnection) local(ctx context.Context, lock bool, use func(context.Context, cacheService) error) error {
	dir := filepath.Join(c.DataDir, "cache")
	if _, err := os.Stat(dir); err != nil {
		return buildcast.Errorf(buildcast.NotFound, "no server is running here, and %s has no cache: name the data directory with --data-dir, or a server with --server URL", c.DataDir)
	}
	if lock {
		unlock, err := server.LockDataDir(c.DataDir)
		if err != nil {
			return err
		}
		defer unlock()
	}
	kept, err := cache.Open(cache.Config{Dir: dir})
	if err != nil {
		return err
	}
	return use(ctx, cacheService{list: kept.List, why: kept.Why, prune: func(ctx context.Context, age time.Duration) (buildcast.CachePruned, error) {
		return kept.Prune(ctx, time.Now().Add(-age))
	}})
}

type cacheLsCmd struct {
	cacheConnection
	Limit int  `default:"50" placeholder:"N" help:"List at most N entries, 1 to 10000."`
	JSON  bool `name:"json" help:"Print the list as JSON."`
}

func (l *cacheLsCmd) Run(s *verb.Session) error {
	if err := verb.CheckLimit(l.Limit); err != nil {
		return err
	}
	return l.with(s, false, func(ctx context.Context, c cacheService) error {
		u, err := c.list(ctx, l.Limit)
		switch {
		case err != nil:
			return err
		case l.JSON:
			return s.PrintJSON(u)
		case u.Count > 0:
			s.Table(cacheRows(u.Entries, time.Now()))
		}
		s.Note("%d entries; the cache has %v of %v", u.Count, sizeText(u.Bytes), config.Size(u.MaxBytes))
		return nil
	})
}

func cacheRows(entries []buildcast.CacheEntry, now time.Time) [][]string {
	rows := [][]string{{"KIND", "NAME", "PROJECT", "SIZE", "SAVES", "USED", "BUILD"}}
	for i := range entries {
		e := &entries[i]
		project := verb.Dash(e.Project)
		if e.Planned {
			project += " (planned)"
		}
		saves := "-"
		if e.DurationMS > 0 {
			saves = progress.Duration(time.Duration(e.DurationMS) * time.Millisecond)
		}
		rows = append(rows, []string{
			e.Kind, verb.Dash(progress.Clean(strings.TrimPrefix(e.Name, cache.StageName("")))), progress.Clean(project), sizeText(e.Bytes), saves, verb.Ago(now.Sub(e.UsedAt.Std())), verb.Dash(e.BuildID),
		})
	}
	return rows
}

// sizeText shows a number of bytes to people.
func sizeText(n int64) string {
	value, unit := float64(n), "B"
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, larger
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}

type cacheWhyCmd struct {
	Build string `arg:"" placeholder:"BUILD" help:"The build's id."`
	Task  string `arg:"" placeholder:"TASK" help:"The task's name, or install or build."`
	cacheConnection
	JSON bool `name:"json" help:"Print the answer as JSON."`
}

// Help returns the text below the summary in the verb's help.
func (cacheWhyCmd) Help() string {
	return `
Examples:

    buildcast cache why 01JD8Y6V9S3P4ZK0GQ2M5T7XWA "Compile styles"
    buildcast cache why 01JD8Y6V9S3P4ZK0GQ2M5T7XWA build

The task's key is compared with that of the last build of the project whose result is
kept. docs/cache.md says what keys are made of.`
}

func (w *cacheWhyCmd) Run(s *verb.Session) error {
	return w.with(s, false, func(ctx context.Context, c cacheService) error {
		why, err := c.why(ctx, w.Build, w.Task)
		if err != nil {
			return err
		}
		if w.JSON {
			return s.PrintJSON(why)
		}
		for _, line := range explainCache(&why) {
			s.Print("%s", progress.Clean(line))
		}
		return nil
	})
}

func explainCache(why *buildcast.CacheReason) (lines []string) {
	what := fmt.Sprintf("task %q", why.Name)
	if stage, ok := strings.CutPrefix(why.Name, cache.StageName("")); ok {
		what = "the " + stage + " command"
	}
	what += " of build " + why.BuildID
	switch {
	case why.Cached:
		return []string{fmt.Sprintf("%s was taken from the cache: build %s had made the same.", what, why.OriginBuildID)}
	case len(why.Changes) > 0:
		lines = append(lines, fmt.Sprintf("%s ran: compared with build %s,", what, why.Before))
		for _, c := range why.Changes {
			lines = append(lines, "  "+c.String())
		}
		if why.More > 0 {
			lines = append(lines, fmt.Sprintf("  and %d more", why.More))
		}
	case why.Before != "":
		lines = append(lines, fmt.Sprintf("%s ran: build %s had the same key, but its result was not in the cache.", what, why.Before))
	case why.Note == "":
		lines = append(lines, what+" ran: the cache had no result of an earlier build of its project.")
	}
	if why.Note != "" {
		lines = append(lines, fmt.Sprintf("%s is not in the cache: %s.", what, why.Note))
	}
	return lines
}

type cachePruneCmd struct {
	cacheConnection
	OlderThan time.Duration `default:"168h" placeholder:"DURATION" help:"Remove what was not used for so long, such as 24h; 0s removes everything."`
	JSON      bool          `name:"json" help:"Print the result as JSON."`
}

func (p *cachePruneCmd) Run(s *verb.Session) error {
	if p.OlderThan < 0 {
		return verb.Usage("--older-than is %v: use 0s or more", p.OlderThan)
	}
	return p.with(s, true, func(ctx context.Context, c cacheService) error {
		done, err := c.prune(ctx, p.OlderThan)
		if err != nil {
			return err
		}
		if p.JSON {
			return s.PrintJSON(done)
		}
		s.Print("%d entries removed, %s; %s left", done.Entries, sizeText(done.RemovedBytes), sizeText(done.Bytes))
		return nil
	})
}
