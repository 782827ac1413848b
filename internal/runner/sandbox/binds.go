package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// base are the directories that are always shown: as they are on the host, which may
// be symbolic links into /usr.
var base = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// etc is what programs read of /etc. It holds no secrets.
var etc = []string{"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime"}

// taken are the paths that the sandbox has for itself.
var taken = []string{Workspace, Home, Temp, own, "/proc", "/dev"}

// Binds returns what commands may read of the host: the system's programs, what the
// entries of PATH need, and the directories in extra. hidden are directories of the
// server that must never be seen; hide are those of them that lie below a bind, so
// that they must be covered.
func Binds(path string, extra, hidden []string) (binds []Bind, hide []string) {
	for _, p := range slices.Concat(base, etc) {
		info, err := os.Lstat(p)
		switch {
		case err != nil:
		case info.Mode()&os.ModeSymlink != 0 && !slices.Contains(etc, p):
			if to, err := os.Readlink(p); err == nil {
				binds = append(binds, Bind{to, p, true})
			}
		default:
			binds = append(binds, Bind{Source: p, Target: p})
		}
	}
	add := func(dir string) {
		if source, ok := shown(dir, binds, hidden); ok {
			binds = append(binds, Bind{Source: source, Target: dir})
		}
	}
	for _, dir := range filepath.SplitList(path) {
		for _, d := range installation(dir) {
			add(d)
		}
	}
	for _, dir := range extra {
		add(filepath.Clean(dir))
	}
	for _, dir := range hidden {
		if slices.ContainsFunc(binds, func(b Bind) bool { return !b.Link && Below(dir, b.Target) }) {
			hide = append(hide, dir)
		}
	}
	return binds, hide
}

// installation returns the directories that the programs in an entry of PATH need:
// those beside a bin, but not all of its parent, which may be somebody's home.
func installation(dir string) []string {
	dir = filepath.Clean(dir)
	if !filepath.IsAbs(dir) {
		return nil
	}
	dirs := []string{dir}
	if parent := filepath.Dir(dir); filepath.Base(dir) == "bin" && parent != "/" {
		for _, name := range []string{"lib", "lib64", "libexec", "include"} {
			dirs = append(dirs, filepath.Join(parent, name))
		}
	}
	return dirs
}

// shown returns what is to be bound at dir, unless it is bound already, does not
// exist, or must not be seen.
func shown(dir string, binds []Bind, hidden []string) (source string, ok bool) {
	source, err := filepath.EvalSymlinks(dir)
	if err != nil || dir == "/" || source == "/" {
		return "", false
	}
	if info, err := os.Stat(source); err != nil || !info.IsDir() {
		return "", false
	}
	for _, t := range taken {
		if Below(dir, t) || Below(t, dir) {
			return "", false
		}
	}
	home, _ := os.UserHomeDir()
	for _, h := range append([]string{home}, hidden...) {
		if h != "" && Below(h, source) { // it holds all of that directory
			return "", false
		}
	}
	if slices.ContainsFunc(hidden, func(h string) bool { return Below(source, h) }) {
		return "", false
	}
	return source, !slices.ContainsFunc(binds, func(b Bind) bool { return Below(dir, b.Target) })
}

// Below reports whether path is dir or lies below it.
func Below(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
