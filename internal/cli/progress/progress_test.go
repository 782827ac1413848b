package progress

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
)

var update = flag.Bool("update", false, "write the golden files anew")

var start = time.Date(2026, 11, 23, 7, 13, 50, 0, time.UTC)

// step is an event at a time since the start, in milliseconds.
type step struct {
	at   int
	typ  string
	data string
}

var reference = []step{
	{0, "plan_started", `{"message":"Analyzing requirements..."}`},
	{300, "plan_generated", `{"taskCount":3}`},
	{310, "task_started", `{"taskName":"Create HTML Test Page"}`},
	{320, "task_started", `{"taskName":"Create CSS Styles"}`},
	{330, "task_started", `{"taskName":"Create JavaScript File"}`},
	{400, "build_log", `{"taskName":"Create CSS Styles","lines":["compiling theme.scss","\u001b[31mwriting\u001b[0m\tsite/style.css"]}`},
	{1410, "task_completed", `{"taskName":"Create HTML Test Page","filesCreated":1}`},
	{2020, "task_completed", `{"taskName":"Create CSS Styles","filesCreated":1}`},
	{2030, "task_completed", `{"taskName":"Create JavaScript File","filesCreated":1}`},
	{2100, "deploy_started", `{}`},
	{2110, "build_started", `{"message":"npm run build"}`},
	{2200, "build_log", `{"stage":"build","lines":["bundled"],"dropped":7}`},
	{3100, "deploy_progress", `{"message":"Uploading..."}`},
	{3400, "deploy_completed", `{"previewUrl":"http://build-27.localhost:8081/"}`},
}

var failing = []step{
	{0, "plan_generated", `{"taskCount":2}`},
	{10, "task_started", `{"taskName":"Fetch"}`},
	{20, "task_started", `{"taskName":"Check"}`},
	{500, "task_failed", `{"taskName":"Fetch","error":"exit status 7","willRetry":true}`},
	{1000, "task_started", `{"taskName":"Fetch","attempt":2}`},
	{1100, "build_log", `{"taskName":"Fetch","lines":["connecting to mirror","curl: (7) could not connect\nto host"]}`},
	{61500, "task_failed", `{"taskName":"Fetch","error":"exit status 7","attempt":2,"willRetry":false}`},
}

// retrying is a task that succeeds at last, and another one whose reporter says little.
var retrying = []step{
	{0, "plan_generated", `{"taskCount":2}`},
	{10, "task_started", `{"taskName":"Fetch","attempt":1}`},
	{15, "build_log", `{"taskName":"Fetch","lines":["connecting to mirror"]}`},
	{20, "task_failed", `{"taskName":"Fetch","error":"exit status 7","attempt":1,"attempts":3,"retryInMs":2000,"willRetry":true}`},
	{2020, "task_started", `{"taskName":"Fetch","attempt":2}`},
	{2100, "task_failed", `{"taskName":"Fetch","attempt":2,"attempts":3,"retryInMs":1e99,"willRetry":true}`},
	{2200, "task_failed", `{"taskName":"Other","error":"no","willRetry":true}`},
	{6020, "task_started", `{"taskName":"Fetch","attempt":3}`},
	{6100, "task_completed", `{"taskName":"Fetch","attempt":3}`},
	{6200, "task_completed", `{"taskName":"Other","attempt":2}`},
	{6300, "build_completed", `{}`},
}

// prompted is a build whose plan a model makes. Some of it is in the cache.
var prompted = []step{
	{0, "plan_started", `{"message":"Analyzing requirements…","sandbox":"bwrap"}`},
	{1000, "plan_progress", `{"message":"Planning","tasks":[],"outputTokens":4}`},
	{2000, "plan_progress", `{"tasks":["Page"],"outputTokens":90}`},
	{3000, "plan_progress", `{"tasks":["Page","Styles\u001b[2J"],"outputTokens":160}`},
	{4000, "planner_usage", `{"purpose":"plan","planner":"anthropic","model":"m1","requestId":"req_1","inputTokens":1200,"outputTokens":600,"cacheReadTokens":10000,"cacheWriteTokens":0,"costUsd":0.0123,"cached":false}`},
	{4010, "plan_generated", `{"taskCount":2,"tasks":["Page","Styles"],"planner":"anthropic","model":"m1"}`},
	{4020, "task_started", `{"taskName":"Page"}`},
	{5000, "planner_usage", `{"purpose":"files","taskName":"Page","planner":"anthropic","model":"m1","inputTokens":0,"outputTokens":0,"costUsd":0,"cached":true}`},
	{5010, "task_completed", `{"taskName":"Page","filesCreated":1}`},
	{5020, "task_completed", `{"taskName":"Styles","cached":true,"originBuildId":"26","savedMs":41000}`},
	{5100, "deploy_started", `{"target":"cloudflare"}`},
	{5110, "build_started", `{"stage":"install"}`},
	{5200, "build_progress", `{"stage":"install","done":true,"cached":true,"originBuildId":"26","savedMs":12300}`},
	{6000, "deploy_progress", `{"percent":42.4,"uploaded":8,"total":19,"message":"Uploading 8 of 19 files"}`},
	{7000, "deploy_completed", `{"previewUrl":"https://build-27.example.pages.dev"}`},
}

// programmed is a build whose plan a program makes.
var programmed = []step{
	{0, "plan_started", `{"message":"Analyzing requirements…","sandbox":"bwrap"}`},
	{900, "build_log", `{"stage":"planning","lines":["thinking"]}`},
	{1500, "planner_usage", `{"purpose":"plan","planner":"command","inputTokens":0,"outputTokens":0,"costUsd":null,"cached":false}`},
	{1510, "plan_generated", `{"taskCount":1,"tasks":["Page"],"planner":"command"}`},
	{1520, "build_failed", `{"stage":"planning","error":"late","requestId":7}`},
}

// unplanned is a build whose planner fails.
var unplanned = []step{
	{0, "plan_started", `{"message":"Analyzing requirements…","sandbox":"none"}`},
	{500, "plan_progress", `{"message":"Planning","tasks":["Page"]}`},
	{900, "build_log", `{"stage":"planning","lines":["thinking"]}`},
	{1500, "build_failed", `{"stage":"planning","error":"the model is overloaded: try again later","requestId":"req_2"}`},
}

// leftOpen ends while most of its tasks are open.
func leftOpen() []step {
	steps := []step{{0, "plan_generated", `{"taskCount":40}`}}
	for i := range 14 {
		steps = append(steps, step{i * 10, "task_started", fmt.Sprintf(`{"taskName":"t%d"}`, i)})
	}
	for i := range 12 {
		steps = append(steps, step{200 + i*10, "task_completed", fmt.Sprintf(`{"taskName":"t%d"}`, i)})
	}
	return append(steps, step{400, "build_completed", `{}`})
}

func (s step) event(id int) buildcast.Event {
	return buildcast.Event{
		ID: int64(id), BuildID: "27", Type: s.typ, Data: json.RawMessage(s.data),
		Timestamp: buildcast.TimeOf(start.Add(time.Duration(s.at) * time.Millisecond)),
	}
}

// film is all that a terminal shows of the steps: after each, the rows that
// stay, and the frame as it is 950 ms later.
func film(steps []step, k Look) string {
	var s State
	var b strings.Builder
	draw := func(at time.Time) {
		for _, row := range s.Frame(k, at) {
			fmt.Fprintf(&b, "%s\n", row)
		}
	}
	draw(start)
	for i, step := range steps {
		fmt.Fprintf(&b, "== %s\n", step.typ)
		for _, row := range s.Apply(step.event(i + 1)) {
			fmt.Fprintf(&b, "^%s\n", k.Render(row))
		}
		draw(start.Add(time.Duration(step.at)*time.Millisecond + 950*time.Millisecond))
	}
	b.WriteString("== result\n")
	for _, row := range s.Result() {
		fmt.Fprintf(&b, "%s\n", k.Whole(row))
	}
	return strings.ReplaceAll(b.String(), "\x1b", "ESC")
}

// still is the frame a second after the last step, while the server is away.
func still(steps []step, k Look) string {
	s := State{Notice: "The server does not answer; trying again"}
	for i, step := range steps {
		s.Apply(step.event(i + 1))
	}
	return strings.Join(s.Frame(k, start.Add(time.Second)), "\n") + "\n"
}

func TestFrames(t *testing.T) {
	cases := map[string]string{
		"reference":       film(reference, Look{Width: 80, Height: 24}),
		"reference-color": film(reference, Look{Width: 60, Height: 24, Color: true}),
		"reference-ascii": film(reference, Look{Width: 60, Height: 24, ASCII: true}),
		"narrow":          film(reference, Look{Width: 24, Height: 24}),
		"tiny":            film(reference, Look{Width: 1, Height: 1}),
		"wide":            film(reference[:5], Look{Width: 200, Height: 24}),
		"prompted":        film(prompted, Look{Width: 80, Height: 24}),
		"prompted-low":    still(prompted[:4], Look{Width: 40, Height: 5}),
		"programmed":      film(programmed, Look{Width: 80, Height: 24}),
		"unplanned":       film(unplanned, Look{Width: 80, Height: 24}),
		"failing":         film(failing, Look{Width: 80, Height: 24}),
		"retrying":        film(retrying, Look{Width: 80, Height: 24}),
		"retrying-ascii":  film(retrying[:4], Look{Width: 80, Height: 24, ASCII: true}),
		"cancelled":       film(append(failing[:3:3], step{9000, "build_cancelled", `{}`}), Look{Width: 80, Height: 24}),
		"low":             still(many(12), Look{Width: 60, Height: 9}),
		"low-with-notes":  still(many(3), Look{Width: 60, Height: 9}),
		"low-without":     still(many(4), Look{Width: 60, Height: 9}),
		"external":        film([]step{{0, "crawl.page", `{"progress":42,"message":"page 3 of 7"}`}, {100, "build_failed", `{"error":"out of pages","output":"a\nb\n"}`}}, Look{Width: 60}),
		"hostile":         film([]step{{0, "task_started", `{"taskName":"\u001b[2J\u001b]0;title\u0007evil\r\nname \u202egpj"}`}, {9, "build_log", `{"lines":["10%\r50%\r\u001b[1A90%"],"taskName":"x"}`}}, Look{Width: 60}),
	}
	for name, got := range cases {
		t.Run(name, func(t *testing.T) { golden(t, name, got) })
	}
}

func TestPlainLines(t *testing.T) {
	for name, steps := range map[string][]step{"reference": reference, "failing": failing, "retrying": retrying, "prompted": prompted, "unplanned": unplanned} {
		t.Run(name, func(t *testing.T) {
			var s State
			var b strings.Builder
			for i, step := range steps {
				e := step.event(i + 1)
				s.Apply(e)
				e.Progress = s.Status.Progress
				for _, line := range s.Lines(e) {
					fmt.Fprintln(&b, line)
				}
			}
			golden(t, "plain-"+name, b.String())
		})
	}
}

func many(n int) []step {
	steps := []step{{0, "plan_generated", fmt.Sprintf(`{"taskCount":%d}`, n)}}
	for i := range n {
		steps = append(steps, step{i, "task_started", fmt.Sprintf(`{"taskName":"Task %d"}`, i)},
			step{i, "build_log", fmt.Sprintf(`{"taskName":"Task %d","lines":["working on %d"]}`, i, i)})
	}
	return steps
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; go test -update writes it anew):\n%s", path, diff)
	}
}

// A build may be ended while tasks are open: the result counts them.
func TestResultCountsWhatWasLeftOpen(t *testing.T) {
	tests := map[string]struct {
		steps []step
		want  string
	}{
		"most of them":         {leftOpen(), " ✓ Completed 12 of 40 tasks in 0.4s\n ! 28 tasks left open, 2 of them started"},
		"one, which started":   {[]step{{0, "task_started", `{"taskName":"a"}`}, {10, "build_completed", `{}`}}, " ✓ Completed 0 of 1 task in 0.0s\n ! 1 task left open, 1 of them started"},
		"one that never began": {[]step{{0, "plan_generated", `{"taskCount":1}`}, {10, "deploy_completed", `{}`}}, " ✓ Completed 0 of 1 task in 0.0s\n ! 1 task left open"},
		"none":                 {[]step{{0, "task_started", `{"taskName":"a"}`}, {5, "task_completed", `{"taskName":"a"}`}, {10, "build_completed", `{}`}}, " ✓ Completed 1 task in 0.0s"},
		"no tasks at all":      {[]step{{0, "step", `{}`}, {10, "build_completed", `{}`}}, " ✓ Completed in 0.0s"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var s State
			for i, step := range tt.steps {
				s.Apply(step.event(i + 1))
			}
			var rows []string
			for _, row := range s.Result() {
				rows = append(rows, Look{}.Whole(row))
			}
			if got := strings.Join(rows, "\n"); got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

// A task that waits for its next attempt is neither shown as failed nor left out.
func TestARetryIsNotAFailure(t *testing.T) {
	var s State
	for i, step := range retrying[:3] {
		s.Apply(step.event(i + 1))
	}
	k, failed := Look{Width: 80}, retrying[3]
	for _, row := range s.Apply(failed.event(4)) {
		if text := k.Render(row); strings.Contains(text, "✗") || !strings.Contains(text, "attempt 1 of 3 failed: exit status 7") {
			t.Errorf("row %q", text)
		}
	}
	frame := strings.Join(s.Frame(k, start.Add(520*time.Millisecond)), "\n")
	if !strings.Contains(frame, "↻ Fetch  attempt 2 of 3 follows in 1.5s") {
		t.Errorf("frame:\n%s", frame)
	}
}

// A build that does not exist is not shown as one that is queued.
func TestFrameOfABuildThatIsNotThere(t *testing.T) {
	s := State{Absent: true}
	k := Look{Width: 80}
	frame := func() string { return strings.Join(s.Frame(k, start), "\n") }
	if got := frame(); !strings.Contains(got, "No such build yet; waiting for its first event") || strings.Contains(got, "Queued") {
		t.Errorf("frame:\n%s", got)
	}
	s.Apply(step{0, "task_started", `{"taskName":"a"}`}.event(1))
	if got := frame(); strings.Contains(got, "No such build") {
		t.Errorf("frame after its first event:\n%s", got)
	}
	if got := strings.Join(new(State).Frame(k, start), "\n"); !strings.Contains(got, "Queued") {
		t.Errorf("frame of a build without events:\n%s", got)
	}
}
