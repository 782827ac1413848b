package openapitest

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/server"
)

// startServer runs a server until the test ends; it returns its URL and the path
// of a copy of its document.
func startServer(t *testing.T) (url, document string) {
	t.Helper()
	s, err := server.New(t.Context(), config.Config{
		Listen: "127.0.0.1:0", PreviewListen: "127.0.0.1:0", DataDir: filepath.Join(t.TempDir(), "data"),
		Builds: 1, Tasks: 1, DrainTimeout: time.Second, PreviewKeep: time.Hour, Sandbox: "off",
	}, "1.2.3", slog.New(slog.DiscardHandler))
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
	resp, err := http.Get(s.URL() + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	document = filepath.Join(t.TempDir(), "openapi.json")
	write(t, document, text)
	return s.URL(), document
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs a program in the directory, and returns what it prints.
func run(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}

// tool is the path of an npm package's program.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("node/node_modules/.bin/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is not installed: run make deps", name)
	}
	return path
}

func TestRedoclyHasNothingToSay(t *testing.T) {
	t.Parallel()
	_, document := startServer(t)
	said := run(t, "node", tool(t, "redocly"), "lint", "--config", "redocly.yaml", "--format", "json", document)
	var found struct{ Problems []any }
	// Its advice about Node may come before and after.
	begin, end := strings.Index(said, "\n{"), strings.LastIndex(said, "\n}")
	if begin < 0 || end < begin || json.Unmarshal([]byte(said[begin:end+2]), &found) != nil || len(found.Problems) > 0 {
		t.Errorf("it says %s", said)
	}
}

func TestSpectralHasNothingToSay(t *testing.T) {
	t.Parallel()
	_, document := startServer(t)
	run(t, "node", tool(t, "spectral"), "lint", "--ruleset", "spectral.yaml", "--fail-severity", "hint", document)
}

// A client of openapi-typescript's types compiles strictly, and works.
func TestTypeScriptClient(t *testing.T) {
	t.Parallel()
	url, document := startServer(t)
	dir := t.TempDir()
	modules, err := filepath.Abs("node/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	client, err := os.ReadFile("node/client.ts")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "client.ts"), client)
	write(t, filepath.Join(dir, "package.json"), []byte(`{"type":"module"}`))
	run(t, dir, tool(t, "openapi-typescript"), document, "--output", "api.d.ts")
	run(t, dir, tool(t, "tsc"), "--strict", "--module", "nodenext", "--target", "es2023", "--lib", "es2023,dom,dom.iterable", "--skipLibCheck", "client.ts")
	run(t, dir, "node", "client.js", url)
}
