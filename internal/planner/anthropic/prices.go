package anthropic

import "github.com/buildcast/buildcast/internal/planner"

// Prices are those that Anthropic published in October 2026, in US dollars for a million
// tokens of input and output. Haiku 5.5 costs more for prompts beyond 100,000 tokens,
// which ours never have.
var Prices = map[string]planner.Price{
	"claude-fable-5-1":  planner.PriceOf(10, 50),
	"claude-opus-5-5":   planner.PriceOf(4, 20),
	"claude-sonnet-5-5": planner.PriceOf(2, 10),
	"claude-haiku-5-5":  planner.PriceOf(0.10, 0.50),
	"claude-opus-5":     planner.PriceOf(5, 25),
	"claude-sonnet-5":   planner.PriceOf(2, 10),
}
