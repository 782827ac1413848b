package browsertest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// browser is a Chromium with a profile of its own. One goroutine controls it through
// the DevTools protocol on a pipe.
type browser struct {
	process  int // and its group
	commands *os.File
	answers  *bufio.Reader
	last     int // id of the last command
}

// startBrowser starts a Chromium without a page, with more flags than the usual
// ones. It ends with the context.
func startBrowser(ctx context.Context, t *testing.T, flags ...string) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("Chromium is not installed: run make deps, or apt-get install -y chromium")
	}
	// Not t.TempDir: the browser's last processes may still write there.
	profile, err := os.MkdirTemp("", "buildcast-chromium")
	if err != nil {
		t.Fatal(err)
	}
	theirIn, commands := pipe(t)
	answers, theirOut := pipe(t)
	flags = append([]string{
		"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir=" + profile,
		"--remote-debugging-pipe",
	}, flags...)
	cmd := exec.CommandContext(ctx, path, append(flags, "about:blank")...)
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // 3 and 4, as Chromium wants them
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close() // so that reading its answers ends when Chromium ends
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		_ = os.RemoveAll(profile)
	})
	return &browser{process: cmd.Process.Pid, commands: commands, answers: bufio.NewReader(answers)}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

// tab is a page as DevTools names it: itself, and the session that commands it.
type tab struct {
	Target  string `json:"targetId"`
	Session string `json:"sessionId"`
}

// noteErrors records the errors of a page's scripts in thrown.
const noteErrors = `
	globalThis.thrown = [];
	addEventListener('error', (event) => thrown.push(event.message));
	addEventListener('unhandledrejection', (event) => thrown.push(String(event.reason)));
`

func (b *browser) open(t *testing.T, url string) (opened tab) {
	t.Helper()
	b.call(t, "", "Target.createTarget", map[string]any{"url": "about:blank"}, &opened)
	b.call(t, "", "Target.attachToTarget", map[string]any{"targetId": opened.Target, "flatten": true}, &opened)
	b.call(t, opened.Session, "Page.enable", map[string]any{}, nil) // or there are no scripts on new documents
	b.call(t, opened.Session, "Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": noteErrors}, nil)
	b.call(t, opened.Session, "Page.navigate", map[string]any{"url": url}, nil) // answers when the page has begun
	return opened
}

func (b *browser) close(t *testing.T, tab tab) {
	t.Helper()
	b.call(t, "", "Target.closeTarget", map[string]any{"targetId": tab.Target}, nil)
}

// await waits until the expression is true in the tab's page, or in the page to
// which the tab navigates meanwhile.
func (b *browser) await(t *testing.T, tab tab, expression string) {
	t.Helper()
	const poll = `new Promise((resolve) => {
		const look = () => { if (%s) resolve(); else setTimeout(look, 20); };
		look();
	})`
	for {
		err := b.try(t, tab, fmt.Sprintf(poll, expression))
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "navigated") {
			t.Fatal(err)
		}
	}
}

// eval runs JavaScript in the tab's page, and waits for the promise that it returns.
func (b *browser) eval(t *testing.T, tab tab, script string) {
	t.Helper()
	if err := b.try(t, tab, script); err != nil {
		t.Fatal(err)
	}
}

func (b *browser) try(t *testing.T, tab tab, script string) error {
	t.Helper()
	var answer struct {
		Thrown struct {
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	err := b.send(t, tab.Session, "Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true}, &answer)
	if thrown := answer.Thrown.Exception.Description; thrown != "" {
		return fmt.Errorf("%s: %s", script, thrown)
	}
	return err
}

// freeze stops a tab, as a phone does in the background: Chromium stops its
// timers and closes its WebSockets.
func (b *browser) freeze(t *testing.T, tab tab) {
	t.Helper()
	b.call(t, tab.Session, "Page.setWebLifecycleState", map[string]any{"state": "frozen"}, nil)
}

// thaw resumes a frozen tab.
func (b *browser) thaw(t *testing.T, tab tab) {
	t.Helper()
	b.call(t, tab.Session, "Page.setWebLifecycleState", map[string]any{"state": "active"}, nil)
}

// suspend stops the whole browser, like a closed laptop. Nothing in it can notice.
func (b *browser) suspend(t *testing.T) { b.signal(t, syscall.SIGSTOP) }

// resume resumes a suspended browser.
func (b *browser) resume(t *testing.T) { b.signal(t, syscall.SIGCONT) }

func (b *browser) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(-b.process, signal); err != nil {
		t.Fatal(err)
	}
}

// call sends a command and waits for its answer; it skips events.
func (b *browser) call(t *testing.T, session, method string, params, result any) {
	t.Helper()
	if err := b.send(t, session, method, params, result); err != nil {
		t.Fatal(err)
	}
}

// send is call, but it returns Chromium's error.
func (b *browser) send(t *testing.T, session, method string, params, result any) error {
	t.Helper()
	b.last++
	command := map[string]any{"id": b.last, "method": method, "params": params}
	if session != "" {
		command["sessionId"] = session
	}
	text, err := json.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.commands.Write(append(text, 0)); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	for {
		text, err := b.answers.ReadBytes(0)
		if err != nil {
			t.Fatalf("%s: Chromium has ended, or the time of the test: %v", method, err)
		}
		var answer struct {
			ID     int             `json:"id"`
			Result json.RawMessage `json:"result"`
			Error  json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(text[:len(text)-1], &answer); err != nil {
			t.Fatal(err)
		}
		if answer.ID != b.last {
			continue
		}
		if answer.Error != nil {
			return fmt.Errorf("%s: %s", method, answer.Error)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(answer.Result, result)
	}
}
