package cli

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// docsChecker finds names in a document that do not exist in the project.
type docsChecker struct {
	root    string          // of the project
	model   *kong.Node      // the command line
	words   map[string]bool // with underscores: codes, event types, and what sources quote
	env     map[string]bool
	targets map[string]bool // of make
	scripts map[string]bool // of npm
	routes  map[string]bool // "GET /api/builds/{}"
}

// foreign are words of other programs, which look like the project's.
var foreign = map[string]bool{
	"bin/buildcast":    true,                                                              // what the documents build
	"application/json": true, "application/problem+json": true, "text/event-stream": true, // media types
	"testing/synctest":   true,                       // a package of Go
	"wal_autocheckpoint": true, "node_modules": true, // SQLite, npm
	"proxy_pass": true, "proxy_http": true, "proxy_wstunnel": true, // nginx, Apache
}

// document is one file, or one help text.
type document struct {
	name, text string
	bare       bool // whether the program is called buildcast, without a path
}

// check returns what is wrong, a line each.
func (c *docsChecker) check(d document) (problems []string) {
	report := func(format string, args ...any) {
		problems = append(problems, d.name+": "+fmt.Sprintf(format, args...))
	}
	prose := fence.ReplaceAllString(d.text, "\n")
	for _, m := range link.FindAllStringSubmatch(prose, -1) {
		if !strings.Contains(m[1], ":") && !c.exists(d.name, m[1]) {
			report("link to %s, which does not exist", m[1])
		}
	}
	for _, m := range span.FindAllStringSubmatch(prose, -1) {
		c.checkSpan(d, strings.Join(strings.Fields(m[1]), " "), report)
	}
	for _, m := range fence.FindAllStringSubmatch(d.text, -1) {
		switch m[1] {
		case "sh":
			c.checkShell(d, m[2], report)
		case "":
			c.checkTree(d, m[2], report)
		}
	}
	for _, name := range variable.FindAllString(d.text, -1) {
		if !c.env[name] {
			report("environment variable %s, which nothing reads", name)
		}
	}
	return problems
}

var (
	fence      = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```")
	span       = regexp.MustCompile("`([^`]+)`")
	link       = regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)
	variable   = regexp.MustCompile(`BUILDCAST_[A-Z][A-Z_]*[A-Z]`)
	pathLike   = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.{},-]*)+$`)
	underscore = regexp.MustCompile(`^[a-z]+(_[a-z0-9]+)+$`)
	route      = regexp.MustCompile(`^(GET|POST|PUT|PATCH|DELETE) (/\S*)`)
	invocation = regexp.MustCompile(`(?:^|[\s($])((?:bin/|\./)?buildcast|go run \./cmd/buildcast) ([^|;&><)]*)`)
	placeholds = regexp.MustCompile(`\{\w+\}`)
)

type reportFunc = func(format string, args ...any)

func (c *docsChecker) checkSpan(d document, text string, report reportFunc) {
	if m := route.FindStringSubmatch(text); m != nil {
		p, _, _ := strings.Cut(m[2], "?")
		if name := m[1] + " " + placeholds.ReplaceAllString(p, "{}"); !c.knownRoute(name) {
			report("%s, which the API does not have", text)
		}
		return
	}
	first, _, _ := strings.Cut(text, " ")
	switch {
	case strings.HasPrefix(first, "--"):
		name, _, _ := strings.Cut(strings.TrimPrefix(first, "--"), "=")
		if flags := allFlags(c.model); name != "help" && !flags[name] {
			report("flag --%s, which no verb has", name)
		}
	case first == "make", first == "npm", first == "buildcast", strings.HasSuffix(first, "/buildcast"):
		c.checkShell(d, text, report)
	}
	for _, word := range strings.Fields(text) {
		word = strings.Trim(word, ",.;:'\"()")
		switch {
		case foreign[word]:
		case pathLike.MatchString(word) && !regexp.MustCompile(`^[\d.]+/\d+$`).MatchString(word):
			if !c.exists(d.name, word) {
				report("path %s, which does not exist", word)
			}
		case underscore.MatchString(word) && !c.words[word]:
			report("%s, which is no code, event type or other name", word)
		}
	}
}

// knownRoute also finds routes in which the document has an example in the place
// of a placeholder.
func (c *docsChecker) knownRoute(name string) bool {
	for r := range c.routes {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(r), `\{\}`, `[^/]+`)
		if regexp.MustCompile("^" + pattern + "$").MatchString(name) {
			return true
		}
	}
	return false
}

func (c *docsChecker) checkShell(d document, script string, report reportFunc) {
	script = strings.ReplaceAll(script, "\\\n", " ")
	for line := range strings.Lines(script) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if words[0] == "make" && len(words) > 1 && !c.targets[words[1]] {
			report("make %s, which the Makefile does not have", words[1])
		}
		if i := slices.Index(words, "run"); words[0] == "npm" && i > 0 && i+1 < len(words) && !c.scripts[words[i+1]] {
			report("npm run %s, which package.json does not have", words[i+1])
		}
		for _, m := range invocation.FindAllStringSubmatch(line, -1) {
			if m[1] == "buildcast" && !d.bare {
				report("%q calls buildcast without a path", line)
			}
			c.checkCommand(strings.Fields(m[2]), report)
		}
		for _, word := range words {
			if strings.HasPrefix(word, "../") {
				continue // beside the project
			}
			root, _, _ := strings.Cut(strings.TrimPrefix(word, "./"), "/")
			local := strings.HasPrefix(word, "./") || pathLike.MatchString(word) && c.exists("", root) && root != "bin"
			if local && !strings.HasSuffix(word, "...") && !c.exists(d.name, word) {
				report("path %s, which does not exist", word)
			}
		}
	}
}

// checkCommand checks the verbs and flags of one command line.
func (c *docsChecker) checkCommand(args []string, report reportFunc) {
	if len(args) > 0 && strings.HasPrefix(args[0], ".") {
		return // it is what another command makes: go build -o bin/buildcast ./cmd/buildcast
	}
	node := c.model
	for len(args) > 0 && len(node.Children) > 0 && !strings.HasPrefix(args[0], "-") {
		i := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == args[0] })
		if i < 0 {
			report("%s %s, which is no verb", node.FullPath(), args[0])
			return
		}
		node, args = node.Children[i], args[1:]
	}
	known := map[string]bool{"help": true}
	for _, group := range node.AllFlags(false) {
		for _, flag := range group {
			known[flag.Name] = true
		}
	}
	for _, arg := range args {
		if arg == "--" {
			return
		}
		name, _, _ := strings.Cut(arg, "=")
		if flag, ok := strings.CutPrefix(name, "--"); ok && !known[flag] {
			report("%s, which `%s` does not have", name, node.FullPath())
		}
	}
}

// checkTree checks a listing of folders: their names end with a slash, and what is
// indented is below the last one that is not.
func (c *docsChecker) checkTree(d document, listing string, report reportFunc) {
	above := ""
	for line := range strings.Lines(listing) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasSuffix(name, "/") {
			continue
		}
		if strings.HasPrefix(line, " ") {
			name = above + name
		} else {
			above = name
		}
		if !c.exists("", name) {
			report("folder %s, which does not exist", name)
		}
	}
}

// exists finds a path below the project's root, internal/, the document's folder or its
// sources. Of {a,b} each must exist.
func (c *docsChecker) exists(document, name string) bool {
	if before, rest, ok := strings.Cut(name, "{"); ok {
		choices, after, ok := strings.Cut(rest, "}")
		for choice := range strings.SplitSeq(choices, ",") {
			ok = ok && c.exists(document, before+choice+after)
		}
		return ok
	}
	folder := path.Dir(document)
	for _, base := range []string{"", "internal", folder, path.Join(folder, "src")} {
		if _, err := os.Stat(filepath.Join(c.root, base, name)); err == nil {
			return true
		}
	}
	return false
}

func allFlags(n *kong.Node) map[string]bool {
	all := map[string]bool{}
	_ = kong.Visit(n, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			all[flag.Name] = true
		}
		return next(nil)
	})
	return all
}
