package httpapi

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/buildcast/buildcast"
)

// someone is the planners of a server that has one: someone.
type someone struct {
	asked  []PlanRequest
	begun  chan struct{} // if set, Plan sends on it, and waits for its context's end
	failed error
}

func (*someone) Names() []string { return []string{"someone", "static"} }

func (*someone) Check(name string) error {
	if name != "" && name != "someone" {
		return buildcast.Errorf(buildcast.InvalidArgument, "planner %q is not set up on this server: use one of someone, static", name).At("planner")
	}
	return nil
}

func (s *someone) Plan(ctx context.Context, asked PlanRequest) (Planned, error) {
	if s.begun != nil {
		s.begun <- struct{}{}
		<-ctx.Done()
		return Planned{}, context.Cause(ctx)
	}
	s.asked = append(s.asked, asked)
	if s.failed != nil {
		return Planned{}, s.failed
	}
	return Planned{Plan: &buildcast.Plan{Name: "site", Build: "true"}, Planner: "someone", Model: "m1"}, nil
}

func withPlanners(t *testing.T, tweak ...func(*Config)) (*harness, *someone) {
	s := &someone{}
	return newHarness(t, append(tweak, func(c *Config) { c.Planners = s })...), s
}

func TestCreateBuildFromAPrompt(t *testing.T) {
	h, _ := withPlanners(t)
	b := decode[buildcast.Build](h.post("/api/builds", `{"id":"b1","prompt":"a site","planner":"someone","noCache":true,"deploy":"cloudflare"}`).want(http.StatusCreated))
	want := buildcast.Options{Planner: "someone", NoCache: true}
	if b.Prompt != "a site" || b.Options != want || b.Deploy != "cloudflare" || b.External() {
		t.Errorf("build %+v", b)
	}
	got := decode[buildcast.Build](h.get("/api/builds/b1").want(http.StatusOK))
	if got.Prompt != b.Prompt || got.Options != want {
		t.Errorf("got %+v", got)
	}
	h.post("/api/builds", `{"prompt":"a site"}`).want(http.StatusCreated)
	h.post("/api/builds", `{"plan":{"name":"x","tasks":[{"name":"t","prompt":"a page"}]}}`).want(http.StatusCreated)
	h.post("/api/builds", `{"planner":"static","plan":`+planJSON+`}`).want(http.StatusCreated)
}

func TestBuildsThatAskNobody(t *testing.T) {
	h, _ := withPlanners(t)
	none := newHarness(t)
	for name, tt := range map[string]struct {
		h           *harness
		body        string
		code        buildcast.Code
		field, says string
	}{
		"no such planner":              {h, `{"prompt":"a site","planner":"else"}`, buildcast.InvalidArgument, "planner", "someone, static"},
		"no such planner for a plan":   {h, `{"planner":"else","plan":` + planJSON + `}`, buildcast.InvalidArgument, "planner", "someone, static"},
		"no such planner for tasks":    {h, `{"planner":"else","plan":{"name":"x","tasks":[{"name":"t","prompt":"a page"}]}}`, buildcast.InvalidArgument, "planner", "someone, static"},
		"a task's prompt to nobody":    {none, `{"plan":{"name":"x","tasks":[{"name":"t","prompt":"a page"}]}}`, buildcast.NoPlanner, "prompt", "send a plan"},
		"a planner without a prompt":   {h, `{"planner":"someone"}`, buildcast.InvalidArgument, "planner", "send a prompt"},
		"no cache of an external one":  {h, `{"noCache":true}`, buildcast.InvalidArgument, "noCache", "nothing to run"},
		"a long prompt":                {h, `{"prompt":"` + strings.Repeat("x", buildcast.MaxPrompt+1) + `"}`, buildcast.TooLarge, "prompt", "32768"},
		"a blank prompt":               {h, `{"prompt":" \n"}`, buildcast.InvalidArgument, "prompt", "empty"},
		"a prompt with a zero byte":    {h, `{"prompt":"\u0000"}`, buildcast.InvalidArgument, "prompt", "zero bytes"},
		"a repetition that has a path": {h, `{"prompt":"a site","retryOf":"b1"}`, buildcast.InvalidArgument, "retryOf", "not a known field"},
	} {
		t.Run(name, func(t *testing.T) {
			p := tt.h.post("/api/builds", tt.body).problem(tt.code, tt.field)
			if !strings.Contains(p.Detail, tt.says) {
				t.Errorf("detail %q does not say %q", p.Detail, tt.says)
			}
		})
	}
	if n := len(h.store.builds) + len(none.store.builds); n > 0 {
		t.Errorf("%d builds were made", n)
	}
}

func TestCreatePlan(t *testing.T) {
	h, s := withPlanners(t)
	a := h.post("/api/plans", `{"prompt":"a site","project":"web","planner":"someone","noCache":true}`).want(http.StatusOK)
	if want := `{"plan":{"name":"site","build":"true"},"planner":"someone","model":"m1"}`; string(a.Body) != want {
		t.Errorf("answer %s, want %s", a.Body, want)
	}
	want := []PlanRequest{{Prompt: "a site", Project: "web", Planner: "someone", NoCache: true}}
	if diff := cmp.Diff(want, s.asked, cmpopts.IgnoreUnexported(PlanRequest{})); diff != "" {
		t.Error(diff)
	}
	for body, field := range map[string]string{
		``: "prompt", `{"prompt":""}`: "prompt", `{"prompt":"x","planner":"else"}`: "planner",
		`{"prompt":"x","project":"a\u0007"}`: "project", `{"prompt":"x","deploy":"none"}`: "deploy",
	} {
		h.post("/api/plans", body).want(http.StatusBadRequest).problem(buildcast.InvalidArgument, field)
	}
	s.failed = buildcast.Errorf(buildcast.PlanningFailed, "the model is tired")
	h.post("/api/plans", `{"prompt":"a site"}`).want(http.StatusBadGateway).problem(buildcast.PlanningFailed, "")
	newHarness(t).post("/api/plans", `{"prompt":"a site"}`).want(http.StatusUnprocessableEntity).problem(buildcast.NoPlanner, "prompt")
	if len(h.store.builds) > 0 {
		t.Error("a build was made")
	}
}

// Who asks for more plans than are made at once is told so; a stop ends the making.
func TestPlansAtOnce(t *testing.T) {
	stopping, stop := context.WithCancel(t.Context())
	h, s := withPlanners(t, func(c *Config) { c.Stopping = stopping })
	s.begun = make(chan struct{})
	ended := make(chan httpAnswer)
	for range maxPlanning {
		go func() { ended <- h.post("/api/plans", `{"prompt":"a site"}`) }()
		<-s.begun
	}
	a := h.post("/api/plans", `{"prompt":"a site"}`).want(http.StatusTooManyRequests)
	a.problemAfter(10)
	stop()
	for range maxPlanning {
		(<-ended).want(http.StatusServiceUnavailable)
	}
}

// problemAfter checks how long a client is to wait.
func (a httpAnswer) problemAfter(seconds int) {
	a.t.Helper()
	var p struct{ RetryAfter int }
	asJSON(a.t, a.Body, &p)
	if p.RetryAfter != seconds {
		a.t.Errorf("retryAfter is %d, want %d", p.RetryAfter, seconds)
	}
}

func TestGetServer(t *testing.T) {
	if a := newHarness(t).get("/api/server").want(http.StatusOK); string(a.Body) != `{"version":"1.2.3","planners":[],"defaultPlanner":"","targets":[],"sandbox":"","cache":false}` {
		t.Errorf("answer %s", a.Body)
	}
	can := Abilities{Planners: []Planner{{Name: "anthropic", Model: "m1"}}, DefaultPlanner: "anthropic", Targets: []string{"local"}, Sandbox: "bwrap", Cache: true}
	h := newHarness(t, func(c *Config) { c.Abilities = can })
	can.Version = "1.2.3"
	if diff := cmp.Diff(can, decode[Abilities](h.get("/api/server").want(http.StatusOK))); diff != "" {
		t.Error(diff)
	}
}
