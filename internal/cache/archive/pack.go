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
	"slices"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Pack writes an archive of the outputs, which are names below root. It fails if one
// of them does not exist, if there is something that archives cannot have, and if a
// file changes meanwhile. Nothing may be running that writes there.
func Pack(ctx context.Context, w io.Writer, root *os.Root, outputs []string, l Limits) (Stats, error) {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return Stats{}, err
	}
	p := &packer{ctx: ctx, tar: tar.NewWriter(z), limits: l.withDefaults(), buffer: make([]byte, 128<<10)}
	for _, o := range roots(outputs) {
		if err = p.output(root, o); err != nil {
			break
		}
	}
	if err == nil {
		err = p.tar.Close()
	}
	return p.stats, errors.Join(err, z.Close())
}

type packer struct {
	ctx    context.Context //nolint:containedctx // it lives as long as one call
	tar    *tar.Writer
	limits Limits
	stats  Stats
	buffer []byte
}

func (p *packer) output(root *os.Root, name string) error {
	if !validName(name) {
		return fmt.Errorf("%q is not the name of an output", name)
	}
	dir, err := root.OpenRoot(path.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("output %q: %w", name, errNoOutput)
	}
	if err != nil {
		return fmt.Errorf("output %q: %w", name, err)
	}
	defer dir.Close()
	if _, err := dir.Lstat(path.Base(name)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("output %q: %w", name, errNoOutput)
	}
	return p.add(dir, path.Base(name), name)
}

// add adds what is called base in dir; name is its path in the workspace.
func (p *packer) add(dir *os.Root, base, name string) error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	if !validName(name) {
		return fmt.Errorf("%q: the name is too long, or has characters that an archive cannot have", name)
	}
	info, err := dir.Lstat(base)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, ModTime: constant, Format: tar.FormatPAX}
	var size int64
	if info.Mode().IsRegular() {
		size = info.Size()
	}
	if err := p.stats.count(name, size, p.limits); err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 && !mode.IsDir():
		return fmt.Errorf("%q has a setuid or setgid bit", name)
	case mode.IsDir():
		h.Typeflag, h.Mode, h.Name = tar.TypeDir, dirPerm, name+"/"
		if err := p.tar.WriteHeader(h); err != nil {
			return err
		}
		return p.directory(dir, base, name)
	case mode&fs.ModeSymlink != 0:
		return p.link(dir, base, h)
	case mode.IsRegular():
		h.Typeflag, h.Mode, h.Size = tar.TypeReg, filePerm, size
		if mode&execBits != 0 {
			h.Mode = progPerm
		}
		return p.file(dir, base, h, info)
	}
	return fmt.Errorf("%q: %s", name, outOfPack)
}

func (p *packer) directory(parent *os.Root, base, name string) error {
	dir, err := parent.OpenRoot(base)
	if err != nil {
		return err
	}
	defer dir.Close()
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(p.limits.Entries + 1)
	f.Close()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	slices.SortFunc(names, compare)
	for _, n := range names {
		if err := p.add(dir, n, path.Join(name, n)); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) link(dir *os.Root, base string, h *tar.Header) error {
	target, err := dir.Readlink(base)
	if err != nil {
		return err
	}
	if !inside(h.Name, target) {
		return fmt.Errorf("%q is a link that leads out of the workspace, or is not relative", h.Name)
	}
	h.Typeflag, h.Mode, h.Linkname = tar.TypeSymlink, 0o777, target
	return p.tar.WriteHeader(h)
}

func (p *packer) file(dir *os.Root, base string, h *tar.Header, seen fs.FileInfo) error {
	// A FIFO in the file's place must not block.
	f, err := dir.OpenFile(base, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if now, err := f.Stat(); err != nil || !os.SameFile(seen, now) || now.Size() != h.Size {
		return fmt.Errorf("%q changed while it was read", h.Name)
	}
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{p.tar}, struct{ io.Reader }{io.LimitReader(f, h.Size)}, p.buffer)
	if err == nil && n != h.Size {
		err = fmt.Errorf("%q became shorter while it was read", h.Name)
	}
	return err
}
