package outputs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is where a stream goes: a pipe that is read to its end.
type receiver struct {
	w   *os.File
	got chan []byte
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	v := &receiver{w, make(chan []byte, 1)}
	go func() {
		defer r.Close()
		b, _ := io.ReadAll(r)
		v.got <- b
	}()
	return v
}

func (v *receiver) all() string {
	v.w.Close()
	return string(<-v.got)
}

// run runs a shell script and returns what was recorded, as lines of the form
// "stream text", and what was passed on.
func run(t *testing.T, script string) (recorded []string, stdout, stderr string) {
	t.Helper()
	stdout, stderr = runWith(t, script, nil, func(s Stream, piece []byte) {
		for line := range strings.Lines(string(piece)) {
			recorded = append(recorded, s.String()+" "+strings.TrimSuffix(line, "\n"))
		}
	})
	return recorded, stdout, stderr
}

func runWith(t *testing.T, script string, stdin *os.File, record Record) (stdout, stderr string) {
	t.Helper()
	out, errs := newReceiver(t), newReceiver(t)
	o, err := Open(out.w, errs.w, record)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	if stdin != nil {
		cmd.Stdin = stdin
	}
	cmd.Stdout, cmd.Stderr = o.Ends()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o.Start()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	o.Wait(time.Minute)
	return out.all(), errs.all()
}

// Both streams are recorded in the order in which they were written, however fast.
func TestOrderIsThatOfTheWrites(t *testing.T) {
	const n = 2000
	recorded, stdout, _ := run(t, fmt.Sprintf(`i=0; while [ $i -lt %d ]; do echo $i; echo $i.5 >&2; echo $i.7 >&2; i=$((i+1)); done`, n))
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("stdout %d", i), fmt.Sprintf("stderr %d.5", i), fmt.Sprintf("stderr %d.7", i))
	}
	if len(recorded) != len(want) {
		t.Fatalf("%d lines, want %d", len(recorded), len(want))
	}
	for i := range want {
		if recorded[i] != want[i] {
			t.Fatalf("line %d is %q, want %q", i, recorded[i], want[i])
		}
	}
	if lines := strings.Count(stdout, "\n"); lines != n {
		t.Errorf("%d lines passed on", lines)
	}
}

// After a flood the order is exact again.
func TestOrderAfterAFlood(t *testing.T) {
	stdin, goOn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	defer goOn.Close()
	flood := 0
	var recorded []string
	script := `head -c 3000000 /dev/zero; echo begin; read x; for i in 1 2 3 4 5 6 7 8 9; do echo out; echo err >&2; done`
	runWith(t, script, stdin, func(s Stream, piece []byte) {
		switch before, after, begun := strings.Cut(string(piece), "begin\n"); {
		case begun:
			flood += len(before) + len(after)
			_, _ = goOn.WriteString("\n")
		case flood < 3_000_000:
			flood += len(piece)
		default:
			recorded = append(recorded, s.String()+" "+string(piece))
		}
	})
	if want := slices.Repeat([]string{"stdout out\n", "stderr err\n"}, 9); flood != 3_000_000 || !slices.Equal(recorded, want) {
		t.Errorf("%d bytes, then %q", flood, recorded)
	}
}

func TestBytesPassUnchanged(t *testing.T) {
	const n = 3_000_000
	recorded, stdout, stderr := run(t, fmt.Sprintf(`head -c %d /dev/zero >&2 & head -c %d /dev/zero; wait`, n, n))
	if len(stdout) != n || len(stderr) != n || len(recorded) == 0 || strings.Trim(stdout+stderr, "\x00") != "" {
		t.Errorf("%d and %d bytes passed on, %d records", len(stdout), len(stderr), len(recorded))
	}
}

// A receiver of one stream that does not read does not hold up the other.
func TestABlockedStreamDoesNotHoldUpTheOther(t *testing.T) {
	blocked, full, err := os.Pipe() // not read before the other stream has ended
	if err != nil {
		t.Fatal(err)
	}
	errs := newReceiver(t)
	ended := make(chan struct{})
	o, err := Open(full, errs.w, func(s Stream, piece []byte) {
		if s == Stderr && bytes.Contains(piece, []byte("last")) {
			close(ended)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `head -c 1000000 /dev/zero & i=0; while [ $i -lt 1000 ]; do echo $i >&2; i=$((i+1)); done; echo last >&2; wait`)
	cmd.Stdout, cmd.Stderr = o.Ends()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o.Start()
	<-ended
	passed := make(chan int)
	go func() {
		b, _ := io.ReadAll(blocked)
		passed <- len(b)
	}()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	o.Wait(time.Minute)
	full.Close()
	if n := <-passed; n != 1_000_000 {
		t.Errorf("%d bytes passed on", n)
	}
	blocked.Close()
	errs.all()
}

// A closed receiver ends its stream alone; only what was passed on is recorded.
func TestAClosedReceiver(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	errs := newReceiver(t)
	var recorded []string
	o, err := Open(w, errs.w, func(s Stream, piece []byte) {
		if len(piece) > 0 {
			recorded = append(recorded, s.String())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `(while :; do echo lost; done); echo still here >&2`)
	cmd.Stdout, cmd.Stderr = o.Ends()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o.Start()
	_ = cmd.Wait()
	o.Wait(time.Minute)
	w.Close()
	if got := errs.all(); !strings.Contains(got, "still here") {
		t.Errorf("stderr %q", got)
	}
	for _, s := range recorded {
		if s != "stderr" {
			t.Errorf("recorded what was not passed on: %v", recorded)
		}
	}
}

// A process that was left behind holds the pipes open: Wait does not wait for it.
func TestWaitIsBounded(t *testing.T) {
	out, errs := newReceiver(t), newReceiver(t)
	o, err := Open(out.w, errs.w, func(Stream, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "sleep 60 & echo $!")
	cmd.Stdout, cmd.Stderr = o.Ends()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o.Start()
	_ = cmd.Wait()
	o.Wait(10 * time.Millisecond)
	var pid int
	if _, err := fmt.Sscan(out.all(), &pid); err != nil {
		t.Fatal(err)
	}
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
	errs.all()
}

func TestCloseWithoutStart(t *testing.T) {
	o, err := Open(os.Stdout, os.Stderr, func(Stream, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
}
