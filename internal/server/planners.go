package server

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/planner"
	"github.com/buildcast/buildcast/internal/planner/anthropic"
	"github.com/buildcast/buildcast/internal/planner/command"
)

// Names below the data directory's planner/.
const (
	plannerRequests = "requests"
	plannerSpent    = "spent.json"
)

// openPlanners returns the server's planners. What a killed server left of its requests,
// and of what it was writing, is removed.
func (s *Server) openPlanners() (*planner.Service, error) {
	err := errors.Join(os.RemoveAll(s.file("planner/"+plannerRequests)), planner.Clean(s.file("planner")))
	if err != nil {
		return nil, dirError(s.config.DataDir, "cannot be written", err)
	}
	return newPlanners(&s.config, s.file("planner"), s.cache, s.logger), nil
}

// newPlanners returns the planners that the settings set up. dir holds their requests
// and what was spent, and the cache their answers.
func newPlanners(cfg *config.Config, dir string, answers *cache.Cache, logger *slog.Logger) *planner.Service {
	kinds := map[string]planner.Kind{}
	if c := cfg.Planning.Command; c != "" {
		kinds[planner.Command] = planner.Kind{
			Planner:  command.New(command.Config{Command: c, Dir: filepath.Join(dir, plannerRequests), Timeout: cfg.Planning.Timeout}),
			Identity: "command " + c,
		}
	}
	if a := cfg.Anthropic; a.APIKey != "" {
		kinds[planner.Anthropic] = planner.Kind{
			Planner: anthropic.New(anthropic.Config{
				APIKey: a.APIKey, BaseURL: a.BaseURL, Model: cfg.Model, Strict: a.Strict, Timeout: cfg.Planning.Timeout,
			}),
			Identity:  "anthropic " + a.BaseURL + " " + cfg.Model,
			MaxOutput: cfg.Planning.MaxTokens,
			Price:     priceOf(cfg),
		}
	}
	return planner.New(planner.Config{
		Kinds: kinds, Default: cfg.DefaultPlanner(),
		Memo: planner.Kept{Cache: answers}, Ledger: filepath.Join(dir, plannerSpent),
		PerBuild: planner.Spend{Tokens: cfg.Planning.MaxTokensBuild, USD: cfg.Planning.MaxCostBuild},
		PerDay:   planner.Spend{Tokens: cfg.Planning.MaxTokensDay, USD: cfg.Planning.MaxCostDay},
		Logger:   logger,
	})
}

// priceOf returns the model's price: the operator's, or the one that buildcast knows.
// Nil: it is not known.
func priceOf(cfg *config.Config) *planner.Price {
	for _, p := range cfg.Planning.Prices {
		if p.Model == cfg.Model {
			price := planner.PriceOf(p.Input, p.Output)
			return &price
		}
	}
	if price, ok := anthropic.Prices[cfg.Model]; ok {
		return &price
	}
	return nil
}
