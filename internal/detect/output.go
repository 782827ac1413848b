package detect

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"

	"github.com/buildcast/buildcast"
)

// outputs are the directories that build tools make, by custom. public comes last:
// for most tools it holds files that they copy.
var outputs = []string{"dist", "build", "out", "_site", ".output/public", "public"}

// configs are files that may name another directory, with outDir.
var configs = []string{
	"vite.config.js", "vite.config.ts", "vite.config.mjs", "vite.config.mts", "vite.config.cjs", "vite.config.cts",
	"astro.config.js", "astro.config.ts", "astro.config.mjs", "astro.config.mts",
}

var (
	// A directory that is written as text; what a program computes is not found.
	outDir = regexp.MustCompile(`(?m)^[^/\n]*\boutDir\s*:\s*["'\x60]([^"'\x60\n$]{1,200})["'\x60]`)
	// The directory that outDir is relative to.
	siteRoot = regexp.MustCompile(`(?m)^\s*root\s*:\s*["'\x60]([^"'\x60\n$]{1,200})["'\x60]`)
)

// Output returns the directory to deploy, below the workspace: the one that the
// tool's configuration names, or the first of outputs that has a page index.html, or
// the workspace itself if it has one. Otherwise it is the first of outputs that has
// files. built reports whether a build command has run: the page index.html in the
// workspace is then the build's source.
func Output(root *os.Root, built bool) (string, error) {
	if named := configured(root); named != "" && hasFiles(root, named) {
		return named, nil
	}
	for _, dir := range outputs {
		if isFile(root, dir+"/index.html") {
			return dir, nil
		}
	}
	if !built && isFile(root, "index.html") {
		return ".", nil
	}
	for _, dir := range outputs {
		if hasFiles(root, dir) {
			return dir, nil
		}
	}
	if isFile(root, "index.html") {
		return ".", nil
	}
	return "", buildcast.Errorf(buildcast.InvalidArgument,
		"no directory to deploy was found: none of %s exists, and there is no index.html: name the directory with output in the plan, or set deploy to none",
		strings.Join(outputs, ", ")).At("output")
}

func configured(root *os.Root) string {
	for _, name := range configs {
		b, err := read(root, name)
		if err != nil || b == nil {
			continue // it only helps
		}
		found := outDir.FindSubmatch(b)
		if found == nil {
			continue
		}
		dir := string(found[1])
		if r := siteRoot.FindSubmatch(b); r != nil {
			dir = path.Join(string(r[1]), dir)
		}
		if dir = path.Clean(dir); fs.ValidPath(dir) && dir != "." {
			return dir
		}
	}
	return ""
}

func hasFiles(root *os.Root, dir string) bool {
	info, err := root.Stat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	f, err := root.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return !errors.Is(err, io.EOF)
}
