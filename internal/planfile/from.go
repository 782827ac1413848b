package planfile

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/buildcast/buildcast"
)

// readFrom reads the file that from: names and passes it to found with the path
// ".", or each file below the directory that it names, with its path below it.
func (r *reader) readFrom(n *yaml.Node, name, at string, found func(below string, content []byte)) {
	name, ok := r.inside(n, name, at)
	if !ok {
		return
	}
	info, err := fs.Stat(r.from, name)
	switch {
	case err != nil:
		r.wrong(n, at, "cannot read %q: %v", clip(name), cause(err))
	case info.IsDir():
		r.readDir(n, name, at, found)
	default:
		if content, ok := r.readFile(n, name, at); ok {
			found(".", content)
		}
	}
}

// inside returns the path in the form of package fs, if its text stays in the plan
// file's directory. r.from refuses links that lead out of it.
func (r *reader) inside(n *yaml.Node, name, at string) (string, bool) {
	if r.from == nil {
		r.wrong(n, at, "only the plan file itself was sent, so the file beside it cannot be read: give the content itself, or use `buildcast build`, which sends both")
		return "", false
	}
	clean := path.Clean(name)
	if name == "" || strings.ContainsRune(name, 0) || !fs.ValidPath(clean) {
		r.wrong(n, at, "path %q is not allowed: name a file below the plan file's directory, without a leading slash or ..", clip(name))
		return "", false
	}
	return clean, true
}

func (r *reader) readDir(n *yaml.Node, dir, at string, found func(below string, content []byte)) {
	files := 0
	err := fs.WalkDir(r.from, dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		if files++; files > buildcast.MaxFiles {
			r.report(place(n), buildcast.TooLarge, at, "directory %q has more than %d files", clip(dir), buildcast.MaxFiles)
			return fs.SkipAll
		}
		content, ok := r.readFile(n, name, at)
		if !ok {
			return fs.SkipAll // the next file would only repeat the problem
		}
		found(strings.TrimPrefix(name, dir+"/"), content)
		return nil
	})
	switch {
	case err != nil:
		r.wrong(n, at, "cannot read directory %q: %v", clip(dir), cause(err))
	case files == 0:
		r.wrong(n, at, "directory %q has no files", clip(dir))
	}
}

// readFile reads one file within the budget. It checks the file's kind before it opens
// it: opening a named pipe would wait for a writer that may never come.
func (r *reader) readFile(n *yaml.Node, name, at string) ([]byte, bool) {
	info, err := fs.Stat(r.from, name)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	var content []byte
	if err == nil {
		content, err = readAtMost(r.from, name, r.budget+1)
	}
	if err != nil {
		r.wrong(n, at, "cannot read %q: %v", clip(name), cause(err))
		return nil, false
	}
	if r.budget -= int64(len(content)); r.budget < 0 {
		r.report(place(n), buildcast.TooLarge, at, "with %q the files named with from: are more than %d bytes in all: let a task fetch or make them", clip(name), MaxFromSize)
		r.budget = 0
		return nil, false
	}
	return content, true
}

func readAtMost(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// cause is the error without the operation and path that its text begins with.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// join puts below under the key of files. It does not clean the path: the
// plan's own check refuses what leaves the workspace.
func join(key, below string) string {
	switch {
	case below == ".":
		return key
	case key == ".":
		return below
	}
	return key + "/" + below
}
