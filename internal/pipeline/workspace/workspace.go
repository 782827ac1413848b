// Package workspace manages the directories in which builds run.
//
// Below the base directory each build has
//
//	{name}/build.json   its owner, and what it began with
//	{name}/work/        the workspace: files are written and commands run there
//	{name}/home/        HOME of its commands
//	{name}/tmp/         TMPDIR of its commands
//
// A resumed build keeps its workspace, so that completed tasks need not run again.
// A workspace that cannot be trusted is replaced by an empty one:
//   - it belongs to another build, or
//   - the machine has been restarted since: the commands' files may not have
//     reached the disk.
package workspace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/buildcast/buildcast"
)

// Names below a build's directory.
const (
	workDir  = "work"
	homeDir  = "home"
	tempDir  = "tmp"
	metaFile = "build.json"
)

// Owner identifies the build of a workspace. A new build under the id of a deleted
// one has another creation time.
type Owner struct {
	BuildID string         `json:"buildId"`
	Created buildcast.Time `json:"created"`
}

type meta struct {
	Owner
	Boot string `json:"boot"` // the machine's boot id; empty if the system has none
	Contents
}

// of reports whether the workspace is the owner's, and can be trusted.
func (m meta) of(owner Owner) bool {
	return m.BuildID == owner.BuildID && m.Created.Equal(owner.Created) && m.Boot == bootID()
}

// Workspace is the directory of one build. Close it.
type Workspace struct {
	// Kept reports whether earlier runs of the build have used it; otherwise it is new.
	Kept bool
	Contents

	dir  string // absolute, without links
	root *os.Root
}

// Open returns the owner's workspace in base/name. It creates the workspace if it
// does not exist, and replaces it if it cannot be trusted. Then fill, unless it is nil,
// says what the new workspace begins with.
func Open(base, name string, owner Owner, fill func(*New) (Contents, error)) (*Workspace, error) {
	if err := os.MkdirAll(base, 0o700); err != nil {
		return nil, err
	}
	// Commands run in the workspace and get its path in their environment, so the path
	// must be absolute.
	base, err := filepath.Abs(base)
	if err != nil {
		return nil, err
	}
	if base, err = filepath.EvalSymlinks(base); err != nil {
		return nil, err
	}
	w := &Workspace{dir: filepath.Join(base, name)}
	if m, err := readMeta(w.dir); err == nil && m.of(owner) {
		if w.root, err = openSub(w.dir, workDir); err == nil {
			w.Kept, w.Contents = true, m.Contents
			return w, nil
		}
	}
	if err := removeAll(w.dir); err != nil {
		return nil, err
	}
	if err := makeDirs(w.dir); err != nil {
		return nil, err
	}
	n := &New{base: base, dir: w.dir}
	if fill != nil {
		if w.Contents, err = fill(n); err != nil {
			return nil, err
		}
	}
	if err := n.complete(meta{owner, bootID(), w.Contents}); err != nil {
		return nil, err
	}
	if w.root, err = openSub(w.dir, workDir); err != nil {
		return nil, err
	}
	return w, nil
}

// makeDirs creates an empty workspace, which is not complete yet.
func makeDirs(dir string) error {
	for _, d := range []string{workDir, homeDir, tempDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	return nil
}

func readMeta(dir string) (m meta, err error) {
	b, err := os.ReadFile(filepath.Join(dir, metaFile))
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(b, &m)
}

// openSub opens the workspace itself, or HOME. A command may have replaced it with a
// link, which must not lead out of the build's directory.
func openSub(dir, name string) (*os.Root, error) {
	parent, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	info, err := parent.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", name)
	}
	return parent.OpenRoot(name)
}

// Path returns the workspace itself; Home and Temp return its commands' HOME and
// TMPDIR.
func (w *Workspace) Path() string { return filepath.Join(w.dir, workDir) }

// Home returns the HOME of its commands.
func (w *Workspace) Home() string { return filepath.Join(w.dir, homeDir) }

// Temp returns the TMPDIR of its commands.
func (w *Workspace) Temp() string { return filepath.Join(w.dir, tempDir) }

// Root returns the workspace as a directory that no link leads out of.
func (w *Workspace) Root() *os.Root { return w.root }

// HomeRoot opens the HOME of its commands as a directory that no link leads out of.
func (w *Workspace) HomeRoot() (*os.Root, error) { return openSub(w.dir, homeDir) }

// Close closes the directory and records the time in it; see Entry. No command may
// be running in it.
func (w *Workspace) Close() error {
	now := time.Now()
	return errors.Join(w.root.Close(), os.Chtimes(w.dir, now, now))
}

// WriteFiles writes the files of the task with this number, and returns when they
// are on the disk. A reader sees a file's old or new content, never a part of it. No
// file is written outside the workspace, whatever links commands have made in it.
func (w *Workspace) WriteFiles(ctx context.Context, task int, files map[string]buildcast.File) error {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names) // the same order each time, for the temporary names' sake
	dirs := map[string]struct{}{}
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.writeFile(task, name, files[name].Content); err != nil {
			return unwritable("file", name, err)
		}
		for d := path.Dir(name); ; d = path.Dir(d) { // new directories are entries of those above
			dirs[d] = struct{}{}
			if d == "." {
				break
			}
		}
	}
	for d := range dirs {
		if err := w.sync(d); err != nil {
			return unwritable("directory", d, err)
		}
	}
	return nil
}

func (w *Workspace) writeFile(task int, name string, content []byte) error {
	if !filepath.IsLocal(name) || name == "." {
		return errOutside
	}
	dir := path.Dir(name)
	if err := w.root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// All files of a task in a directory use one temporary name, so that the next run
	// overwrites what an interrupted run left behind.
	temp := path.Join(dir, fmt.Sprintf(".buildcast-task-%d", task))
	if err := w.root.RemoveAll(temp); err != nil {
		return err
	}
	// O_EXCL: a link is not followed.
	f, err := w.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = w.root.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, w.root.Remove(temp))
	}
	return nil
}

func (w *Workspace) sync(dir string) error {
	f, err := w.root.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Output returns the absolute path of a directory of the workspace, with its links
// followed. It returns InvalidArgument if the directory does not exist or is
// outside.
func (w *Workspace) Output(name string) (string, error) {
	if name == "" {
		name = "."
	}
	real, err := filepath.EvalSymlinks(filepath.Join(w.Path(), filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return "", refuse("output directory %q does not exist: let the build make it, or name another in the plan's output", name)
	}
	if err != nil {
		return "", refuse("output directory %q cannot be read: %v", name, explain(err))
	}
	if real != w.Path() && !strings.HasPrefix(real, w.Path()+string(filepath.Separator)) {
		return "", refuse("output %q leads outside the workspace: let it be a directory of the workspace itself", name)
	}
	return real, nil
}

func refuse(format string, args ...any) error {
	return buildcast.Errorf(buildcast.InvalidArgument, format, args...).At("output")
}

func unwritable(what, name string, err error) error {
	return buildcast.Errorf(buildcast.InvalidArgument, "%s %q cannot be written: %v", what, name, explain(err)).At("files").Because(err)
}

var errOutside = errors.New("it leads outside the workspace")

// explain returns the cause without the server's own paths.
func explain(err error) error {
	for { // errors may be nested
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = e.Err
		} else if e, ok := errors.AsType[*os.LinkError](err); ok {
			err = e.Err
		} else {
			break
		}
	}
	if err.Error() == "path escapes from parent" { // os.Root does not export this error
		return errOutside
	}
	return err
}
