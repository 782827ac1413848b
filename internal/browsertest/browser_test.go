package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/server"
	"github.com/buildcast/buildcast/js"
)

const events = 300

// page follows a build and reports what it saw when the build is over.
const page = `<!doctype html><meta charset="utf-8"><title>test</title><script type="module">
import { BuildProgress } from "/client/index.js";
const seen = { ids: [], transports: [], errors: [] };
const build = new BuildProgress(new URLSearchParams(location.search).get("build"), { url: location.origin });
build.addEventListener("update", (e) => seen.ids.push(...e.detail.events.map((x) => x.id)));
build.addEventListener("transport", (e) => seen.transports.push(e.detail.transport));
build.addEventListener("error", (e) => seen.errors.push(String(e.detail.message)));
build.addEventListener("end", () => fetch("/seen", { method: "POST", body: JSON.stringify(seen) }));
await fetch("/loaded", { method: "POST" });
</script>`

// seen is what the page reports.
type seen struct {
	IDs        []int64  `json:"ids"`
	Transports []string `json:"transports"`
	Errors     []string `json:"errors"`
}

func TestTheClientFallsBack(t *testing.T) {
	url := startServer(t)
	for _, tt := range []struct {
		name  string
		fault fault
		last  string // the transport that carries the end
	}{
		{"clean", fault{}, "websocket"},
		{"WebSocket refused", fault{refuseWebSocket: true}, "sse"},
		{"WebSocket cut every 300 ms", fault{cutWebSocket: 300 * time.Millisecond}, "sse"},
		{"streams held back", fault{refuseWebSocket: true, holdStreams: true}, "longpoll"},
		{"only short polls", fault{refuseWebSocket: true, refuseStreams: true, refuseWaiting: true}, "poll"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := follow(t, url, tt.fault)
			want := make([]int64, events)
			for i := range want {
				want[i] = int64(i + 1)
			}
			if !slices.Equal(got.IDs, want) {
				t.Errorf("%d events, not each once and in order: %v", len(got.IDs), got.IDs)
			}
			if n := len(got.Transports); n == 0 || got.Transports[n-1] != tt.last {
				t.Errorf("transports %v, want %s at the end; errors %v", got.Transports, tt.last, got.Errors)
			}
		})
	}
}

// follow lets a Chromium follow a build of its own through the fault while the
// build's events are appended, 10 at a time over some seconds.
func follow(t *testing.T, url string, f fault) seen {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	loaded, done := make(chan struct{}, 1), make(chan seen, 1)
	mux := http.NewServeMux()
	mux.Handle("/", f.proxy(t, url))
	mux.Handle("/client/", http.StripPrefix("/client/", http.FileServerFS(clientFiles(t))))
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, page) })
	mux.HandleFunc("POST /loaded", func(http.ResponseWriter, *http.Request) { loaded <- struct{}{} })
	mux.HandleFunc("POST /seen", func(_ http.ResponseWriter, r *http.Request) {
		var s seen
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			t.Error(err)
		}
		done <- s
	})
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	build := fmt.Sprintf("b%d", time.Now().UnixNano()%1e12)
	startChromium(ctx, t, front.URL+"/page?build="+build)
	await(ctx, t, loaded, "the page has loaded")

	c, err := client.New(url)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for n := 0; n < events; n += 10 {
		batch := make([]buildcast.NewEvent, 10)
		for i := range batch {
			batch[i].Type = "step"
		}
		if n+10 == events {
			batch[9].Type = buildcast.BuildCompleted
		}
		if _, err := c.Append(ctx, build, batch...); err != nil {
			t.Fatal(err)
		}
		<-tick.C // the network's faults need time to happen
	}
	return await(ctx, t, done, "the page has seen the end")
}

func await[T any](ctx context.Context, t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-ctx.Done():
		t.Fatalf("waited in vain until %s", what)
	}
	return v
}

func startServer(t *testing.T) string {
	t.Helper()
	cfg := config.Config{Listen: "127.0.0.1:0", PreviewListen: "127.0.0.1:0", DataDir: t.TempDir(), Builds: 1, Tasks: 1, DrainTimeout: time.Second, PreviewKeep: time.Hour}
	s, err := server.New(t.Context(), cfg, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s.URL()
}

func startChromium(ctx context.Context, t *testing.T, url string) {
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
	cmd := exec.CommandContext(ctx, path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+profile,
		"--remote-debugging-port=0", url)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		_ = os.RemoveAll(profile)
	})
}

func clientFiles(t *testing.T) fs.FS {
	t.Helper()
	files, err := fs.Sub(js.Source, "src")
	if err != nil {
		t.Fatal(err)
	}
	return files
}
