package planner

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a planner that gives answers in turn, each of 100 + 50 tokens.
type script struct {
	answers []any // a string is a body, an error an error

	mu    sync.Mutex
	asked []Request
}

func (s *script) Ask(_ context.Context, req Request, _ func(Progress)) (Answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, req)
	switch a := s.answers[min(len(s.asked), len(s.answers))-1].(type) {
	case error:
		return Answer{}, a
	default:
		return Answer{Body: json.RawMessage(a.(string)), Usage: Usage{Model: "m", RequestID: "req", InputTokens: 100, OutputTokens: 50}}, nil
	}
}

// seen is a Watcher that keeps what it sees.
type seen struct {
	mu       sync.Mutex
	answered []Answered
}

func (s *seen) Progress(Progress) {}

func (s *seen) Answered(a Answered) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answered = append(s.answered, a)
}

const (
	goodPlan = `{"name":"Bakery","tasks":[{"name":"a","prompt":"write a"}]}`
	badPlan  = `{"name":"Bakery","tasks":[{"name":"a","files":[{"path":"../evil","content":""}]}]}`
)

func newService(dir string, p *script, change ...func(*Config)) *Service {
	price := PriceOf(2, 10)
	cfg := Config{
		Kinds:   map[string]Kind{"model": {Planner: p, Identity: "m", MaxOutput: 4096, Price: &price}},
		Default: "model", Memo: Kept{openCache(dir)}, Ledger: filepath.Join(dir, "spent.json"),
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&cfg)
	}
	return New(cfg)
}

func openCache(dir string) *cache.Cache {
	c, err := cache.Open(cache.Config{Dir: filepath.Join(dir, "cache")})
	if err != nil {
		panic(err)
	}
	return c
}

func begin(s *Service, id string, change ...func(*Build)) *Build {
	b := Build{ID: id, Created: buildcast.TimeOf(time.Unix(1_800_000_000, 0)), Prompt: "a bakery"}
	for _, c := range change {
		c(&b)
	}
	return s.Begin(b)
}

// The same build never pays twice for an answer, whatever process asks; another build
// with the same prompt gets the answer for nothing, unless it wants none that is kept.
func TestAnAnswerIsPaidOnce(t *testing.T) {
	dir, p := t.TempDir(), &script{answers: []any{goodPlan}}
	for i, tt := range []struct {
		id     string
		fresh  bool
		calls  int
		cached bool
	}{
		{"b1", false, 1, false},
		{"b1", false, 1, false}, // after a crash
		{"b2", false, 1, true},
		{"b3", true, 2, false},
		{"b3", true, 2, false}, // after a crash
	} {
		s, w := newService(dir, p), &seen{} // a new process
		plan, model, err := s.Plan(t.Context(), begin(s, tt.id, func(b *Build) { b.Fresh = tt.fresh }), w)
		if err != nil || plan.Name != "Bakery" || model != "m" {
			t.Fatal(plan, model, err)
		}
		if len(p.asked) != tt.calls || len(w.answered) != 1 || w.answered[0].Cached != tt.cached {
			t.Errorf("%d: %d calls, answered %+v", i, len(p.asked), w.answered)
		}
		if cost := w.answered[0].CostUSD; cost == nil || *cost != 0.0007 {
			t.Errorf("%d: cost %v", i, cost)
		}
	}
}

// A task that was cut off finds its answer again, although the workspace has changed
// since; another task does not.
func TestFilesArePaidOnce(t *testing.T) {
	dir, p := t.TempDir(), &script{answers: []any{`{"files":[{"path":"a.html","content":"1"}]}`}}
	plan := &buildcast.Plan{Name: "x", Tasks: []buildcast.Task{{Name: "a", Prompt: "write"}, {Name: "b", Prompt: "write"}}}
	ask := func(task string, attempt int, files ...File) {
		t.Helper()
		s := newService(dir, p)
		made, err := s.Files(t.Context(), begin(s, "b1").ForAttempt(attempt), plan, Task{Name: task, Prompt: "write"}, files, &seen{})
		if err != nil || string(made["a.html"].Content) != "1" {
			t.Fatal(made, err)
		}
	}
	ask("a", 1)
	ask("a", 1, File{Path: "a.html", Size: 1}) // after a crash
	ask("a", 2, File{Path: "a.html", Size: 1}) // after its command has failed
	if len(p.asked) != 1 {
		t.Errorf("%d calls", len(p.asked))
	}
	if ask("b", 1); len(p.asked) != 2 {
		t.Errorf("%d calls", len(p.asked))
	}
}

// An answer that is wrong goes back once, with what is wrong. It is never used for
// another build.
func TestRepair(t *testing.T) {
	dir, p := t.TempDir(), &script{answers: []any{badPlan, goodPlan}}
	s, w := newService(dir, p), &seen{}
	if _, _, err := s.Plan(t.Context(), begin(s, "b1"), w); err != nil {
		t.Fatal(err)
	}
	if len(p.asked) != 2 || string(p.asked[1].Previous) != badPlan || !strings.Contains(p.asked[1].Problem, `path "../evil" is not allowed`) {
		t.Fatalf("%+v", p.asked)
	}
	if len(w.answered) != 2 || w.answered[0].Request == w.answered[1].Request {
		t.Errorf("%+v", w.answered)
	}
	again := &seen{} // after a crash: both answers are known
	if _, _, err := s.Plan(t.Context(), begin(s, "b1"), again); err != nil || len(p.asked) != 2 || again.answered[1].Request != w.answered[1].Request {
		t.Error(err, len(p.asked), again.answered)
	}
	if _, _, err := s.Plan(t.Context(), begin(s, "b2"), again); err != nil || len(p.asked) != 2 {
		t.Error("the repaired answer is not shared", err, len(p.asked))
	}
}

func TestWrongTwice(t *testing.T) {
	p := &script{answers: []any{badPlan}}
	s := newService(t.TempDir(), p)
	_, _, err := s.Plan(t.Context(), begin(s, "b1"), &seen{})
	e, ok := errors.AsType[*Error](err)
	if !ok || len(p.asked) != 2 || e.RequestID != "req" || !strings.Contains(e.Message, "even after it was told what was wrong") || !strings.Contains(e.Message, "../evil") {
		t.Errorf("%+v, %d calls", e, len(p.asked))
	}
	p.answers = []any{goodPlan}
	if _, _, err := s.Plan(t.Context(), begin(s, "b2"), &seen{}); err != nil {
		t.Errorf("another build inherits the bad answer: %v", err)
	}
}

// A refusal that was paid is not paid again after a crash, but the next attempt of a
// task, or another build, asks again.
func TestPaidFailure(t *testing.T) {
	dir := t.TempDir()
	refusal := &Error{Message: "the model refuses", Final: true, Usage: &Usage{RequestID: "req", InputTokens: 5}}
	p := &script{answers: []any{refusal}}
	for i, tt := range []struct {
		id    string
		calls int
	}{{"b1", 1}, {"b1", 1}, {"b2", 2}} {
		s, w := newService(dir, p), &seen{}
		_, _, err := s.Plan(t.Context(), begin(s, tt.id), w)
		if e, ok := errors.AsType[*Error](err); !ok || e.Message != "the model refuses" || e.RequestID != "req" {
			t.Errorf("%d: %v", i, err)
		}
		if len(p.asked) != tt.calls || len(w.answered) != 1 || !w.answered[0].Failed {
			t.Errorf("%d: %d calls, %+v", i, len(p.asked), w.answered)
		}
	}
}

func TestBudgets(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Config)
		spent  Spend
		want   string // a part of the error; empty: none
	}{
		"none":             {func(*Config) {}, Spend{Tokens: 1 << 40, USD: 1e6}, ""},
		"tokens of build":  {func(c *Config) { c.PerBuild.Tokens = 10_000 }, Spend{Tokens: 9000}, "the planner's budget of this build does not suffice for another answer: 9000 of 10000 tokens are used; the server's operator can raise it with --planner-max-tokens-build"},
		"money of build":   {func(c *Config) { c.PerBuild.USD = 1 }, Spend{USD: 0.999}, "$1.00 of $1.00 are used"},
		"tokens of day":    {func(c *Config) { c.PerDay.Tokens = 2500 }, Spend{}, "budget of today (UTC)"},
		"enough":           {func(c *Config) { c.PerBuild = Spend{Tokens: 50_000, USD: 1}; c.PerDay = Spend{Tokens: 50_000, USD: 1} }, Spend{}, ""},
		"a shorter answer": {func(c *Config) { c.PerBuild.Tokens = 5000 }, Spend{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := &script{answers: []any{goodPlan}}
			s := newService(t.TempDir(), p, tt.change)
			_, _, err := s.Plan(t.Context(), begin(s, "b1", func(b *Build) { b.Spent = tt.spent }), &seen{})
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || len(p.asked) > 0):
				t.Errorf("got %v after %d calls", err, len(p.asked))
			case name == "a shorter answer" && (p.asked[0].MaxOutput >= 4096 || p.asked[0].MaxOutput < minOutput):
				t.Errorf("the answer may have %d tokens", p.asked[0].MaxOutput)
			}
		})
	}
}

// The day's budget outlives the process, and ends with the day.
func TestDayIsKept(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2027, 1, 2, 23, 0, 0, 0, time.UTC)
	open := func() *ledger {
		l := newLedger(filepath.Join(dir, "spent.json"), Spend{Tokens: 4000}, slog.Default())
		l.now = func() time.Time { return now }
		return l
	}
	l := open()
	w, err := l.hold(t.Context(), want{input: 1000, output: 2000})
	if err != nil {
		t.Fatal(err)
	}
	l.settle(w.spend(), Spend{Tokens: 3500})
	if _, err := open().hold(t.Context(), want{input: 1000, output: 2000}); err == nil {
		t.Error("a restart has begun the day again")
	}
	now = now.Add(2 * time.Hour)
	if _, err := open().hold(t.Context(), want{input: 1000, output: 2000}); err != nil {
		t.Errorf("the next day: %v", err)
	}
}

// Requests at the same time do not pass the limit together: the second waits for what
// the first gives back.
func TestPurseIsNotPassedTogether(t *testing.T) {
	p := &purse{of: "this build", limit: Spend{Tokens: 10_000}}
	first, err := p.hold(t.Context(), want{input: 1000, output: 8000})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		_, err := p.hold(t.Context(), want{input: 1000, output: 8000})
		got <- err
	}()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.hold(ctx, want{input: 1000, output: 8000}); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that has no room: %v", err)
	}
	p.settle(first.spend(), Spend{Tokens: 500})
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// An unknown price counts no money, but tokens.
func TestUnknownPrice(t *testing.T) {
	p := &script{answers: []any{goodPlan}}
	s := newService(t.TempDir(), p, func(c *Config) {
		c.Kinds["model"] = Kind{Planner: p, Identity: "m", MaxOutput: 4096}
		c.PerBuild = Spend{Tokens: 1000, USD: 0.000001}
	})
	if _, _, err := s.Plan(t.Context(), begin(s, "b1"), &seen{}); err == nil {
		t.Error("the budget of tokens does not hold")
	}
	s = newService(t.TempDir(), p, func(c *Config) {
		c.Kinds["model"] = Kind{Planner: p, Identity: "m", MaxOutput: 4096}
		c.PerBuild = Spend{USD: 0.000001}
	})
	w := &seen{}
	if _, _, err := s.Plan(t.Context(), begin(s, "b1"), w); err != nil || w.answered[0].CostUSD != nil {
		t.Error(err, w.answered)
	}
}

func TestCheck(t *testing.T) {
	p := &script{}
	none := New(Config{})
	only := newService(t.TempDir(), p)
	static := newService(t.TempDir(), p, func(c *Config) { c.Default = Static })
	for _, tt := range []struct {
		s    *Service
		name string
		code buildcast.Code
	}{
		{none, "", buildcast.NoPlanner},
		{none, "model", buildcast.NoPlanner},
		{none, Static, buildcast.NoPlanner},
		{only, "", ""},
		{only, "model", ""},
		{only, Static, buildcast.NoPlanner},
		{only, "oracle", buildcast.InvalidArgument},
		{static, "", buildcast.NoPlanner},
		{static, "model", ""},
	} {
		if err := tt.s.Check(tt.name); buildcast.CodeOf(err) != tt.code {
			t.Errorf("%q of %v: %v", tt.name, tt.s.Names(), err)
		}
	}
}

// An entry of the memo that is damaged is asked again.
func TestDamagedMemo(t *testing.T) {
	dir, p := t.TempDir(), &script{answers: []any{goodPlan}}
	s := newService(dir, p)
	if _, _, err := s.Plan(t.Context(), begin(s, "b1"), &seen{}); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "cache", "entries", "*", "planned", "*", "*"))
	for _, f := range files {
		if err := os.WriteFile(f, []byte(`{"build":`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Plan(t.Context(), begin(s, "b1"), &seen{}); err != nil || len(p.asked) != 2 || len(files) != 2 {
		t.Error(err, len(p.asked), files)
	}
}

// Clean removes what was not written to its end, and nothing else.
func TestClean(t *testing.T) {
	dir := t.TempDir()
	spent := filepath.Join(dir, "spent.json")
	if err := errors.Join(writeFile(spent, []byte("kept")), os.WriteFile(filepath.Join(dir, ".new-1"), []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := Clean(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "spent.json" {
		t.Errorf("%v, %v", left, err)
	}
	if err := Clean(filepath.Join(dir, "absent")); err != nil {
		t.Errorf("nothing to clean: %v", err)
	}
}
