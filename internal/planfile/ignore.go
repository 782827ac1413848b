package planfile

import (
	"errors"
	"io/fs"
	"path"
	"strings"
)

// maxIgnore bounds a .gitignore, in bytes.
const maxIgnore = 64 << 10

// ignore holds the patterns of a .gitignore at the top of a directory. It knows names
// with *, ? and [a-z], paths, ! and / at the end; ** stands for any directories only at
// the start of a pattern.
type ignore []pattern

type pattern struct {
	glob     string
	anchored bool // it is a path from the top, and not a name
	dirs     bool // directories only
	keep     bool // it brings back what an earlier pattern left out
}

// always are the directories that no build needs from where it comes from.
var always = ignore{{glob: ".git"}, {glob: "node_modules", dirs: true}, {glob: ".buildcast", dirs: true}}

func readIgnore(fsys fs.FS) (ignore, error) {
	info, err := fs.Stat(fsys, ".gitignore")
	if errors.Is(err, fs.ErrNotExist) {
		return always, nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		return nil, err
	}
	b, err := readAtMost(fsys, ".gitignore", maxIgnore)
	return append(parseIgnore(string(b)), always...), err
}

func parseIgnore(text string) (all ignore) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		var p pattern
		line, p.keep = strings.CutPrefix(line, "!")
		line, p.dirs = strings.CutSuffix(line, "/")
		line = strings.TrimSuffix(line, "/**") // what is in a directory: nothing is left of it
		rest, anywhere := strings.CutPrefix(line, "**/")
		p.anchored = !anywhere && strings.Contains(rest, "/")
		p.glob = strings.TrimPrefix(rest, "/")
		if _, err := path.Match(p.glob, ""); err == nil && p.glob != "" {
			all = append(all, p)
		}
	}
	return all
}

// match reports whether the path is left out. The last pattern that matches decides.
func (all ignore) match(name string, dir bool) bool {
	for i := len(all) - 1; i >= 0; i-- {
		p := all[i]
		on := path.Base(name)
		if p.anchored {
			on = name
		}
		if ok, _ := path.Match(p.glob, on); ok && (dir || !p.dirs) {
			return !p.keep
		}
	}
	return false
}
