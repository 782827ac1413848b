//go:build compat

package openapitest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// generate makes a client of the document in a directory.
type generate func(t *testing.T, generator, document, dir string)

// Clients that the Go generators make with their defaults compile, and work.
func TestGoClients(t *testing.T) {
	tools, err := filepath.Abs("../../tools")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, module string
		generate     generate
	}{
		{"oapi-codegen", "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen", func(t *testing.T, generator, document, dir string) {
			run(t, dir, generator, "-package", "api", "-o", filepath.Join(dir, "api.go"), document)
		}},
		{"ogen", "github.com/ogen-go/ogen/cmd/ogen", func(t *testing.T, generator, document, dir string) {
			run(t, dir, generator, "--package", "api", "--target", dir, document)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, document := startServer(t)
			dir := t.TempDir()
			generator := filepath.Join(dir, "generator")
			run(t, tools, "go", "build", "-o", generator, tt.module)
			api := filepath.Join(dir, "api")
			if err := os.Mkdir(api, 0o755); err != nil {
				t.Fatal(err)
			}
			tt.generate(t, generator, document, api)
			if t.Failed() {
				return
			}
			program := filepath.Join(dir, "client")
			run(t, tools, "go", "build", "-overlay", overlay(t, tools, api, tt.name), "-o", program, "./client")
			if !t.Failed() {
				run(t, dir, program, url)
			}
		})
	}
}

// overlay puts the generated files and the client into the module of tools, which
// has what they import, without writing there.
func overlay(t *testing.T, tools, api, name string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(api, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("nothing was generated: %v", err)
	}
	main, err := filepath.Abs(filepath.Join("testdata", map[string]string{"oapi-codegen": "oapi", "ogen": "ogen"}[name]+".go.txt"))
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{filepath.Join(tools, "client", "main.go"): main}
	for _, file := range files {
		replace[filepath.Join(tools, "client", "api", filepath.Base(file))] = file
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "overlay.json")
	write(t, path, text)
	return path
}
