package planner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/buildcast/buildcast"
)

// The names of planners.
const (
	// Static is the planner that makes nothing: the plan is in the request.
	Static    = "static"
	Command   = "command"
	Anthropic = "anthropic"
)

// Kind is one planner of a Service.
type Kind struct {
	Planner
	// Identity is what, besides the request, an answer depends on, such as the model: a
	// kept answer of one identity is not used for another.
	Identity string
	// MaxOutput is the maximum of an answer, in tokens. 0: the planner counts no tokens,
	// and its requests are not held against budgets.
	MaxOutput int64
	// Price is nil if it is not known.
	Price *Price
}

// Config configures a Service.
type Config struct {
	Kinds   map[string]Kind // by name; Static needs no entry
	Default string          // the name of the planner if a build names none; empty: none
	Memo    Memo
	// Ledger is the file that keeps what was spent today; empty: it is not kept.
	Ledger   string
	PerBuild Spend        // limit; a zero field: none
	PerDay   Spend        // limit; a zero field: none
	Logger   *slog.Logger // nil: slog's default
}

// Service asks planners. It may be used by many goroutines.
type Service struct {
	config Config
	day    *ledger
}

// New returns a service.
func New(cfg Config) *Service {
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	return &Service{config: cfg, day: newLedger(cfg.Ledger, cfg.PerDay, cfg.Logger)}
}

// Names returns the names that a build may give as its planner.
func (s *Service) Names() []string {
	return slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(s.config.Kinds)), Static)))
}

// Default returns the name of the planner of builds that name none; empty: there is
// none.
func (s *Service) Default() string { return s.config.Default }

// Check reports whether the planner can be asked. name is a build's choice; empty means
// the default. The error is a *buildcast.Error.
func (s *Service) Check(name string) error {
	_, err := s.kind(name)
	return err
}

func (s *Service) kind(name string) (Kind, error) {
	asked := cmp.Or(name, s.config.Default)
	switch kind, ok := s.config.Kinds[asked]; {
	case ok:
		return kind, nil
	case len(s.config.Kinds) == 0:
		return kind, buildcast.Errorf(buildcast.NoPlanner, "this server has no planner to ask with a prompt: send a plan, or start the server with ANTHROPIC_API_KEY or --planner-command").At("planner")
	case asked == Static:
		return kind, buildcast.Errorf(buildcast.NoPlanner, "the planner static answers no prompts: send a plan without prompts, or name another planner (%s)", s.others()).At("planner")
	case name == "":
		return kind, buildcast.Errorf(buildcast.NoPlanner, "this server has no default planner: name one (%s)", s.others()).At("planner")
	}
	return Kind{}, buildcast.Errorf(buildcast.InvalidArgument, "planner %q is not set up on this server: use one of %s", short(name), strings.Join(s.Names(), ", ")).At("planner")
}

func (s *Service) others() string {
	return strings.Join(slices.Sorted(maps.Keys(s.config.Kinds)), ", ")
}

// Build is a build that asks planners. It may be used by many goroutines.
type Build struct {
	ID      string
	Created buildcast.Time
	Project string
	Prompt  string
	Planner string // empty: the default
	Fresh   bool   // kept answers of other builds are not used
	Spent   Spend  // before this run
	Attempt int    // of the task, from 1

	purse *purse
}

// Begin prepares the build for questions.
func (s *Service) Begin(b Build) *Build {
	b.purse = &purse{
		of: "this build", flags: "--planner-max-tokens-build and --planner-max-cost-build",
		limit: s.config.PerBuild, used: b.Spent,
	}
	return &b
}

// ForAttempt returns the build for this attempt of a task.
func (b *Build) ForAttempt(n int) *Build {
	c := *b
	c.Attempt = n
	return &c
}

func (b *Build) attemptOf(req *Request) int {
	if req.Task == nil {
		return 1
	}
	return max(b.Attempt, 1)
}

// Answered is one answer that a build used.
type Answered struct {
	// Request names the request. The same answer has the same name, also after a crash.
	Request string
	Purpose Purpose
	Task    string
	Planner string
	Usage
	// Cached: it was paid by another build.
	Cached bool
	// Failed: it was paid, but is of no use.
	Failed bool
}

// Watcher follows a question.
type Watcher interface {
	Progress(p Progress)
	// Answered is called for each answer, before it is used.
	Answered(a Answered)
}

// Plan makes a plan of the build's prompt. model is which model made it; empty: that is
// not known. The error is an *Error, a *buildcast.Error, or the cause of ctx's end.
func (s *Service) Plan(ctx context.Context, b *Build, w Watcher) (plan *buildcast.Plan, model string, err error) {
	req := Request{Version: Version, Purpose: ForPlan, Project: b.Project, Prompt: b.Prompt}
	model, err = s.accepted(ctx, b, req, w, func(body json.RawMessage) (err error) {
		plan, err = ReadPlan(body)
		return err
	})
	return plan, model, err
}

// Files makes the files of a task of the plan. context are the files of the workspace.
func (s *Service) Files(ctx context.Context, b *Build, plan *buildcast.Plan, task Task, context []File, w Watcher) (files map[string]buildcast.File, err error) {
	req := Request{
		Version: Version, Purpose: ForFiles, Project: b.Project, Prompt: b.Prompt,
		Plan: OutlineOf(plan), Task: &task, Files: context,
	}
	_, err = s.accepted(ctx, b, req, w, func(body json.RawMessage) (err error) {
		files, err = ReadFiles(body)
		return err
	})
	return files, err
}

// accepted asks until read accepts the answer, at most twice. Only an answer that was
// accepted is kept for other builds.
func (s *Service) accepted(ctx context.Context, b *Build, req Request, w Watcher, read func(json.RawMessage) error) (model string, err error) {
	kind, err := s.kind(b.Planner)
	if err != nil {
		return "", err
	}
	first, err := b.keys(kind, &req)
	if err != nil {
		return "", err
	}
	answer, err := s.ask(ctx, b, kind, req, w)
	if err != nil {
		return "", err
	}
	problem := read(answer.Body)
	if problem != nil {
		w.Progress(Progress{Lines: []string{"[the planner's answer is not valid; it is asked once more]"}})
		req.Previous, req.Problem = answer.Body, bounded(problem.Error())
		if answer, err = s.ask(ctx, b, kind, req, w); err != nil {
			return "", err
		}
		if problem = read(answer.Body); problem != nil {
			return "", &Error{
				Message:   fmt.Sprintf("the planner's answer is not valid, even after it was told what was wrong with the first one: %s", bounded(problem.Error())),
				RequestID: answer.Usage.RequestID, Final: true,
			}
		}
	}
	s.put(ctx, first.shared, answer)
	return answer.Usage.Model, nil
}

// ask returns the answer that is kept, or asks the planner.
func (s *Service) ask(ctx context.Context, b *Build, kind Kind, req Request, w Watcher) (entry, error) {
	keys, err := b.keys(kind, &req)
	if err != nil {
		return entry{}, err
	}
	told := Answered{Request: keys.own[:16], Purpose: req.Purpose, Planner: cmp.Or(b.Planner, s.config.Default)}
	if req.Task != nil {
		told.Task = req.Task.Name
	}
	kept, ok := s.recall(ctx, b, keys)
	if !ok {
		if kept, err = s.pay(ctx, b, kind, req, keys, w); err != nil {
			return entry{}, err
		}
	}
	told.Usage, told.Cached, told.Failed = kept.Usage, kept.Build != b.ID, kept.Failure != ""
	w.Answered(told)
	if kept.Failure != "" {
		return entry{}, &Error{Message: kept.Failure, RequestID: kept.Usage.RequestID, Final: true}
	}
	return kept, nil
}

func (s *Service) recall(ctx context.Context, b *Build, k keys) (entry, bool) {
	for _, key := range []string{k.own, k.failed} {
		if e, ok := s.get(ctx, key); ok {
			return e, true
		}
	}
	if b.Fresh {
		return entry{}, false
	}
	e, ok := s.get(ctx, k.shared)
	if ok {
		s.put(ctx, k.own, e) // the same answer again, whatever happens to the shared one
	}
	return e, ok
}

// pay asks the planner within the budgets, and keeps what was paid for.
func (s *Service) pay(ctx context.Context, b *Build, kind Kind, req Request, k keys, w Watcher) (entry, error) {
	var part held
	if kind.MaxOutput > 0 {
		var err error
		if part, err = s.hold(ctx, b, kind, &req); err != nil {
			return entry{}, err
		}
		req.MaxOutput = part.output
	}
	answer, err := kind.Ask(ctx, req, w.Progress)
	e, key := entry{Build: b.ID, Body: answer.Body, Usage: answer.Usage}, k.own
	failed, ok := errors.AsType[*Error](err)
	paid := err == nil
	if ok && failed.Usage != nil {
		e, key, paid = entry{Build: b.ID, Usage: *failed.Usage, Failure: failed.Message}, k.failed, true
	}
	if paid && kind.Price != nil && e.Usage.CostUSD == nil {
		cost := kind.Price.Cost(&e.Usage)
		e.Usage.CostUSD = &cost
	}
	if paid && (err == nil || failed.Final) {
		s.put(ctx, key, e)
	}
	s.settle(b, part, SpendOf(&e.Usage))
	if paid {
		return e, nil // of a failure too: ask reports its usage
	}
	return entry{}, err
}

// held is what a request under way may cost, in both purses.
type held struct {
	build, day Spend
	output     int64 // tokens that the answer may have
}

// hold takes what the request may cost out of both purses.
func (s *Service) hold(ctx context.Context, b *Build, kind Kind, req *Request) (held, error) {
	content, err := json.Marshal(req)
	if err != nil {
		return held{}, fmt.Errorf("encode the request: %w", err)
	}
	// Three bytes a token is more than text has; the rest is the planner's instructions.
	w := want{input: int64(len(content))/3 + 2000, output: kind.MaxOutput, price: kind.Price}
	if w, err = b.purse.hold(ctx, w); err != nil {
		return held{}, err
	}
	day, err := s.day.hold(ctx, w)
	if err != nil {
		b.purse.settle(w.spend(), Spend{})
		return held{}, err
	}
	return held{build: w.spend(), day: day.spend(), output: day.output}, nil
}

func (s *Service) settle(b *Build, h held, spent Spend) {
	b.purse.settle(h.build, spent)
	s.day.settle(h.day, spent)
}

// maxProblem bounds what an error tells of an answer's mistakes.
const maxProblem = 4 << 10

func bounded(text string) string {
	if len(text) > maxProblem {
		return strings.ToValidUTF8(text[:maxProblem], "") + "…"
	}
	return text
}
