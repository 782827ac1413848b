package deploy

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
	"syscall"

	"github.com/buildcast/buildcast"
)

// maxPath is the longest path below the output, in bytes.
const maxPath = 1024

// Limits of an output that is published by this machine.
const (
	MaxFiles = 20_000  // files and directories
	MaxBytes = 1 << 30 // of all files together
)

// Rules say what a target takes of an output directory.
type Rules struct {
	// Skip reports whether a path below the output is left out, with all that is
	// below it.
	Skip func(path string) bool
	// MaxFiles bounds files and directories together.
	MaxFiles int
	// MaxBytes bounds all files together; 0: they are not bounded together.
	MaxBytes int64
}

// Public are the rules of targets that copy the output as it is: they leave out
// hidden files and node_modules.
func Public() Rules {
	return Rules{Skip: func(name string) bool { return !Served(path.Base(name)) }, MaxFiles: MaxFiles, MaxBytes: MaxBytes}
}

// Served reports whether a path segment may be published. Hidden files such as
// .git and .env often hold secrets.
func Served(segment string) bool {
	return segment == ".well-known" || !strings.HasPrefix(segment, ".") && segment != "node_modules"
}

// Output is a build's output directory and what a target takes of it. Whoever made
// it is not trusted: everything is opened through Root, which refuses a link that
// leads outside, and only regular files are opened.
type Output struct {
	Root *os.Root
	// Name is the directory's, for messages.
	Name  string
	Dirs  []string // each before the directories in it
	Files []File   // in the order of their paths within each directory
	Bytes int64    // of all files

	rules Rules
}

// File is a regular file of an output, or a link to one inside the output.
type File struct {
	Path string // below the output
	Size int64
}

// Open opens the output directory and lists it. It refuses what cannot be published,
// before the first byte is read. The error is a *buildcast.Error with InvalidArgument
// or TooLarge, whose message names the file; it wraps fs.ErrNotExist if there are no
// files.
func Open(ctx context.Context, dir string, rules Rules) (*Output, error) {
	root, err := openRoot(dir)
	if err != nil {
		return nil, err
	}
	o := &Output{Root: root, Name: filepath.Base(dir), rules: rules}
	if err := o.scan(ctx); err != nil {
		root.Close()
		return nil, err
	}
	return o, nil
}

// Close closes the directory.
func (o *Output) Close() { o.Root.Close() }

// openRoot refuses a link, because its target need not belong to the build.
func openRoot(dir string) (*os.Root, error) {
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

// scanner walks the output. It follows links through the root.
type scanner struct {
	*Output
	ctx context.Context
	// above holds the directories from the top to the one being read. The walk
	// would follow a link to one of them for ever.
	above []fs.FileInfo
}

func (o *Output) scan(ctx context.Context) error {
	top, err := o.Root.Stat(".")
	if err != nil {
		return refuse("output directory %q cannot be read", o.Name).Because(err)
	}
	s := &scanner{Output: o, ctx: ctx, above: []fs.FileInfo{top}}
	if err := s.dir("."); err != nil {
		return err
	}
	if len(o.Files) == 0 {
		return refuse("output directory %q has no files to serve: let the build write an index.html into it, or name another in the plan's output", o.Name).Because(fs.ErrNotExist)
	}
	return nil
}

func (s *scanner) dir(name string) error {
	names, err := s.names(name)
	if err != nil {
		return err
	}
	for _, n := range names {
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		if err := s.entry(path.Join(name, n)); err != nil {
			return err
		}
	}
	return nil
}

// names returns the entries of one directory that are published, in order. It reads
// a directory in pieces: a hostile one has millions of entries.
func (s *scanner) names(dir string) ([]string, error) {
	f, err := s.Root.Open(dir)
	if err != nil {
		return nil, refuse("directory %q in the output cannot be read", dir).Because(err)
	}
	defer f.Close()
	var names []string
	for {
		entries, err := f.ReadDir(1000)
		for _, e := range entries {
			if !s.rules.Skip(path.Join(dir, e.Name())) {
				names = append(names, e.Name())
			}
		}
		switch {
		case s.ctx.Err() != nil:
			return nil, context.Cause(s.ctx)
		case len(names) > s.rules.MaxFiles:
			return nil, s.tooManyFiles()
		case errors.Is(err, io.EOF):
			slices.Sort(names)
			return names, nil
		case err != nil:
			return nil, refuse("directory %q in the output cannot be read", dir).Because(err)
		}
	}
}

func (s *scanner) entry(name string) error {
	info, err := s.Root.Stat(name)
	if err != nil {
		return s.unreadable(name, err)
	}
	switch {
	case len(s.Files)+len(s.Dirs) >= s.rules.MaxFiles:
		return s.tooManyFiles()
	case len(name) > maxPath:
		return refuse("a path in the output is longer than %d bytes: it begins with %q", maxPath, name[:80])
	case info.IsDir():
		return s.enter(name, info)
	case !info.Mode().IsRegular():
		return refuse("%q in the output is a %s: only files, directories and links to them can be deployed", name, kind(info.Mode()))
	}
	s.Files = append(s.Files, File{name, info.Size()})
	if s.Bytes += info.Size(); s.rules.MaxBytes > 0 && s.Bytes > s.rules.MaxBytes {
		return s.tooManyBytes()
	}
	return nil
}

func (s *scanner) enter(name string, info fs.FileInfo) error {
	for _, a := range s.above {
		if os.SameFile(a, info) {
			return refuse("%q in the output is a symbolic link to a directory that contains it: remove the link", name)
		}
	}
	s.Dirs = append(s.Dirs, name)
	s.above = append(s.above, info)
	err := s.dir(name)
	s.above = s.above[:len(s.above)-1]
	return err
}

// unreadable distinguishes a link that leads outside or nowhere from other failures.
func (s *scanner) unreadable(name string, err error) error {
	to, linkErr := s.Root.Readlink(name)
	switch {
	case linkErr != nil:
		return refuse("%q in the output cannot be read", name).Because(err)
	case errors.Is(err, fs.ErrNotExist):
		return refuse("%q in the output is a symbolic link to %q, which does not exist: remove the link", name, to)
	}
	return refuse("%q in the output is a symbolic link to %q, which cannot be followed inside the output directory: put a copy of the file there instead", name, to).Because(err)
}

func (o *Output) tooManyFiles() error {
	return buildcast.Errorf(buildcast.TooLarge, "the output has more than %d files and directories: name the directory of the finished site in the plan's output", o.rules.MaxFiles).At("output")
}

func (o *Output) tooManyBytes() error {
	return buildcast.Errorf(buildcast.TooLarge, "the output is larger than %d MiB: name the directory of the finished site in the plan's output", o.rules.MaxBytes>>20).At("output")
}

// OpenRegular opens a regular file. It does not wait for the writer of a named
// pipe: a command may have replaced the file with a pipe since it was listed.
func OpenRegular(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("it is a %s", kind(info.Mode()))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
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
