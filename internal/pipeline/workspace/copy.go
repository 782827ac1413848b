package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Bounds of a copy. A sparse file counts with its whole size, which is read.
const (
	maxCopyEntries = 2_000_000
	maxCopyBytes   = 64 << 30
	maxCopyDepth   = 100     // directories in each other, each of which is open at once
	copyPiece      = 8 << 20 // bytes between two looks at the context
	sparsePiece    = 64 << 10
	listPiece      = 1000 // entries of a directory
)

// copier copies directories that commands have made, which may be hostile. It copies
// regular files with their modes and times, directories, and symbolic links as links.
// It leaves out everything else: a FIFO or a device must not be opened. Files of the
// copy are new ones: a hard link would let one build change another build's files.
type copier struct {
	ctx     context.Context
	clone   bool // the file system can share the files' blocks
	entries int
	bytes   int64
}

func (c *copier) copyInto(from *os.Root, to string) error {
	into, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	return errors.Join(c.copyDir(from, into, 0), into.Close())
}

func (c *copier) copyDir(from, to *os.Root, depth int) error {
	if depth > maxCopyDepth {
		return fmt.Errorf("the workspace has more than %d directories in each other", maxCopyDepth)
	}
	dir, err := from.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(listPiece)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := c.copyEntry(from, to, e, depth); err != nil {
				return err
			}
		}
	}
}

func (c *copier) copyEntry(from, to *os.Root, e fs.DirEntry, depth int) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if c.entries++; c.entries > maxCopyEntries {
		return fmt.Errorf("the workspace has more than %d files", maxCopyEntries)
	}
	switch e.Type() {
	case 0:
		return c.copyFile(from, to, e.Name())
	case fs.ModeDir:
		return c.copySubDir(from, to, e, depth)
	case fs.ModeSymlink:
		target, err := from.Readlink(e.Name())
		if err != nil {
			return err
		}
		return to.Symlink(target, e.Name())
	}
	return nil
}

func (c *copier) copySubDir(from, to *os.Root, e fs.DirEntry, depth int) error {
	info, err := e.Info()
	if err != nil {
		return err
	}
	in, err := from.OpenRoot(e.Name())
	if err != nil {
		return err
	}
	defer in.Close()
	if err := to.Mkdir(e.Name(), 0o700); err != nil {
		return err
	}
	out, err := to.OpenRoot(e.Name())
	if err != nil {
		return err
	}
	defer out.Close()
	if err := c.copyDir(in, out, depth+1); err != nil {
		return err
	}
	// Last: files are written into a read-only directory too, and change its time.
	return errors.Join(to.Chmod(e.Name(), info.Mode().Perm()), to.Chtimes(e.Name(), info.ModTime(), info.ModTime()))
}

func (c *copier) copyFile(from, to *os.Root, name string) error {
	in, err := from.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it does not wait if it is a FIFO now
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	if c.bytes += info.Size(); c.bytes > maxCopyBytes {
		return fmt.Errorf("the files of the workspace have more than %d GiB", maxCopyBytes>>30)
	}
	out, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = c.copyBytes(out, in, info)
	if err == nil {
		err = out.Chmod(info.Mode().Perm())
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return to.Chtimes(name, info.ModTime(), info.ModTime())
}

func (c *copier) copyBytes(out, in *os.File, info fs.FileInfo) error {
	if c.clone {
		if c.clone = cloneFile(out, in) == nil; c.clone {
			return nil
		}
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Blocks*512 < info.Size() {
		return c.copySparse(out, in, info.Size())
	}
	for left := info.Size(); left > 0; left -= copyPiece {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		if _, err := io.CopyN(out, in, min(left, copyPiece)); err != nil {
			return err
		}
	}
	return nil
}

// copySparse copies a file that has holes, and leaves holes where it has zeros: a
// hostile file takes no space, and filled it would take all of the disk.
func (c *copier) copySparse(out, in *os.File, size int64) error {
	piece, zeros := make([]byte, sparsePiece), make([]byte, sparsePiece)
	for at := int64(0); at < size; at += sparsePiece {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		n, err := in.ReadAt(piece[:min(size-at, sparsePiece)], at)
		if err != nil && !errors.Is(err, io.EOF) { // EOF: it has become shorter
			return err
		}
		if bytes.Equal(piece[:n], zeros[:n]) {
			continue
		}
		if _, err := out.WriteAt(piece[:n], at); err != nil {
			return err
		}
	}
	return out.Truncate(size)
}
