package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// reportEvery is how often a long copy reports its progress.
const reportEvery = 2 * time.Second

// Copy says how an output is copied.
type Copy struct {
	To string // a directory that does not exist yet
	// Durable makes sure that all of it is on disk when CopyTo returns.
	Durable bool
	// Doing and Done are what the progress calls it, such as Publishing and Published.
	Doing, Done string
}

// Copy copies the files and directories that were listed into a new directory. It
// reports its progress at the start, and then every other second.
func (o *Output) Copy(ctx context.Context, c Copy, progress func(Progress)) error {
	if err := os.Mkdir(c.To, 0o750); err != nil {
		return err
	}
	progress(Progress{Message: fmt.Sprintf("%s %s (%s)", c.Doing, Plural(len(o.Files), "file"), Size(o.Bytes))})
	for _, dir := range o.Dirs {
		if err := os.Mkdir(filepath.Join(c.To, filepath.FromSlash(dir)), 0o750); err != nil {
			return err
		}
	}
	if err := o.copyFiles(ctx, c, progress); err != nil || !c.Durable {
		return err
	}
	for _, dir := range append([]string{"."}, o.Dirs...) {
		if err := SyncDir(filepath.Join(c.To, filepath.FromSlash(dir))); err != nil {
			return err
		}
	}
	return nil
}

func (o *Output) copyFiles(ctx context.Context, c Copy, progress func(Progress)) error {
	next := time.Now().Add(reportEvery)
	left := o.rules.MaxBytes
	for i, f := range o.Files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := copyFile(o.Root, f.Path, filepath.Join(c.To, filepath.FromSlash(f.Path)), left+1, c.Durable)
		if err != nil {
			return err
		}
		if left -= n; left < 0 {
			return o.tooManyBytes() // it grew after it was listed
		}
		if now := time.Now(); now.After(next) {
			progress(Progress{Message: fmt.Sprintf("%s %d of %s", c.Done, i+1, Plural(len(o.Files), "file"))})
			next = now.Add(reportEvery)
		}
	}
	return nil
}

// copyFile copies at most limit bytes.
func copyFile(src *os.Root, name, to string, limit int64, durable bool) (int64, error) {
	in, err := OpenRegular(src, name)
	if err != nil {
		return 0, refuse("%q in the output cannot be read", name).Because(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, io.LimitReader(in, limit))
	if err == nil && durable {
		err = out.Sync()
	}
	return n, errors.Join(err, out.Close())
}

// SyncDir makes the directory's entries durable.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Plural counts things for people.
func Plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Size formats a number of bytes for people.
func Size(n int64) string {
	switch {
	case n < 1<<10:
		return Plural(int(n), "byte")
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
