package pipeline

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cache"
	"github.com/buildcast/buildcast/internal/pipeline/report"
	"github.com/buildcast/buildcast/internal/planner"
	"github.com/buildcast/buildcast/internal/planner/anthropic"
	"github.com/buildcast/buildcast/internal/planner/anthropic/anthropictest"
	"github.com/buildcast/buildcast/internal/store"
)

type (
	call  = anthropictest.Call
	reply = anthropictest.Reply
)

// asking returns a change of the pipeline: it asks a model that answers so.
func (r *rig) asking(answer func(call) reply) (*anthropictest.Server, func(*Config)) {
	r.t.Helper()
	server := anthropictest.New(r.t, answer)
	price := planner.PriceOf(2, 10)
	model := anthropic.New(anthropic.Config{APIKey: anthropictest.Key, BaseURL: server.URL, Model: "claude-sonnet-5-5"})
	r.t.Cleanup(model.Close)
	answers, err := cache.Open(cache.Config{Dir: filepath.Join(r.dir, "answers")})
	if err != nil {
		r.t.Fatal(err)
	}
	service := planner.New(planner.Config{
		Kinds:   map[string]planner.Kind{planner.Anthropic: {Planner: model, Identity: "m", MaxOutput: 4096, Price: &price}},
		Default: planner.Anthropic, Memo: planner.Kept{Cache: answers}, Logger: quiet,
	})
	return server, func(c *Config) { c.Planner, c.Plans = service, r.store }
}

// prompt queues a build with a prompt.
func (r *rig) prompt(id string) {
	r.t.Helper()
	if _, _, err := r.store.CreateBuild(r.t.Context(), store.NewBuild{ID: id, Project: "test", Prompt: "a bakery"}); err != nil {
		r.t.Fatal(err)
	}
}

// bakery answers with a plan of two tasks, and with a file for each.
func bakery(c call) reply {
	if c.Purpose == "plan" {
		return reply{Input: anthropictest.Plan("Write the page", "Write the styles")}
	}
	if strings.Contains(c.Prompt, `"name":"Write the page","prompt":"Write the files of Write the page."}`+"\n</task>") {
		return reply{Input: anthropictest.Files("index.html", "<h1>Bread</h1>")}
	}
	return reply{Input: anthropictest.Files("style.css", "h1{}", "print.css", "")}
}

func TestPromptBecomesASite(t *testing.T) {
	r := newRig(t)
	_, change := r.asking(bakery)
	r.prompt("b1")
	stop := r.start(r.pipeline("solo", change))
	defer stop()
	if e := r.end("b1"); e.Type != buildcast.DeployCompleted {
		t.Fatalf("%s", lines(r.events("b1")))
	}
	events := r.events("b1")
	types := []string{}
	for _, e := range events {
		if e.Type != buildcast.PlanProgress {
			types = append(types, e.Type)
		}
	}
	want := []string{buildcast.PlanStarted, buildcast.PlannerUsage, buildcast.PlanGenerated, buildcast.TaskStarted, buildcast.TaskStarted}
	if len(types) < len(want) || !slices.Equal(types[:len(want)], want) {
		t.Errorf("%v", types)
	}
	if d := read[report.PlanStarted](&events[0]); d.Message != analyzing {
		t.Errorf("%+v", d)
	}
	generated := read[report.PlanGenerated](&of(events, buildcast.PlanGenerated)[0])
	if generated.TaskCount != 2 || generated.Planner != "anthropic" || generated.Model != "claude-sonnet-5-5" {
		t.Errorf("%+v", generated)
	}
	usages := of(events, buildcast.PlannerUsage)
	if len(usages) != 3 {
		t.Fatalf("%s", lines(usages))
	}
	u := read[report.PlannerUsage](&usages[0])
	if u.Purpose != "plan" || u.RequestID != "req_1" || u.InputTokens != 100 || u.OutputTokens != 50 || u.CacheReadTokens != 7 || u.CostUSD == nil || u.Cached {
		t.Errorf("%+v", u)
	}
	if files := r.target.files["b1"]; !slices.Equal(files, []string{"index.html", "print.css", "style.css"}) {
		t.Errorf("the site has %v", files)
	}
	b, err := r.store.GetBuild(t.Context(), "b1")
	if err != nil || b.Plan == nil || !b.Plan.Detect || b.Prompt != "a bakery" {
		t.Errorf("%+v, %v", b, err)
	}
}

// While the stream is held open, watchers see the names that it has brought.
func TestPlanProgressWhileTheStreamIsOpen(t *testing.T) {
	r := newRig(t)
	hold := make(chan struct{})
	_, change := r.asking(func(c call) reply {
		a := bakery(c)
		if c.Purpose == "plan" {
			a.Before = func(piece int) {
				if piece == 0 {
					<-hold
				}
			}
		}
		return a
	})
	r.prompt("b1")
	defer r.start(r.pipeline("solo", change))()
	r.await("b1", func(e *buildcast.Event) bool {
		return e.Type == buildcast.PlanProgress && slices.Equal(read[report.PlanProgress](e).Tasks, []string{"Write the page", "Write the styles"})
	})
	if len(of(r.events("b1"), buildcast.PlanGenerated)) > 0 {
		t.Error("the plan is there before its end")
	}
	close(hold)
	if e := r.end("b1"); e.Type != buildcast.DeployCompleted {
		t.Errorf("%s", e.Data)
	}
}

// Each failure ends in one event that says what is wrong, and names the request.
func TestPlanningFails(t *testing.T) {
	evil := `{"name":"x","tasks":[{"name":"a","files":[{"path":"../../evil","content":""}]}]}`
	for name, tt := range map[string]struct {
		reply reply
		want  string
	}{
		"a plan that leads outside": {reply{Input: evil}, `path "../../evil" is not allowed`},
		"a malformed plan":          {reply{Input: `{"tasks":7}`}, "does not follow the schema"},
		"half a plan":               {reply{Input: `{"name":"x`}, "the model's answer is not JSON"},
		"max_tokens in the tool":    {reply{Input: `{"name":"x`, Stop: "max_tokens"}, "longer than its bound"},
		"a refusal":                 {reply{Stop: "refusal", Category: "cyber"}, "the model refuses this prompt (cyber)"},
		"a wrong key":               {reply{Status: 401, Type: "authentication_error", Message: "invalid x-api-key"}, "authentication_error: invalid x-api-key"},
		"an error in the stream":    {reply{Input: "{}", ErrorAfter: 1, Type: "invalid_request_error", Message: "no"}, "invalid_request_error: no"},
		"a long wait":               {reply{Status: 429, Type: "rate_limit_error", Header: map[string]string{"Retry-After": "3600"}}, "it asks to wait 1h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			_, change := r.asking(func(call) reply { return tt.reply })
			r.prompt("b1")
			defer r.start(r.pipeline("solo", change))()
			e := r.end("b1")
			d := read[report.BuildFailed](&e)
			if e.Type != buildcast.BuildFailed || d.Stage != "planning" || !strings.Contains(d.Error, tt.want) || !strings.HasPrefix(d.Message, "planning failed: ") || !strings.HasPrefix(d.RequestID, "req_") {
				t.Errorf("%s", e.Data)
			}
			if b, err := r.store.GetBuild(t.Context(), "b1"); err != nil || b.Plan != nil {
				t.Errorf("it has a plan: %+v, %v", b.Plan, err)
			}
		})
	}
}

// A planner that fails for a task's files is a failure of the task, and its retries
// count.
func TestFilesFailAndAreRetried(t *testing.T) {
	r := newRig(t)
	var asked atomic.Int32
	_, change := r.asking(func(c call) reply {
		if asked.Add(1) == 1 {
			return reply{Stop: "refusal"}
		}
		return bakery(c)
	})
	r.build("b1", &buildcast.Plan{Tasks: []buildcast.Task{{Name: "page", Prompt: "write it", Retries: 1}}})
	defer r.start(r.pipeline("solo", change))()
	if e := r.end("b1"); e.Type != buildcast.DeployCompleted {
		t.Fatalf("%s", lines(r.events("b1")))
	}
	failed := of(r.events("b1"), buildcast.TaskFailed)
	if len(failed) != 1 || !strings.Contains(read[report.TaskFailed](&failed[0]).Error, "refuses") || read[report.TaskFailed](&failed[0]).RequestID != "req_1" {
		t.Errorf("%s", lines(failed))
	}
}

func TestNoPlanner(t *testing.T) {
	r := newRig(t)
	r.prompt("b1")
	defer r.start(r.pipeline("solo"))()
	if e := r.end("b1"); e.Type != buildcast.BuildFailed || !strings.Contains(read[report.BuildFailed](&e).Error, "ANTHROPIC_API_KEY") {
		t.Errorf("%s", e.Data)
	}
}

// A cancelled build stops planning, although the stream is open.
func TestCancelWhilePlanning(t *testing.T) {
	r := newRig(t)
	hold, begun, gone := make(chan struct{}), make(chan struct{}), make(chan struct{})
	_, change := r.asking(func(c call) reply {
		close(begun)
		return reply{Before: func(int) { <-hold }}
	})
	change2 := func(c *Config) {
		change(c)
		c.Planner = &leaving{c.Planner, gone}
	}
	r.prompt("b1")
	defer r.start(r.pipeline("solo", change2))()
	t.Cleanup(func() { close(hold) })
	<-begun
	if _, err := r.log.Append(t.Context(), "b1", 0, buildcast.NewEvent{Type: buildcast.BuildCancelled}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
	case <-time.After(patience):
		t.Fatal("planning goes on")
	}
	if events := of(r.events("b1"), buildcast.BuildFailed); len(events) > 0 {
		t.Errorf("%s", lines(events))
	}
}

// leaving tells when a question for a plan has ended.
type leaving struct {
	Planner
	gone chan struct{}
}

func (l *leaving) Plan(ctx context.Context, b *planner.Build, w planner.Watcher) (*buildcast.Plan, string, error) {
	defer close(l.gone)
	return l.Planner.Plan(ctx, b, w)
}

// At most one progress each interval, and the latest is never lost.
func TestThrottle(t *testing.T) {
	got := make(chan planner.Progress, 100)
	th := &throttle{every: 20 * time.Millisecond, pass: func(p planner.Progress) { got <- p }}
	for i := range 50 {
		th.put(planner.Progress{OutputTokens: int64(i)})
	}
	if first := <-got; first.OutputTokens != 0 {
		t.Errorf("first %+v", first)
	}
	for last := range got {
		if last.OutputTokens == 49 {
			break
		}
	}
	th.stop()
	th.put(planner.Progress{OutputTokens: 50})
	if len(got) > 0 {
		t.Error("it passes on after its end")
	}
}

func TestFailureOfAPlannerIsOneLine(t *testing.T) {
	f, ok := failurePlanning(errors.Join(&planner.Error{Message: "a\nb\x00", RequestID: "req\n1"}))
	if !ok || strings.ContainsAny(f.Error+f.RequestID, "\n\x00") {
		t.Errorf("%+v", f)
	}
}

// noFiles is a planner that makes no files.
type noFiles struct{ Planner }

func (noFiles) Begin(b planner.Build) *planner.Build { return &b }

func (noFiles) Files(context.Context, *planner.Build, *buildcast.Plan, planner.Task, []planner.File, planner.Watcher) (map[string]buildcast.File, error) {
	return nil, nil
}
