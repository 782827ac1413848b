package server

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/oklog/ulid/v2"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/httpapi"
	"github.com/buildcast/buildcast/internal/planner"
)

// plans makes plans that no build asked for.
type plans struct{ *planner.Service }

// Plan implements httpapi.Planners.
func (p plans) Plan(ctx context.Context, asked httpapi.PlanRequest) (httpapi.Planned, error) {
	return p.make(ctx, asked, func(planner.Progress) {})
}

// make asks the planner as a build would: within the budgets, and at no cost if the
// answer is kept.
func (p plans) make(ctx context.Context, asked httpapi.PlanRequest, told progressFunc) (httpapi.Planned, error) {
	b := p.Begin(planner.Build{
		ID: ulid.Make().String(), Created: buildcast.Now(), Project: asked.Project,
		Prompt: asked.Prompt, Planner: asked.Planner, Fresh: asked.NoCache,
	})
	plan, model, err := p.Service.Plan(ctx, b, told)
	if failed, ok := errors.AsType[*planner.Error](err); ok {
		text := failed.Message
		if failed.RequestID != "" {
			text += " (request " + failed.RequestID + ")"
		}
		return httpapi.Planned{}, buildcast.Errorf(buildcast.PlanningFailed, "%s", text).Because(failed.Err)
	}
	if err != nil {
		return httpapi.Planned{}, err
	}
	return httpapi.Planned{Plan: plan, Planner: cmp.Or(asked.Planner, p.Default()), Model: model}, nil
}

// progressFunc is told how far a planner is.
type progressFunc func(planner.Progress)

// Progress implements planner.Watcher.
func (f progressFunc) Progress(p planner.Progress) { f(p) }

// Answered implements planner.Watcher.
func (progressFunc) Answered(planner.Answered) {}

// MakePlan makes a plan without a server, and runs nothing. It holds the data directory
// while it does, which has the answers of planners and what was spent today. The config
// must have been checked. Errors are *buildcast.Error, or the cause of ctx's end.
func MakePlan(ctx context.Context, cfg *config.Config, asked httpapi.PlanRequest, told func(planner.Progress)) (httpapi.Planned, error) {
	dir, err := openDataDir(cfg.DataDir)
	if err != nil {
		return httpapi.Planned{}, err
	}
	defer dir.close()
	quiet := slog.New(slog.DiscardHandler)
	p := plans{newPlanners(cfg, filepath.Join(dir.path, "planner"), openCache(cfg, filepath.Join(dir.path, "cache"), quiet), quiet)}
	if err := p.Check(asked.Planner); err != nil {
		return httpapi.Planned{}, err
	}
	return p.make(ctx, asked, told)
}
