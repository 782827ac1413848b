package command

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/buildcast/buildcast/internal/planner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ask runs the command, and returns its answer and its lines.
func ask(ctx context.Context, t *testing.T, cmd string, timeout time.Duration) (string, []string, error) {
	t.Helper()
	cfg := Config{Command: cmd, Dir: filepath.Join(t.TempDir(), "it's", "requests"), Timeout: timeout}
	var mu sync.Mutex
	var lines []string
	answer, err := New(cfg).Ask(ctx, planner.Request{Version: 1, Purpose: planner.ForPlan, Prompt: "a 'bakery'"}, func(p planner.Progress) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, p.Lines...)
	})
	if left, _ := os.ReadDir(cfg.Dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	return string(answer.Body), lines, err
}

func TestRequestAndAnswer(t *testing.T) {
	body, lines, err := ask(t.Context(), t, `echo thinking >&2; cat`, 0)
	var req planner.Request
	if err != nil || json.Unmarshal([]byte(body), &req) != nil || req.Prompt != "a 'bakery'" || req.Version != 1 || len(lines) != 1 || lines[0] != "thinking" {
		t.Errorf("%s, %q, %v", body, lines, err)
	}
}

func TestFailures(t *testing.T) {
	for cmd, want := range map[string]string{
		`echo first >&2; echo why >&2; exit 3`: "the planner command ended with exit code 3; its last line of output is: why",
		`true`:                                 "answered nothing",
		`echo hello`:                           "is not JSON",
		`head -c 20000000 /dev/zero`:           "the planner command",
		`cat; echo '{}'`:                       "is not JSON",
	} {
		_, _, err := ask(t.Context(), t, cmd, 0)
		if e, ok := errors.AsType[*planner.Error](err); !ok || !strings.Contains(e.Message, want) {
			t.Errorf("%s: %v, want %s", cmd, err, want)
		}
	}
}

func TestTimeoutNamesItself(t *testing.T) {
	_, _, err := ask(t.Context(), t, `exec sleep 1000`, 200*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "set a longer --planner-timeout of the server") {
		t.Error(err)
	}
}

// A cancelled question ends its command and all that it started.
func TestCancel(t *testing.T) {
	why := errors.New("cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	p := New(Config{Command: `sleep 1000 & echo ready >&2; wait`, Dir: t.TempDir()})
	if _, err := p.Ask(ctx, planner.Request{}, func(planner.Progress) { cancel(why) }); !errors.Is(err, why) {
		t.Error(err)
	}
}

// The command gets nothing of the server's environment but what docs/planner.md names.
func TestEnvironment(t *testing.T) {
	t.Setenv("ANTHROPIC_API_KEY", "sk-secret")
	t.Setenv("BUILDCAST_API_KEYS", "key-secret")
	t.Setenv("OTHER", "other-secret")
	_, lines, err := ask(t.Context(), t, `env >&2; echo '{}'`, 0)
	all := strings.Join(lines, "\n")
	if err != nil || strings.Contains(all, "secret") || !strings.Contains(all, "HOME="+os.Getenv("HOME")) || !strings.Contains(all, "PATH=") {
		t.Errorf("%v\n%s", err, all)
	}
}
