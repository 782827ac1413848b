// Package detect finds out how a site is installed and built, and which directory is
// deployed, from the files of its workspace.
//
// Commands of the build have written these files, so they are not trusted: all
// access goes through an [os.Root], only regular files are read, each up to maxFile
// bytes, and what is found is one of a few fixed commands. Nothing that a file says
// becomes part of a command.
package detect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/buildcast/buildcast"
)

// maxFile bounds what is read of one file, in bytes.
const maxFile = 1 << 20

// Command is a command that was found.
type Command struct {
	Script string // empty: there is nothing to do
	Tool   string // the package manager that it calls
	Found  string // the file that decided it
}

// manager is a package manager, recognized by its lock file.
type manager struct {
	lock, tool      string
	install, script string
}

// managers in the order in which their lock files decide if there are several. A
// package-lock.json comes last: it is the one that stays behind when a project moves
// to another manager.
var managers = []manager{
	{"pnpm-lock.yaml", "pnpm", "pnpm install --frozen-lockfile", "pnpm run build"},
	{"yarn.lock", "yarn", "", "yarn run build"}, // see yarnInstall
	{"bun.lock", "bun", "bun install --frozen-lockfile", "bun run build"},
	{"bun.lockb", "bun", "bun install --frozen-lockfile", "bun run build"},
	{"npm-shrinkwrap.json", "npm", "npm ci", "npm run build"},
	{"package-lock.json", "npm", "npm ci", "npm run build"},
}

// Without a lock file.
var unlocked = []manager{
	{"package.json", "npm", "npm install", "npm run build"},
	{"package.json", "pnpm", "pnpm install", "pnpm run build"},
	{"package.json", "yarn", "yarn install", "yarn run build"},
	{"package.json", "bun", "bun install", "bun run build"},
}

const (
	yarnClassic = "yarn install --frozen-lockfile"
	yarnBerry   = "yarn install --immutable"
)

// Known returns the command with this script, as Install or Build return it, except
// for Found. It reports false if they return no such command.
func Known(script string) (Command, bool) {
	if script == yarnClassic || script == yarnBerry {
		return Command{Script: script, Tool: "yarn"}, true
	}
	for _, m := range slices.Concat(managers, unlocked) {
		if script != "" && (script == m.install || script == m.script) {
			return Command{Script: script, Tool: m.tool}, true
		}
	}
	return Command{}, false
}

// Install returns the command that installs the site's packages. Without packages
// there is nothing to do.
func Install(root *os.Root) (Command, error) {
	p, err := readManifest(root)
	if err != nil || p == nil {
		return Command{}, err
	}
	m := p.manager(root)
	if m.tool == "yarn" && m.lock == "yarn.lock" {
		m.install, err = yarnInstall(root)
		if err != nil {
			return Command{}, err
		}
	}
	if m.lock == "package.json" && !p.hasPackages() {
		return Command{}, nil
	}
	return Command{Script: m.install, Tool: m.tool, Found: m.lock}, nil
}

// Build returns the command that runs the site's build script. Without a script there
// is nothing to do.
func Build(root *os.Root) (Command, error) {
	p, err := readManifest(root)
	if err != nil || p == nil || !isText(p.Scripts["build"]) {
		return Command{}, err
	}
	m := p.manager(root)
	return Command{Script: m.script, Tool: m.tool, Found: "the build script in package.json"}, nil
}

// manifest is what is read of package.json.
type manifest struct {
	PackageManager any            `json:"packageManager"`
	Scripts        map[string]any `json:"scripts"`

	Dependencies         map[string]any `json:"dependencies"`
	DevDependencies      map[string]any `json:"devDependencies"`
	OptionalDependencies map[string]any `json:"optionalDependencies"`
	PeerDependencies     map[string]any `json:"peerDependencies"`
	Workspaces           any            `json:"workspaces"`
}

// readManifest returns nil if there is no package.json.
func readManifest(root *os.Root) (*manifest, error) {
	b, err := read(root, "package.json")
	if err != nil || b == nil {
		return nil, err
	}
	p := new(manifest)
	if err := json.Unmarshal(b, p); err != nil {
		return nil, buildcast.Errorf(buildcast.InvalidArgument, "package.json cannot be read (%v): repair it, or give install, build and output in the plan", err)
	}
	return p, nil
}

func (p *manifest) hasPackages() bool {
	return len(p.Dependencies)+len(p.DevDependencies)+len(p.OptionalDependencies)+len(p.PeerDependencies) > 0 || p.Workspaces != nil
}

// manager returns the manager whose lock file exists. If there are several, or none,
// the field packageManager of package.json decides ("pnpm@9.1.0").
func (p *manifest) manager(root *os.Root) manager {
	named, _ := p.PackageManager.(string)
	named, _, _ = strings.Cut(named, "@")
	var first *manager
	for i, m := range managers {
		if !isFile(root, m.lock) {
			continue
		}
		if m.tool == named {
			return m
		}
		if first == nil {
			first = &managers[i]
		}
	}
	if first != nil {
		return *first
	}
	for _, m := range unlocked {
		if m.tool == named {
			return m
		}
	}
	return unlocked[0]
}

// yarnInstall tells the two lock file formats of yarn apart. Only the later one has
// __metadata, at its start.
func yarnInstall(root *os.Root) (string, error) {
	head, err := readHead(root, "yarn.lock", 4<<10)
	if err == nil && strings.Contains(string(head), "__metadata:") {
		return yarnBerry, nil
	}
	return yarnClassic, err
}

func isText(v any) bool {
	s, ok := v.(string)
	return ok && strings.TrimSpace(s) != ""
}

// isFile reports whether name is a regular file, or a link to one in the workspace.
func isFile(root *os.Root, name string) bool {
	info, err := root.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// read returns the file's content; nil if it does not exist.
func read(root *os.Root, name string) ([]byte, error) {
	b, err := readHead(root, name, maxFile+1)
	if len(b) > maxFile {
		return nil, buildcast.Errorf(buildcast.TooLarge, "%s is larger than %d bytes: make it smaller, or give install, build and output in the plan", name, maxFile)
	}
	return b, err
}

// readHead returns the first bytes of the file. O_NONBLOCK keeps the open from waiting
// for the writer of a named pipe.
func readHead(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	var b []byte
	if err == nil {
		b, err = io.ReadAll(io.LimitReader(f, limit))
	}
	if err != nil {
		return nil, unreadable(name, err)
	}
	return b, nil
}

func unreadable(name string, err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err // without the server's own path
	}
	return buildcast.Errorf(buildcast.InvalidArgument, "%s cannot be read (%v): repair it, or give install, build and output in the plan", name, err)
}

// Missing returns the fix if a command failed because its tool is not installed: exit
// code 127, and the shell's message at the end of the output.
func (c Command) Missing(exitCode int, output string) (string, bool) {
	if exitCode != 127 || c.Tool == "" || !strings.Contains(output, c.Tool+": not found") && !strings.Contains(output, c.Tool+": command not found") {
		return "", false
	}
	fix := "npm install --global " + c.Tool
	if c.Tool == "npm" {
		fix = "Node.js from https://nodejs.org"
	}
	return fmt.Sprintf("%s is not installed on this server, but %s needs it: install it (%s), or give another command in the plan", c.Tool, c.because(), fix), true
}

func (c Command) because() string {
	if c.Found != "" {
		return c.Found
	}
	return "`" + c.Script + "`"
}
