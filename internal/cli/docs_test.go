package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/buildcast/buildcast/internal/cli/verb"
)

// documented are the files whose names of things are checked, and those of the
// folders below them.
var documented = []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "bench/README.md", "js/README.md", "docs", "examples"}

// Every path, flag, verb, error code, event type, environment variable, route and
// make target that the documents and the help texts name exists.
func TestDocsNameOnlyWhatExists(t *testing.T) {
	c := newDocsChecker(t)
	docs := helpTexts(c.model)
	for _, start := range documented {
		err := filepath.WalkDir(filepath.Join(c.root, start), func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Name() == "node_modules" {
				return fs.SkipDir
			}
			if err != nil || e.IsDir() || filepath.Ext(path) != ".md" {
				return err
			}
			text, err := os.ReadFile(path)
			name, _ := filepath.Rel(c.root, path)
			// A reader of the README has only what the README built.
			docs = append(docs, document{name: name, text: string(text), bare: name != "README.md"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range docs {
		for _, problem := range c.check(d) {
			t.Error(problem)
		}
	}
}

// The checker notices a wrong name of each kind, and none where all is right.
func TestDocsCheckerNotices(t *testing.T) {
	c := newDocsChecker(t)
	sh := func(line string) string { return "```sh\n" + line + "\n```\n" }
	for _, tt := range []struct{ right, wrong string }{
		{"[x](docs/plan.md)", "[x](docs/plans.md)"},
		{"[x](docs/plan.md#fields)", "[x](doc/plan.md#fields)"},
		{"`internal/httpapi`", "`internal/httpapis`"},
		{"`internal/store/{sqlite,postgres}`", "`internal/store/{sqlite,mysql}`"},
		{"`--preview-url`", "`--preview-port`"},
		{"`--limit 10`", "`--limits 10`"},
		{"`cursor_gone`", "`cursor_lost`"},
		{"`task_completed`", "`task_complete`"},
		{"BUILDCAST_API_KEYS=@keys", "BUILDCAST_KEYS=@keys"},
		{"`POST /api/builds/my-build/cancel`", "`POST /api/builds/my-build/stop`"},
		{"`GET /events/{id}`", "`GET /event/{id}`"},
		{"`make lint`", "`make linted`"},
		{sh("make test # all"), sh("make tests # all")},
		{sh("npm --prefix js run types"), sh("npm --prefix js run typing")},
		{sh("bin/buildcast build examples/hello-site/plan.yaml"), sh("bin/buildcast build examples/hello/plan.yaml")},
		{sh("go run ./cmd/buildcast version"), sh("go run ./cmd/buildcasts version")},
		{sh("bin/buildcast watch x --json"), sh("bin/buildcast watch x --jsonl")},
		{sh("bin/buildcast webhooks add https://a.example --type x"), sh("bin/buildcast webhooks create https://a.example")},
		{sh("bin/buildcast serve \\\n  --listen :80"), sh("bin/buildcast serve \\\n  --port 80")},
		{sh("X=1 bin/buildcast exec --task x -- make --jobs"), sh("X=1 bin/buildcast exec --name x -- make")},
		{sh("bin/buildcast watch x"), sh("buildcast watch x")},
		{sh("test \"$(bin/buildcast status x --json)\""), sh("test \"$(bin/buildcast state x --json)\"")},
		{"```\ninternal/cli/   verbs\n  verb/   shared\n```\n", "```\ninternal/cli/   verbs\n  verbs/   shared\n```\n"},
	} {
		if problems := c.check(document{name: "x.md", text: tt.right}); len(problems) > 0 {
			t.Errorf("%q: %v", tt.right, problems)
		}
		if problems := c.check(document{name: "x.md", text: tt.wrong}); len(problems) == 0 {
			t.Errorf("%q: nothing is noticed", tt.wrong)
		}
	}
}

func newDocsChecker(t *testing.T) *docsChecker {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	c := &docsChecker{root: root, words: map[string]bool{}, env: map[string]bool{}}
	var all commands
	parser, err := kong.New(&all, options(&verb.Session{Stdout: os.Stdout, Stderr: os.Stderr}, func(int) {})...)
	if err != nil {
		t.Fatal(err)
	}
	c.model = parser.Model.Node
	_ = kong.Visit(c.model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			for _, name := range flag.Envs {
				c.env[name] = true
			}
		}
		return next(nil)
	})
	c.readSources(t)
	c.targets = firstGroups(`(?m)^([a-z]+):`, c.read(t, "Makefile"))
	c.readScripts(t)
	if _, err := parser.Parse([]string{"serve", "--listen=127.0.0.1:0", "--preview-listen=127.0.0.1:0", "--data-dir=" + t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	own, err := startOwn(t.Context(), all.Serve.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.stop() }()
	c.routes = routesOf(t, own.url)
	return c
}

// readSources finds words with underscores and names of variables that the
// project's sources quote.
func (c *docsChecker) readSources(t *testing.T) {
	t.Helper()
	words, variables := regexp.MustCompile(`["'\x60]([a-z]+(?:_[a-z0-9]+)+)["'\x60]`), regexp.MustCompile(`"(BUILDCAST_[A-Z_]+)"`)
	err := filepath.WalkDir(c.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == "node_modules" || e.Name() == "testdata" || e.Name() == "test" || strings.HasPrefix(e.Name(), ".")) {
			return filepath.SkipDir
		}
		ext := filepath.Ext(path)
		if ext != ".go" && ext != ".js" && ext != ".sql" {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range variables.FindAllSubmatch(source, -1) {
			c.env[string(m[1])] = true // also of tests, which read some
		}
		names := words
		if ext == ".sql" { // tables and columns
			names = regexp.MustCompile(`\b([a-z]+(?:_[a-z0-9]+)+)\b`)
		}
		if !strings.HasSuffix(path, "_test.go") {
			for _, m := range names.FindAllSubmatch(source, -1) {
				c.words[string(m[1])] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (c *docsChecker) readScripts(t *testing.T) {
	t.Helper()
	var pack struct {
		Scripts map[string]string `json:"scripts"`
	}
	if err := json.Unmarshal(c.read(t, "js/package.json"), &pack); err != nil {
		t.Fatal(err)
	}
	c.scripts = map[string]bool{}
	for name := range pack.Scripts {
		c.scripts[name] = true
	}
}

func (c *docsChecker) read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.root, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func firstGroups(pattern string, text []byte) map[string]bool {
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
		found[string(m[1])] = true
	}
	return found
}

// routesOf asks a server which routes its API has.
func routesOf(t *testing.T, url string) map[string]bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/openapi.json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var api struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&api); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	routes := map[string]bool{}
	for path, methods := range api.Paths {
		for method := range methods {
			routes[strings.ToUpper(method)+" "+placeholds.ReplaceAllString(path, "{}")] = true
		}
	}
	return routes
}

// helpTexts are the verbs' help with the help of their flags and arguments.
func helpTexts(n *kong.Node) (docs []document) {
	_ = kong.Visit(n, func(node kong.Visitable, next kong.Next) error {
		switch v := node.(type) {
		case *kong.Node:
			docs = append(docs, document{name: v.FullPath() + " --help", text: v.Help + "\n```sh\n" + indented(v.Detail) + "```\n", bare: true})
		case *kong.Flag:
			docs = append(docs, document{name: "--" + v.Name, text: v.Help, bare: true})
		}
		return next(nil)
	})
	return docs
}

// indented returns the lines of a text that are examples.
func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "    ") {
			b.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	return b.String()
}
