package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// settings are those of a server without a sandbox: it starts sooner.
func settings(t *testing.T) config.Config {
	t.Helper()
	return config.Config{
		Listen: "127.0.0.1:0", PreviewListen: "127.0.0.1:0", DataDir: filepath.Join(t.TempDir(), "data"),
		Builds: 2, Tasks: 2, PreviewKeep: time.Hour, DrainTimeout: 5 * time.Second, Sandbox: "off",
	}
}

var quiet = slog.New(slog.DiscardHandler)

// start runs a server until the test, or stop, ends it.
func start(t *testing.T, cfg config.Config) (s *Server, stop func() error) {
	t.Helper()
	return startLogging(t, cfg, quiet)
}

func startLogging(t *testing.T, cfg config.Config, logger *slog.Logger) (s *Server, stop func() error) {
	t.Helper()
	s, err := New(t.Context(), cfg, "test", logger)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	var result error
	var stopped bool
	stop = func() error {
		if !stopped {
			cancel()
			result, stopped = <-ended, true
		}
		return result
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return s, stop
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(b)
}

func TestServes(t *testing.T) {
	cfg := settings(t)
	s, stop := start(t, cfg)
	for _, path := range []string{"/healthz", "/readyz", "/api/builds", "/openapi.json"} {
		if status, body := get(t, s.URL()+path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _ := get(t, s.PreviewURL()+"/build-none/"); status != http.StatusNotFound {
		t.Errorf("preview of no build: %d", status)
	}
	info, err := ReadInfo(cfg.DataDir)
	if err != nil || info != (Info{URL: s.URL(), PublicURL: s.URL(), PreviewURL: s.PreviewURL(), PID: os.Getpid()}) {
		t.Errorf("server.json: %+v, %v", info, err)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if _, err := ReadInfo(cfg.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("server.json is left over: %v", err)
	}
	if status, _ := get(t, s.URL()+"/healthz"); status != 0 {
		t.Error("it answers after it has stopped")
	}
}

// A waiting poll is answered when the drain begins, not at its own timeout, so that
// its client continues at once.
func TestDrainEndsLongPolls(t *testing.T) {
	s, err := New(t.Context(), settings(t), "test", quiet)
	if err != nil {
		t.Fatal(err)
	}
	active := make(chan struct{}, 1)
	s.api.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateActive {
			active <- struct{}{}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error { return s.Run(ctx) })
	group.Go(func() error {
		if status, body := get(t, s.URL()+"/api/builds/x/events?lastEventId=0&wait=25s"); status != http.StatusOK {
			t.Errorf("the poll was answered with %d %s", status, body)
		}
		return nil
	})
	<-active
	began := time.Now()
	cancel()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 15*time.Second { // far below the poll's 25 s
		t.Errorf("the drain took %v", took)
	}
}

// Acknowledged events survive a stop.
func TestRestartKeepsEvents(t *testing.T) {
	cfg := settings(t)
	s, stop := start(t, cfg)
	for i := range 3 {
		body := strings.NewReader(fmt.Sprintf(`{"type":"step","data":{"n":%d}}`, i))
		resp, err := http.Post(s.URL()+"/api/builds/x/events", "application/json", body)
		if err != nil || resp.StatusCode != http.StatusCreated {
			t.Fatalf("%v, %v", resp, err)
		}
		resp.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	owner := s.dir.owner
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s, _ = start(t, cfg)
	if s.dir.owner != owner || owner == "" {
		t.Errorf("the owner of leases was %q and is %q", owner, s.dir.owner)
	}
	var poll struct {
		Events []buildcast.Event `json:"events"`
	}
	_, body := get(t, s.URL()+"/api/builds/x/events?lastEventId=0")
	if err := json.Unmarshal([]byte(body), &poll); err != nil || len(poll.Events) != 3 || poll.Events[2].ID != 3 {
		t.Errorf("%s, %v", body, err)
	}
}

// Each failure names the fix and releases everything: afterwards a server can use
// the same directory.
func TestNewFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct {
		name   string
		change func(*config.Config)
		code   buildcast.Code
		want   string
	}{
		{"port in use", func(c *config.Config) { c.Listen = taken.Addr().String() }, buildcast.Conflict, "--listen: " + taken.Addr().String() + " is in use"},
		{"preview port in use", func(c *config.Config) { c.PreviewListen = taken.Addr().String() }, buildcast.Conflict, "--preview-listen: "},
		{"not this machine's address", func(c *config.Config) { c.Listen = "192.0.2.1:0" }, buildcast.InvalidArgument, "use an address of this machine"},
		{"short key", func(c *config.Config) { c.APIKeys = []string{"hunter2"} }, buildcast.InvalidArgument, "16 characters"},
		{"bad origin", func(c *config.Config) { c.AllowOrigins = []string{"nonsense"} }, buildcast.InvalidArgument, `"nonsense"`},
		{"no Postgres", func(c *config.Config) { c.Database = "postgres://u:hunter2@127.0.0.1:1/d" }, "", "127.0.0.1:1"},
		{"no directory", func(c *config.Config) { c.DataDir = "/dev/null/x" }, buildcast.InvalidArgument, "--data-dir"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			good := settings(t)
			cfg := good
			tt.change(&cfg)
			s, err := New(t.Context(), cfg, "test", quiet)
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			if tt.code != "" && buildcast.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v (%s), want %q", err, buildcast.CodeOf(err), tt.want)
			}
			if AddressTaken(err) != strings.Contains(tt.name, "port in use") {
				t.Errorf("AddressTaken is %v", AddressTaken(err))
			}
			again, err := New(t.Context(), good, "test", quiet)
			if err != nil {
				t.Fatalf("what the failure took is not given back: %v", err)
			}
			again.Close()
			again.Close() // harmless
		})
	}
}

func TestDataDirBelongsToOne(t *testing.T) {
	cfg := settings(t)
	s, stop := start(t, cfg)
	get(t, s.URL()+"/healthz") // it runs, so it has written where it is
	_, err := New(t.Context(), cfg, "test", quiet)
	if buildcast.CodeOf(err) != buildcast.Conflict || !strings.Contains(err.Error(), s.URL()) || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("error %v", err)
	}
	if AddressTaken(err) {
		t.Error("counts as a taken address")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	second, err := New(t.Context(), cfg, "test", quiet)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

func TestDataDirIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if err := d.writeInfo(Info{URL: "http://x"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, ownerFile: 0o600, infoFile: 0o600, lockFile: 0o600} {
		info, err := os.Stat(filepath.Join(path, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", name, info.Mode(), err)
		}
	}
}

// A part that ends by itself stops the others, and is the error.
func TestAPartThatEndsStopsTheServer(t *testing.T) {
	s, err := New(t.Context(), settings(t), "test", quiet)
	if err != nil {
		t.Fatal(err)
	}
	s.preview.listener.Close()
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "the preview server") {
		t.Errorf("error %v", err)
	}
}

// A part that does not end is named, and waited for no longer than promised.
func TestStageThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping, stop := context.WithCancel(t.Context())
		stop()
		s := &Server{config: config.Config{DrainTimeout: 10 * time.Second}, stopping: stopping}
		var group errgroup.Group
		st := s.newStage(&group, "the builds")
		release := make(chan struct{})
		st.run("the pipeline", func(context.Context) error { <-release; return nil })
		began := time.Now()
		err := st.end()
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "the builds did not stop within 21s") || took != 21*time.Second {
			t.Errorf("%v after %v", err, took)
		}
		close(release)
		if err := group.Wait(); err != nil {
			t.Errorf("it was told to end: %v", err)
		}
	})
}

func TestURLOf(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8080": "http://127.0.0.1:8080", ":8080": "http://127.0.0.1:8080", "0.0.0.0:1": "http://127.0.0.1:1",
		"[::]:1": "http://127.0.0.1:1", "[::1]:1": "http://[::1]:1", "localhost:80": "http://localhost:80",
	} {
		if got := URLOf(listen); got != want {
			t.Errorf("URLOf(%q) = %s, want %s", listen, got, want)
		}
	}
}
