// Package secretdir reads the secrets that builds may use from a directory of the
// server's operator: DIR/NAME for all projects, DIR/PROJECT/NAME for one.
package secretdir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/buildcast/buildcast"
)

// MaxSize is the size of the largest secret, in bytes.
const MaxSize = 8 << 10

// minSize is the size of the smallest: shorter values cannot be masked.
const minSize = 4

// Dir is a directory of secrets. It is read at each use, so that a secret can be
// changed without a restart. Many goroutines may use it.
type Dir struct{ path string }

// Open returns the directory. Other users must not be able to write to it.
func Open(path string) (*Dir, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, invalid("the directory %s cannot be read: create it, or name another one", path).Because(err)
	case !info.IsDir():
		return nil, invalid("%s is not a directory: name a directory with one file for each secret", path)
	case info.Mode().Perm()&0o022 != 0:
		return nil, invalid("the directory %s may be written by other users (its mode is %#o): run `chmod go-w %s`", path, info.Mode().Perm(), path)
	}
	return &Dir{path}, nil
}

func invalid(format string, args ...any) *buildcast.Error {
	return buildcast.Errorf(buildcast.InvalidArgument, "--secrets-dir: "+format, args...).At("--secrets-dir")
}

// Secret returns the value of the project's secret, or of the secret that all projects
// have. Errors name the file below the directory, and never a value. The name is one
// that a valid plan may have.
func (d *Dir) Secret(project, name string) (string, error) {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return "", unusable(name, "the directory of --secrets-dir cannot be read").Because(err)
	}
	defer root.Close()
	files := []string{name}
	if isFolder(project) {
		files = []string{project + "/" + name, name}
	}
	for _, file := range files {
		value, err := read(root, file)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return value, err
		}
	}
	return "", buildcast.Errorf(buildcast.NotFound, "secret %s does not exist on this server: put its value into the file %s of the directory of --secrets-dir", name, strings.Join(files, " or ")).At("secrets")
}

// isFolder reports whether a project may have a folder of its own.
func isFolder(project string) bool {
	return project != "" && project[0] != '.' && !strings.ContainsAny(project, "/\\\x00")
}

// read reads one file. Links may not lead out of the directory; O_NONBLOCK keeps the
// open from waiting for the writer of a named pipe.
func read(root *os.Root, file string) (string, error) {
	f, err := root.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return "", err
		}
		return "", unusable(file, "it cannot be read").Because(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", unusable(file, "it cannot be read").Because(err)
	}
	if !info.Mode().IsRegular() {
		return "", unusable(file, "it is not a regular file")
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return "", unusable(file, fmt.Sprintf("other users may read or change it (its mode is %#o): run `chmod o= %s`", mode, file))
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return "", unusable(file, "it cannot be read").Because(err)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	switch {
	case len(b) > MaxSize:
		return "", unusable(file, fmt.Sprintf("it is larger than %d bytes", MaxSize))
	case len(b) < minSize:
		return "", unusable(file, fmt.Sprintf("it has %d bytes: values of less than %d cannot be hidden in output, use a longer one", len(b), minSize))
	case bytes.IndexByte(b, 0) >= 0:
		return "", unusable(file, "it has a zero byte, which no variable can hold")
	}
	return string(b), nil
}

func unusable(file, why string) *buildcast.Error {
	return buildcast.Errorf(buildcast.InvalidArgument, "secret %s cannot be used: %s", file, why).At("secrets")
}
