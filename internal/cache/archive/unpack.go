package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Unpack removes the outputs from root, and puts those of the archive in their place.
// If it fails, it removes what it has put there.
func Unpack(ctx context.Context, r io.Reader, root *os.Root, outputs []string, l Limits) (stats Stats, err error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxWindow(window), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return stats, err
	}
	defer z.Close()
	u := &unpacker{ctx: ctx, limits: l.withDefaults(), root: root, outputs: roots(outputs), buffer: make([]byte, 128<<10)}
	defer u.leave(0)
	if err := Remove(root, outputs); err != nil {
		return stats, err
	}
	if err := u.all(tar.NewReader(z)); err != nil {
		u.leave(0)
		return u.stats, errors.Join(err, Remove(root, outputs))
	}
	return u.stats, nil
}

// Remove removes the outputs, also those in directories that commands have made
// read-only.
func Remove(root *os.Root, outputs []string) error {
	for _, name := range roots(outputs) {
		if !validName(name) {
			return fmt.Errorf("%q is not the name of an output", name)
		}
		if root.RemoveAll(name) == nil {
			continue
		}
		unlock(root, name)
		if err := root.RemoveAll(name); err != nil {
			return fmt.Errorf("output %q cannot be removed: %w", name, err)
		}
	}
	return nil
}

// unlock makes directories writable.
func unlock(root *os.Root, name string) {
	info, err := root.Lstat(name)
	if err != nil || !info.IsDir() || root.Chmod(name, 0o700) != nil {
		return
	}
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return
	}
	names, _ := f.Readdirnames(-1)
	f.Close()
	for _, n := range names {
		unlock(root, path.Join(name, n))
	}
}

type unpacker struct {
	ctx     context.Context //nolint:containedctx // it lives as long as one call
	limits  Limits
	stats   Stats
	root    *os.Root
	outputs []string
	buffer  []byte

	last string // the name before
	// The directories of the archive that lead to where the next entry may be.
	names []string
	dirs  []*os.Root
}

func (u *unpacker) all(t *tar.Reader) error {
	for {
		if u.ctx.Err() != nil {
			return context.Cause(u.ctx)
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return u.complete()
		}
		if err != nil {
			return err
		}
		if err := u.entry(h, t); err != nil {
			return fmt.Errorf("%.200q: %w", h.Name, err)
		}
	}
}

// complete checks that no output is left after the last entry.
func (u *unpacker) complete() error {
	if len(u.outputs) > 0 {
		return fmt.Errorf("output %q is not in the archive", u.outputs[0])
	}
	return nil
}

// entry puts one entry in its place.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	for key := range h.PAXRecords {
		switch key {
		case "path", "linkpath", "size", "mtime":
		default:
			return fmt.Errorf("it has the record %.40q", key)
		}
	}
	name := h.Name
	if h.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
	}
	if !validName(name) {
		return errors.New("it is not a name below the workspace")
	}
	if u.last != "" && compare(u.last, name) >= 0 {
		return errors.New("it is not in order, or there twice")
	}
	u.last = name
	if h.Mode&^0o777 != 0 {
		return fmt.Errorf("it has the mode %#o", h.Mode)
	}
	if err := u.stats.count(name, h.Size, u.limits); err != nil {
		return err
	}
	dir, err := u.enter(name)
	if err != nil {
		return err
	}
	base := path.Base(name)
	switch h.Typeflag {
	case tar.TypeDir:
		return u.directory(dir, base, name)
	case tar.TypeSymlink:
		if !inside(name, h.Linkname) {
			return errors.New("it is a link that leads out of the workspace, or is not relative")
		}
		return dir.Symlink(h.Linkname, base)
	case tar.TypeReg:
		return u.file(dir, base, h, content)
	}
	return errors.New(outOfPack)
}

// enter returns the directory in which the entry is to be made: one that the archive
// has made, or the one in which an output is.
func (u *unpacker) enter(name string) (*os.Root, error) {
	parent := path.Dir(name)
	for n := len(u.names); n > 0; n-- {
		if u.names[n-1] == parent {
			u.leave(n)
			return u.dirs[n-1], nil
		}
	}
	if len(u.outputs) == 0 || name != u.outputs[0] {
		return nil, errors.New("it is not in an output, or its directory is missing")
	}
	u.outputs = u.outputs[1:]
	u.leave(0)
	if err := u.root.MkdirAll(parent, dirPerm); err != nil {
		return nil, err
	}
	dir, err := u.root.OpenRoot(parent)
	if err != nil {
		return nil, err
	}
	// It is left with the output: its name cannot be that of an entry's directory.
	u.names, u.dirs = append(u.names, "/"+name), append(u.dirs, dir)
	return dir, nil
}

// leave closes all but the first n directories.
func (u *unpacker) leave(n int) {
	for _, d := range u.dirs[n:] {
		d.Close()
	}
	u.names, u.dirs = u.names[:n], u.dirs[:n]
}

func (u *unpacker) directory(parent *os.Root, base, name string) error {
	if err := parent.Mkdir(base, dirPerm); err != nil {
		return err
	}
	dir, err := parent.OpenRoot(base)
	if err != nil {
		return err
	}
	u.names, u.dirs = append(u.names, name), append(u.dirs, dir)
	return dir.Chmod(".", dirPerm) // the process may have another umask
}

func (u *unpacker) file(dir *os.Root, base string, h *tar.Header, content io.Reader) error {
	perm := fs.FileMode(filePerm)
	if h.Mode&execBits != 0 {
		perm = progPerm
	}
	f, err := dir.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{content}, u.buffer)
	if err == nil && n != h.Size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.Chmod(perm)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return dir.Chtimes(base, constant, constant)
}
