package cli

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/buildcast/buildcast/internal/cli/verb"
	"github.com/buildcast/buildcast/internal/server"
)

// The scripts run the command line as processes of their own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"buildcast": func() {
			os.Exit(Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// Nothing of the machine's own settings or servers: port 0 is where none is found.
			env.Setenv("BUILDCAST_LISTEN", "127.0.0.1:0")
			env.Setenv("BUILDCAST_PREVIEW_LISTEN", "127.0.0.1:0")
			env.Setenv("NO_COLOR", "1")
			env.Setenv("BUILDCAST_SANDBOX", "off")    // or each server takes longer to start; build.txtar has one
			env.Setenv("GORACE", "atexit_sleep_ms=0") // or each process takes a second to end
			examples, err := filepath.Abs("../../examples")
			env.Setenv("EXAMPLES", examples)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready":   ready,
			"waitfor": waitFor,
			"signal":  signalPID,
			"fetch":   fetch,
			"gone":    gone,
			"hang":    hang,
			"setenv":  setEnv,

			"webhookstub": stubWebhooks,
			"receiver":    receiver,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// poll repeats the check until it holds: another process gives no signal.
func poll(ts *testscript.TestScript, what string, ok func() bool) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("waited a minute for %s", what)
		}
	}
}

// ready DIR [NAME]: waits until the server of the data directory is ready, and
// sets NAME (default URL), NAME_PREVIEW and NAME_PID.
func ready(ts *testscript.TestScript, _ bool, args []string) {
	name := "URL"
	if len(args) > 1 {
		name = args[1]
	}
	var info server.Info
	poll(ts, "a server in "+args[0], func() (ok bool) {
		var err error
		info, err = server.ReadInfo(ts.MkAbs(args[0]))
		return err == nil && verb.IsBuildcast(context.Background(), info.URL)
	})
	ts.Setenv(name, info.URL)
	ts.Setenv(name+"_PREVIEW", info.PreviewURL)
	ts.Setenv(name+"_PID", strconv.Itoa(info.PID))
}

// waitfor FILE TEXT: waits until the file contains the text.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	poll(ts, args[1]+" in "+args[0], func() bool {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && strings.Contains(string(b), args[1])
	})
}

// gone FILE: waits until the file is not there.
func gone(ts *testscript.TestScript, _ bool, args []string) {
	poll(ts, "the end of "+args[0], func() bool {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return os.IsNotExist(err)
	})
}

// hang URL: begins a request that does not end before the script does.
func hang(ts *testscript.TestScript, _ bool, args []string) {
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", strings.TrimPrefix(args[0], "http://"))
	ts.Check(err)
	ts.Defer(func() { conn.Close() })
	_, err = io.WriteString(conn, "POST /api/builds/hang/events HTTP/1.1\r\nHost: localhost\r\n"+
		"Content-Type: application/json\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
	ts.Check(err)
	_, err = io.ReadFull(conn, make([]byte, 1)) // the handler asks for the body: it runs
	ts.Check(err)
}

// signal SIG PID: sends the signal to the process; PID may be a file that holds it.
func signalPID(ts *testscript.TestScript, _ bool, args []string) {
	sig := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP}[args[0]]
	pid, err := strconv.Atoi(args[1])
	if err != nil {
		pid, err = strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[1])))
	}
	ts.Check(err)
	if sig == 0 || pid <= 1 {
		ts.Fatalf("signal %s to process %d", args[0], pid)
	}
	ts.Check(syscall.Kill(pid, sig))
}

// fetch URL TEXT: the page at the URL contains the text. The host name is not
// looked up: not every system knows that *.localhost is this machine.
func fetch(ts *testscript.TestScript, neg bool, args []string) {
	u, err := url.Parse(strings.TrimSpace(args[0]))
	ts.Check(err)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://127.0.0.1:"+u.Port()+u.Path, http.NoBody)
	ts.Check(err)
	req.Host = u.Host
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if strings.Contains(string(body), args[1]) == neg {
		ts.Fatalf("%s: %s\n%s", args[0], resp.Status, body)
	}
}

// setenv NAME FILE: sets the variable to the file's last word.
func setEnv(ts *testscript.TestScript, _ bool, args []string) {
	words := strings.Fields(ts.ReadFile(args[1]))
	ts.Setenv(args[0], words[len(words)-1])
}
