package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/buildcast/buildcast"
)

// maxPath is the longest path below the output, in bytes.
const maxPath = 1024

// listing holds what one deploy copies.
type listing struct {
	dirs  []string // each before the directories in it
	files []string
	bytes int64
}

// openOutput opens the output directory. It refuses a link, because its target
// need not belong to the build.
func openOutput(dir string) (*os.Root, error) {
	name := filepath.Base(dir)
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, refuse("output directory %q does not exist: let the build make it, or name another in the plan's output", name).Because(err)
	case err != nil:
		return nil, refuse("output directory %q cannot be read", name).Because(err)
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, refuse("output directory %q is a symbolic link: name the directory itself in the plan's output", name)
	case !info.IsDir():
		return nil, refuse("output %q is not a directory: name its directory", name)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, refuse("output directory %q cannot be read", name).Because(err)
	}
	return root, nil
}

func refuse(format string, args ...any) *buildcast.Error {
	return buildcast.Errorf(buildcast.InvalidArgument, format, args...).At("output")
}

// scanner walks the output. It follows links through root, which refuses a link
// that leads outside.
type scanner struct {
	ctx  context.Context
	root *os.Root
	list listing
	// above holds the directories from the top to the one being read. The walk
	// would follow a link to one of them for ever.
	above []fs.FileInfo
}

// scan lists the files to copy, and refuses those that cannot be copied before
// the first byte is written. Errors call the directory name.
func scan(ctx context.Context, root *os.Root, name string) (*listing, error) {
	s := &scanner{ctx: ctx, root: root}
	top, err := root.Stat(".")
	if err != nil {
		return nil, refuse("output directory %q cannot be read", name).Because(err)
	}
	s.above = append(s.above, top)
	if err := s.dir("."); err != nil {
		return nil, err
	}
	if len(s.list.files) == 0 {
		return nil, refuse("output directory %q has no files to serve: let the build write an index.html into it, or name another in the plan's output", name).Because(fs.ErrNotExist)
	}
	return &s.list, nil
}

func (s *scanner) dir(name string) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	names, err := s.names(name)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := s.entry(path.Join(name, n)); err != nil {
			return err
		}
	}
	return nil
}

// names returns the entries of one directory that are deployed, in order.
func (s *scanner) names(dir string) ([]string, error) {
	f, err := s.root.Open(dir)
	if err != nil {
		return nil, refuse("directory %q in the output cannot be read", dir).Because(err)
	}
	defer f.Close()
	var names []string
	for {
		entries, err := f.ReadDir(1000)
		for _, e := range entries {
			if served(e.Name()) {
				names = append(names, e.Name())
			}
		}
		switch {
		case len(names) > MaxFiles:
			return nil, tooManyFiles()
		case errors.Is(err, io.EOF):
			slices.Sort(names)
			return names, nil
		case err != nil:
			return nil, refuse("directory %q in the output cannot be read", dir).Because(err)
		}
	}
}

func (s *scanner) entry(name string) error {
	info, err := s.root.Stat(name)
	if err != nil {
		return s.unreadable(name, err)
	}
	switch {
	case len(s.list.files)+len(s.list.dirs) >= MaxFiles:
		return tooManyFiles()
	case len(name) > maxPath:
		return refuse("a path in the output is longer than %d bytes: it begins with %q", maxPath, name[:80])
	case info.IsDir():
		return s.enter(name, info)
	case !info.Mode().IsRegular():
		return refuse("%q in the output is a %s: only files, directories and links to them can be deployed", name, kind(info.Mode()))
	}
	s.list.files = append(s.list.files, name)
	if s.list.bytes += info.Size(); s.list.bytes > MaxBytes {
		return tooManyBytes()
	}
	return nil
}

func (s *scanner) enter(name string, info fs.FileInfo) error {
	for _, a := range s.above {
		if os.SameFile(a, info) {
			return refuse("%q in the output is a symbolic link to a directory that contains it: remove the link", name)
		}
	}
	s.list.dirs = append(s.list.dirs, name)
	s.above = append(s.above, info)
	err := s.dir(name)
	s.above = s.above[:len(s.above)-1]
	return err
}

// unreadable distinguishes a link that leads outside or nowhere from other failures.
func (s *scanner) unreadable(name string, err error) error {
	to, linkErr := s.root.Readlink(name)
	switch {
	case linkErr != nil:
		return refuse("%q in the output cannot be read", name).Because(err)
	case errors.Is(err, fs.ErrNotExist):
		return refuse("%q in the output is a symbolic link to %q, which does not exist: remove the link", name, to)
	}
	return refuse("%q in the output is a symbolic link to %q, which cannot be followed inside the output directory: put a copy of the file there instead", name, to).Because(err)
}

func tooManyFiles() error {
	return buildcast.Errorf(buildcast.TooLarge, "the output has more than %d files and directories: name the directory of the finished site in the plan's output", MaxFiles).At("output")
}

func tooManyBytes() error {
	return buildcast.Errorf(buildcast.TooLarge, "the output is larger than %d MiB: name the directory of the finished site in the plan's output", MaxBytes>>20).At("output")
}

// served reports whether a path segment may be part of a preview. Hidden files
// such as .git and .env often hold secrets.
func served(segment string) bool {
	return segment == ".well-known" || !strings.HasPrefix(segment, ".") && segment != "node_modules"
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeDevice != 0:
		return "device"
	}
	return fmt.Sprintf("file of the kind %v", m.Type())
}
