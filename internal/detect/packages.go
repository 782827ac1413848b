package detect

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Bounds of a walk through a workspace.
const (
	maxDepth   = 8
	maxEntries = 50_000
)

// decisive are the names of files that decide what an install brings.
var decisive = []string{
	"package.json", ".npmrc", ".yarnrc", ".yarnrc.yml", "pnpm-workspace.yaml", ".pnpmfile.cjs", "bunfig.toml", ".node-version", ".nvmrc",
	"pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb", "npm-shrinkwrap.json", "package-lock.json",
}

// Packages are the parts of a workspace that an install reads and makes, sorted.
type Packages struct {
	Decisive []string // files that decide what it brings, of all packages of the workspace
	Modules  []string // node_modules directories that exist; not those within them
	Locked   bool     // whether there is a lock file at the top: without one an install brings what is newest
	// Truncated: the workspace has too many files or levels, and not all were looked at.
	Truncated bool
}

// FindPackages walks through the workspace. It does not follow links.
func FindPackages(root *os.Root) (Packages, error) {
	var p Packages
	seen := 0
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir // a directory that cannot be read: npm cannot read it either
		}
		if seen++; seen > maxEntries {
			p.Truncated = true
			return fs.SkipAll
		}
		base := path.Base(name)
		switch {
		case d.IsDir() && base == "node_modules":
			p.Modules = append(p.Modules, name)
			return fs.SkipDir
		case d.IsDir() && base == ".git":
			return fs.SkipDir
		case d.IsDir() && strings.Count(name, "/") >= maxDepth:
			p.Truncated = true
			return fs.SkipDir
		case d.Type().IsRegular() && slices.Contains(decisive, base):
			p.Decisive = append(p.Decisive, name)
			p.Locked = p.Locked || slices.ContainsFunc(managers, func(m manager) bool { return m.lock == name })
		}
		return nil
	})
	slices.Sort(p.Decisive)
	slices.Sort(p.Modules)
	return p, err
}
