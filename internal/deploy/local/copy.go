package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// reportEvery is how often a long copy reports its progress.
const reportEvery = 2 * time.Second

// copyAll copies the listing into a new directory at to. When it returns
// without an error, all of it is on disk: the link that points to it may survive
// a power failure, so the files must survive it too.
func copyAll(ctx context.Context, src *os.Root, list *listing, to string, progress func(string)) error {
	if err := os.Mkdir(to, 0o750); err != nil {
		return err
	}
	progress(fmt.Sprintf("Publishing %s (%s)", plural(len(list.files), "file"), size(list.bytes)))
	next := time.Now().Add(reportEvery)
	for _, dir := range list.dirs {
		if err := os.Mkdir(filepath.Join(to, filepath.FromSlash(dir)), 0o750); err != nil {
			return err
		}
	}
	left := int64(MaxBytes)
	for i, name := range list.files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := copyFile(src, name, filepath.Join(to, filepath.FromSlash(name)), left+1)
		if err != nil {
			return err
		}
		if left -= n; left < 0 {
			return tooManyBytes() // it grew after the scan
		}
		if now := time.Now(); now.After(next) {
			progress(fmt.Sprintf("Published %d of %s", i+1, plural(len(list.files), "file")))
			next = now.Add(reportEvery)
		}
	}
	for _, dir := range list.dirs {
		if err := syncDir(filepath.Join(to, filepath.FromSlash(dir))); err != nil {
			return err
		}
	}
	return syncDir(to)
}

// copyFile copies at most limit bytes.
func copyFile(src *os.Root, name, to string, limit int64) (int64, error) {
	in, err := openRegular(src, name)
	if err != nil {
		return 0, refuse("%q in the output cannot be read", name).Because(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, io.LimitReader(in, limit))
	return n, errors.Join(err, out.Sync(), out.Close())
}

// openRegular opens a regular file. It does not wait for the writer of a named
// pipe: a command may have replaced the file with a pipe since the scan.
func openRegular(root *os.Root, name string) (*os.File, error) {
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

// syncDir makes the directory's entries durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// size formats a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return plural(int(n), "byte")
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
