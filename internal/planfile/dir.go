package planfile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/buildcast/buildcast"
)

// planNames are the names of a directory's plan file.
var planNames = []string{"plan.yaml", "plan.yml", "plan.json"}

// Find reads the plan file at path. If path is a directory, it reads the plan file in
// it; without one, the plan brings all its files and finds out how they are built.
func Find(path string) (*buildcast.Plan, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, buildcast.Errorf(buildcast.InvalidArgument, "%s does not exist: name a plan file, or a directory with a site", path).Because(err)
	}
	if err != nil || !info.IsDir() {
		return Read(path)
	}
	for _, name := range planNames {
		if _, err := os.Lstat(filepath.Join(path, name)); err == nil {
			return Read(filepath.Join(path, name))
		}
	}
	return readDirectory(path)
}

func readDirectory(path string) (*buildcast.Plan, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer root.Close()
	d := &directory{path: path, fsys: root.FS(), files: make(map[string]buildcast.File)}
	if err := d.walk(); err != nil {
		return nil, err
	}
	p := &buildcast.Plan{Name: filepath.Base(abs), Detect: true, Tasks: []buildcast.Task{{Name: "Bring files", Files: d.files}}}
	if err := p.Validate(); err != nil {
		return nil, buildcast.Errorf(buildcast.CodeOf(err), "%s: %v", path, err).Because(err)
	}
	return p, nil
}

// directory collects the files of a directory that has no plan file.
type directory struct {
	path  string
	fsys  fs.FS
	files map[string]buildcast.File
	sizes []sized // of all files, also of those that do not fit
	total int64
}

type sized struct {
	name string
	size int64
}

// walk reads the files, except those that git leaves out. It looks at all sizes before
// it reads: the error of a directory that is too large names the largest files.
func (d *directory) walk() error {
	ignored, err := readIgnore(d.fsys)
	if err != nil {
		return d.problem(buildcast.InvalidArgument, "cannot read .gitignore: %v", cause(err))
	}
	err = fs.WalkDir(d.fsys, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return d.problem(buildcast.InvalidArgument, "cannot read %q: %v", clip(name), cause(err))
		case name == ".":
			return nil
		case ignored.match(name, e.IsDir()):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			return nil
		}
		return d.measure(name)
	})
	switch {
	case err != nil:
		return err
	case len(d.sizes) == 0:
		return d.problem(buildcast.InvalidArgument, "the directory has no files: name one with a site or a plan.yaml in it")
	case d.total > MaxFromSize:
		return d.problem(buildcast.TooLarge, "the files are %s in all, the limit is %s: the largest are %s; list in .gitignore what the build does not need, or let a task of a plan.yaml fetch it",
			megabytes(d.total), megabytes(MaxFromSize), d.largest(5))
	}
	for _, f := range d.sizes {
		content, err := readAtMost(d.fsys, f.name, f.size)
		if err != nil {
			return d.problem(buildcast.InvalidArgument, "cannot read %q: %v", clip(f.name), cause(err))
		}
		d.files[f.name] = buildcast.File{Content: content}
	}
	return nil
}

func (d *directory) measure(name string) error {
	info, err := fs.Stat(d.fsys, name) // of what a link points to, if that is in the directory
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is neither a file nor a directory: remove it, or list it in .gitignore")
	}
	if err != nil {
		return d.problem(buildcast.InvalidArgument, "cannot read %q: %v", clip(name), cause(err))
	}
	d.sizes = append(d.sizes, sized{name, info.Size()})
	d.total += info.Size()
	if len(d.sizes) > buildcast.MaxFiles {
		return d.problem(buildcast.TooLarge, "the directory has more than %d files: list in .gitignore what the build does not need, or let a task of a plan.yaml fetch it", buildcast.MaxFiles)
	}
	return nil
}

// largest names the largest files.
func (d *directory) largest(n int) string {
	bySize := slices.SortedFunc(slices.Values(d.sizes), func(a, b sized) int {
		return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.name, b.name))
	})
	var names []string
	for _, f := range bySize[:min(n, len(bySize))] {
		names = append(names, fmt.Sprintf("%s (%s)", clip(f.name), megabytes(f.size)))
	}
	return strings.Join(names, ", ")
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func (d *directory) problem(code buildcast.Code, format string, args ...any) error {
	return buildcast.Errorf(code, "%s: "+format, append([]any{d.path}, args...)...)
}
