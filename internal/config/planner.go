package config

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The names of planners; see package planner.
const (
	plannerStatic    = "static"
	plannerCommand   = "command"
	plannerAnthropic = "anthropic"
)

// Planning configures what planners do, and what they may spend.
type Planning struct {
	// Command is the planner command, for /bin/sh. Empty: there is no such planner.
	Command string `placeholder:"CMD" help:"Planner command: reads a request as JSON and writes a plan or files as JSON (docs/planner.md). With it there is a planner called command. It runs outside the sandbox."`
	// Timeout bounds one answer.
	Timeout time.Duration `default:"10m" placeholder:"DURATION" help:"How long a planner may take for one answer."`
	// MaxTokens bounds one answer.
	MaxTokens int64 `default:"32000" placeholder:"N" help:"Tokens that one answer of a model may have."`
	// The budgets; 0 means none. MaxCost is in US dollars.
	MaxTokensBuild int64   `default:"500000" placeholder:"N" help:"Tokens that the answers for one build may take, those of the questions included. 0: no limit."`
	MaxTokensDay   int64   `default:"10000000" placeholder:"N" help:"Tokens that all answers of a day (UTC) may take. 0: no limit."`
	MaxCostBuild   float64 `default:"5" placeholder:"USD" help:"Money that the answers for one build may cost, in US dollars. 0: no limit."`
	MaxCostDay     float64 `default:"50" placeholder:"USD" help:"Money that all answers of a day (UTC) may cost, in US dollars. 0: no limit."`
	// Prices are MODEL=INPUT/OUTPUT, in US dollars for a million tokens.
	Prices []Price `placeholder:"MODEL=IN/OUT" help:"Prices of models, in US dollars for a million tokens of questions and of answers, such as claude-sonnet-5-5=2/10. They override the list that buildcast knows."`
}

// Model configures the planner anthropic. Its variables have Anthropic's own names.
type Model struct {
	// APIKey is needed. Empty: there is no such planner.
	APIKey string `name:"api-key" env:"ANTHROPIC_API_KEY" placeholder:"KEY" help:"API key of Anthropic. With it there is a planner called anthropic: prompts, plans and files of workspaces are sent to Anthropic. @FILE reads it from a file. Flags are visible in process lists: use the environment or a file."`
	// BaseURL is where the API is.
	BaseURL string `name:"base-url" env:"ANTHROPIC_BASE_URL" default:"https://api.anthropic.com" placeholder:"URL" help:"Address of Anthropic's API, or of a gateway that imitates it."`
	// Strict asks for answers that follow the schema.
	Strict bool `help:"Let Anthropic hold the model to the schema of answers. Gateways may not know it."`
}

// Price is what a model costs, in US dollars for a million tokens.
type Price struct {
	Model         string
	Input, Output float64
}

// UnmarshalText reads MODEL=INPUT/OUTPUT.
func (p *Price) UnmarshalText(b []byte) error {
	model, prices, _ := strings.Cut(string(b), "=")
	input, output, _ := strings.Cut(prices, "/")
	var errIn, errOut error
	p.Model = model
	p.Input, errIn = strconv.ParseFloat(input, 64)
	p.Output, errOut = strconv.ParseFloat(output, 64)
	if model == "" || errIn != nil || errOut != nil || !(p.Input >= 0 && p.Output >= 0 && p.Input < 1e6 && p.Output < 1e6) {
		return fmt.Errorf("%q is not a price: use MODEL=INPUT/OUTPUT in US dollars for a million tokens, such as claude-sonnet-5-5=2/10", b)
	}
	return nil
}

// DefaultPlanner returns the planner of builds that name none; empty: there is none.
func (c *Config) DefaultPlanner() string {
	switch {
	case c.Planner != "":
		return c.Planner
	case c.Planning.Command != "":
		return plannerCommand
	case c.Anthropic.APIKey != "":
		return plannerAnthropic
	}
	return ""
}

func (c *Config) checkPlanner() error {
	switch {
	case !slices.Contains([]string{"", plannerStatic, plannerCommand, plannerAnthropic}, c.Planner):
		return invalid("--planner", "%q is not a planner: use %s, %s or %s", c.Planner, plannerAnthropic, plannerCommand, plannerStatic)
	case c.Planner == plannerCommand && c.Planning.Command == "":
		return invalid("--planner", "it is command, and there is none: set --planner-command")
	case c.Planner == plannerAnthropic && c.Anthropic.APIKey == "":
		return invalid("--planner", "it is anthropic, and there is no key: set ANTHROPIC_API_KEY")
	case strings.TrimSpace(c.Model) == "" || len(c.Model) > 200:
		return invalid("--model", "it is empty or too long: name a model, such as claude-sonnet-5-5")
	}
	return c.Planning.check()
}

func (p *Planning) check() error {
	if p.Timeout < time.Second || p.Timeout > time.Hour {
		return invalid("--planner-timeout", "it is %v: use 1s to 1h", p.Timeout)
	}
	if p.MaxTokens < 1024 || p.MaxTokens > 128_000 {
		return invalid("--planner-max-tokens", "it is %d: use 1024 to 128000", p.MaxTokens)
	}
	for flag, n := range map[string]int64{"--planner-max-tokens-build": p.MaxTokensBuild, "--planner-max-tokens-day": p.MaxTokensDay} {
		if n < 0 {
			return invalid(flag, "it is %d: use a number of tokens, or 0 for no limit", n)
		}
	}
	for flag, usd := range map[string]float64{"--planner-max-cost-build": p.MaxCostBuild, "--planner-max-cost-day": p.MaxCostDay} {
		if !(usd >= 0 && usd < 1e9) {
			return invalid(flag, "it is %v: use an amount of US dollars such as 2.50, or 0 for no limit", usd)
		}
	}
	return nil
}

func (m *Model) readSecrets() (err error) {
	m.APIKey, err = Secret("--anthropic-api-key", m.APIKey)
	return err
}

func (m *Model) check() error {
	if u, err := url.Parse(m.BaseURL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return invalid("--anthropic-base-url", "it is not an address such as https://api.anthropic.com")
	}
	if strings.ContainsFunc(m.APIKey, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return invalid("--anthropic-api-key", "it holds spaces or characters beyond ASCII: check that it is the key alone")
	}
	return nil
}
