package anthropic

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast/internal/planner"
	"github.com/buildcast/buildcast/internal/planner/anthropic/anthropictest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is much longer than any step here; a test that reaches it has failed.
const patience = time.Minute

type (
	reply = anthropictest.Reply
	call  = anthropictest.Call
)

// rig is a planner at a server that gives the replies in turn, the last one again and
// again. Waits take no time and are recorded.
type rig struct {
	*Planner
	server *anthropictest.Server
	waits  []time.Duration
	lines  []string
}

func newRig(t *testing.T, replies ...reply) *rig {
	t.Helper()
	r := &rig{}
	r.server = anthropictest.New(t, func(c call) reply { return replies[min(c.N, len(replies))-1] })
	r.Planner = New(Config{APIKey: anthropictest.Key, BaseURL: r.server.URL, Model: "claude-sonnet-5-5"})
	r.wait = func(ctx context.Context, d time.Duration) error {
		r.waits = append(r.waits, d)
		return ctx.Err()
	}
	t.Cleanup(r.Close)
	return r
}

// ask asks for a plan.
func (r *rig) ask(ctx context.Context) (planner.Answer, error) {
	return r.Ask(ctx, planner.Request{Version: 1, Purpose: planner.ForPlan, Prompt: "a bakery", MaxOutput: 4096}, func(p planner.Progress) {
		r.lines = append(r.lines, p.Lines...)
	})
}

func TestAnswer(t *testing.T) {
	input := anthropictest.Plan("Write the menu", "Größe und Öffnungszeiten")
	r := newRig(t, reply{Input: input, Pings: 3, Thinking: true, InputTokens: 1000, OutputTokens: 200})
	answer, err := r.ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if string(answer.Body) != input {
		t.Errorf("got %s", answer.Body)
	}
	want := planner.Usage{Model: "claude-sonnet-5-5", RequestID: "req_1", InputTokens: 1000, OutputTokens: 200, CacheReadTokens: 7}
	if answer.Usage != want {
		t.Errorf("got %+v", answer.Usage)
	}
}

// The request has the least that every model takes, and a key in one header only.
func TestRequest(t *testing.T) {
	r := newRig(t, reply{Input: "{}"})
	if _, err := r.ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := r.server.Calls()[0]
	var body map[string]json.RawMessage
	if err := json.Unmarshal(c.Body, &body); err != nil {
		t.Fatal(err)
	}
	for name := range body {
		switch name {
		case "model", "max_tokens", "system", "messages", "tools", "tool_choice", "stream":
		default:
			t.Errorf("the request has %s", name)
		}
	}
	if string(body["max_tokens"]) != "4096" || !strings.Contains(string(body["tool_choice"]), `"name":"plan"`) {
		t.Errorf("%s", c.Body)
	}
	var tools []struct {
		InputSchema any `json:"input_schema"`
	}
	var want any
	if json.Unmarshal(body["tools"], &tools) != nil || json.Unmarshal(planner.PlanSchema, &want) != nil || len(tools) != 1 {
		t.Fatalf("%s", body["tools"])
	}
	got, _ := json.Marshal(tools[0].InputSchema)
	if wanted, _ := json.Marshal(want); string(got) != string(wanted) {
		t.Errorf("the tool's schema is\n%s\nwant\n%s", got, wanted)
	}
	if strings.Contains(string(c.Body), anthropictest.Key) || c.Header.Get("Authorization") != "" {
		t.Error("the key is in more than its header")
	}
}

// The environment configures nothing: neither keys nor addresses.
func TestEnvironmentIsNotRead(t *testing.T) {
	t.Setenv("ANTHROPIC_API_KEY", "sk-of-the-environment")
	t.Setenv("ANTHROPIC_AUTH_TOKEN", "token-of-the-environment")
	t.Setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
	r := newRig(t, reply{Input: "{}"})
	if _, err := r.ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := r.server.Calls()[0].Header
	if h.Get("X-Api-Key") != anthropictest.Key || h.Get("Authorization") != "" {
		t.Errorf("%v", h)
	}
}

func TestRepeats(t *testing.T) {
	good := reply{Input: "{}"}
	for name, c := range map[string]struct {
		bad   reply
		waits []time.Duration
	}{
		"429":             {reply{Status: 429, Type: "rate_limit_error", Message: "slow down", Header: map[string]string{"Retry-After": "7"}}, []time.Duration{7 * time.Second}},
		"529":             {reply{Status: 529, Type: "overloaded_error", Message: "Overloaded"}, []time.Duration{time.Second}},
		"500":             {reply{Status: 500, Type: "api_error", Message: "oops"}, []time.Duration{time.Second}},
		"error in stream": {reply{Input: `{"name":"a longer text"}`, ErrorAfter: 1, Type: "overloaded_error", Message: "Overloaded"}, []time.Duration{time.Second}},
		"cut stream":      {reply{Input: `{"name":"a longer text"}`, CutAfter: 1}, []time.Duration{time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.bad, good)
			answer, err := r.ask(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if string(answer.Body) != "{}" || len(r.waits) != 1 || r.waits[0] != c.waits[0] || len(r.lines) != 1 {
				t.Errorf("%s, waits %v, lines %q", answer.Body, r.waits, r.lines)
			}
			// What the attempt that broke off took is not forgotten.
			if begun := c.bad.Input != ""; begun != (answer.Usage.InputTokens == 200) {
				t.Errorf("%+v", answer.Usage)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	long := `{"name":"` + strings.Repeat("x", 100)
	for name, c := range map[string]struct {
		reply reply
		calls int
		want  string
		final bool
		paid  bool
	}{
		"no key":          {reply{Status: 401, Type: "authentication_error", Message: "invalid x-api-key"}, 1, "the model's API answered authentication_error: invalid x-api-key", false, false},
		"no such model":   {reply{Status: 404, Type: "not_found_error", Message: "model: x"}, 1, "the model's API answered not_found_error: model: x; set --model to one that exists: claude-opus-5-5, claude-sonnet-5-5", false, false},
		"no money left":   {reply{Status: 429, Type: "rate_limit_error", Message: "quota"}, 3, "the model's API answered rate_limit_error: quota (after 3 attempts)", false, false},
		"a long wait":     {reply{Status: 429, Type: "rate_limit_error", Message: "quota", Header: map[string]string{"Retry-After": "86400"}}, 1, "the model's API answered rate_limit_error: quota (it asks to wait 24h0m0s, and a build waits 1m0s at most)", false, false},
		"overloaded":      {reply{Status: 529, Type: "overloaded_error", Message: "Overloaded"}, 5, "the model's API answered overloaded_error: Overloaded (after 5 attempts)", false, false},
		"a proxy's page":  {reply{Status: 502}, 5, "the model's API answered api_error: Bad Gateway (after 5 attempts)", false, false},
		"max_tokens":      {reply{Input: long, Stop: "max_tokens", OutputTokens: 4096}, 1, "the model's answer is longer than its bound of 4096 tokens and was cut: ask for less, or set a higher --planner-max-tokens", true, true},
		"refusal":         {reply{Stop: "refusal", Category: "cyber"}, 1, "the model refuses this prompt (cyber): change it", true, true},
		"end_turn":        {reply{Stop: "end_turn"}, 1, "the model ended its answer without a plan or files (end_turn)", true, true},
		"half a JSON":     {reply{Input: long}, 1, "the model's answer is not JSON", false, true},
		"always cut":      {reply{Input: long, CutAfter: 2}, 5, "the model's answer broke off before its end (after 5 attempts)", false, true},
		"invalid request": {reply{Input: "{}", ErrorAfter: 1, Type: "invalid_request_error", Message: "no"}, 1, "the model's API answered invalid_request_error: no", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.reply)
			answer, err := r.ask(t.Context())
			e, ok := errors.AsType[*planner.Error](err)
			if !ok || answer.Body != nil {
				t.Fatalf("got %s, %v", answer.Body, err)
			}
			if e.Message != c.want || e.Final != c.final || (e.Usage != nil) != c.paid || e.RequestID == "" {
				t.Errorf("got %+v", e)
			}
			if n := len(r.server.Calls()); n != c.calls {
				t.Errorf("%d calls, want %d", n, c.calls)
			}
		})
	}
}

// An API that repeats the key in its answer does not bring it into an error.
func TestKeyIsInNoError(t *testing.T) {
	for _, bad := range []reply{
		{Status: 400, Type: "invalid_request_error", Message: "bad key " + anthropictest.Key},
		{Input: "{}", ErrorAfter: 1, Type: "invalid_request_error", Message: anthropictest.Key},
	} {
		r := newRig(t, bad)
		_, err := r.ask(t.Context())
		e, ok := errors.AsType[*planner.Error](err)
		if !ok || strings.Contains(e.Message, anthropictest.Key) || strings.Contains(e.Err.Error(), anthropictest.Key) {
			t.Errorf("%v: %v", err, errors.Unwrap(err))
		}
	}
}

func TestUnreachable(t *testing.T) {
	r := newRig(t, reply{})
	r.server.Close()
	_, err := r.ask(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cannot be reached") || len(r.waits) != maxAttempts-1 {
		t.Error(err, r.waits)
	}
}

// A stream that says nothing is broken; one that only pings is not.
func TestSilence(t *testing.T) {
	silent := make(chan struct{})
	var calls atomic.Int32
	r := &rig{}
	r.server = anthropictest.New(t, func(call) reply {
		if calls.Add(1) == 1 {
			return reply{Before: func(piece int) {
				if piece == 1 {
					<-silent
				}
			}}
		}
		return reply{Input: "{}", Pings: 5}
	})
	t.Cleanup(func() { close(silent) })
	r.Planner = New(Config{APIKey: anthropictest.Key, BaseURL: r.server.URL, Model: "m"})
	t.Cleanup(r.Close)
	r.idle = 200 * time.Millisecond
	r.wait = func(context.Context, time.Duration) error { return nil }
	answer, err := r.ask(t.Context())
	if err != nil || string(answer.Body) != "{}" || len(r.lines) != 1 || !strings.Contains(r.lines[0], "nothing came for") {
		t.Error(string(answer.Body), err, r.lines)
	}
}

// A cancelled question ends at once, although the stream is open.
func TestCancel(t *testing.T) {
	hold := make(chan struct{})
	begun := make(chan struct{})
	r := newRig(t, reply{Input: "{}", Before: func(piece int) {
		if piece == 1 {
			close(begun)
			<-hold
		}
	}})
	t.Cleanup(func() { close(hold) })
	why := errors.New("cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.ask(ctx)
		done <- err
	}()
	<-begun
	cancel(why)
	select {
	case err := <-done:
		if !errors.Is(err, why) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the question does not end")
	}
}

// While the stream is held open, the names that it has brought are known.
func TestProgressWhileTheStreamIsOpen(t *testing.T) {
	hold := make(chan struct{})
	input := anthropictest.Plan("Write the menu", "Write the map", "Write the styles")
	r := newRig(t, reply{Input: input, Before: func(piece int) {
		if piece == 0 {
			<-hold
		}
	}})
	release := make(chan struct{})
	t.Cleanup(func() { <-release })
	var seen atomic.Bool
	answer, err := r.Ask(t.Context(), planner.Request{Purpose: planner.ForPlan, MaxOutput: 4096}, func(p planner.Progress) {
		if len(p.Tasks) == 3 && p.Tasks[1] == "Write the map" && seen.CompareAndSwap(false, true) {
			close(hold) // only now does the stream go on
			close(release)
		}
	})
	if err != nil || string(answer.Body) != input {
		t.Error(err)
	}
}

func TestTimeoutNamesItself(t *testing.T) {
	hold := make(chan struct{})
	r := newRig(t, reply{Before: func(int) { <-hold }})
	t.Cleanup(func() { close(hold) })
	r.config.Timeout = 100 * time.Millisecond
	_, err := r.ask(t.Context())
	if err == nil || err.Error() != "the model did not answer within 100ms: set a longer --planner-timeout, or ask for less" {
		t.Error(err)
	}
}

// A redirect does not take the key to another host.
func TestNoRedirect(t *testing.T) {
	other := newRig(t, reply{Input: "{}"})
	r := newRig(t, reply{Status: 307, Header: map[string]string{"Location": other.server.URL + "/v1/messages"}})
	if _, err := r.ask(t.Context()); err == nil || len(other.server.Calls()) > 0 {
		t.Error(err)
	}
}

func TestEveryPriceIsWhole(t *testing.T) {
	for model, p := range Prices {
		if p.Input <= 0 || p.Output <= 0 || p.CacheRead <= 0 || p.CacheWrite <= p.Input {
			t.Errorf("%s: %+v", model, p)
		}
	}
}
