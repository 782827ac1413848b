package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/buildcast/buildcast"
)

// workspace is where one build's tasks write files and run commands: below
// work. Commands have a home and a temporary directory of their own beside it.
type workspace struct {
	dir   string
	fresh bool // it was not there before
}

const (
	workDir = "work"
	homeDir = "home"
	tempDir = "tmp"
)

// openWorkspace makes the directories that are missing.
func openWorkspace(dir string) (*workspace, error) {
	w := &workspace{dir: dir}
	if _, err := os.Stat(w.work()); errors.Is(err, fs.ErrNotExist) {
		w.fresh = true
	}
	for _, name := range []string{homeDir, tempDir, workDir} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *workspace) work() string { return filepath.Join(w.dir, workDir) }
func (w *workspace) home() string { return filepath.Join(w.dir, homeDir) }
func (w *workspace) temp() string { return filepath.Join(w.dir, tempDir) }

// marker is the environment entry by which the workspace's processes are known.
func (w *workspace) marker() string { return "BUILDCAST_WORKSPACE=" + w.work() }

// writeFiles writes the files below the workspace, each whole or not at all, and
// on the disk when it returns. os.Root refuses every way out of the workspace,
// symbolic links that earlier commands made included.
func (w *workspace) writeFiles(files map[string]buildcast.File) error {
	if len(files) == 0 {
		return nil
	}
	root, err := os.OpenRoot(w.work())
	if err != nil {
		return err
	}
	defer root.Close()
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := writeFile(root, name, files[name].Content); err != nil {
			return fmt.Errorf("file %s: %w", name, err)
		}
	}
	return nil
}

func writeFile(root *os.Root, name string, content []byte) error {
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	temp := path.Join(path.Dir(name), ".buildcast-"+path.Base(name)+".part")
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, root.Remove(temp))
	}
	return root.Rename(temp, name)
}

// output is the directory to deploy. It must lie below the workspace, links resolved.
func (w *workspace) output(name string) (string, error) {
	if name == "" {
		name = "."
	}
	root, err := os.OpenRoot(w.work())
	if err != nil {
		return "", err
	}
	defer root.Close()
	info, err := root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", buildcast.Errorf(buildcast.InvalidArgument, "the output directory %s does not exist: check output in the plan, and that a task or the build command makes it", name).At("output")
	case err != nil:
		return "", buildcast.Errorf(buildcast.InvalidArgument, "the output directory %s cannot be used: it must be a directory below the workspace", name).At("output").Because(err)
	case !info.IsDir():
		return "", buildcast.Errorf(buildcast.InvalidArgument, "the output %s is not a directory", name).At("output")
	}
	// The root has found it inside; the target gets the path without links.
	resolved, err := filepath.EvalSymlinks(filepath.Join(w.work(), name))
	if err != nil {
		return "", fmt.Errorf("the output directory: %w", err)
	}
	return resolved, nil
}

// sweepWorkspaces removes workspaces that nothing has touched since a time; keep
// holds the directory names of builds that run.
func sweepWorkspaces(dir string, before time.Time, keep map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || keep[e.Name()] || info.ModTime().After(before) {
			continue
		}
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(append(errs, err)...)
}
