package cache

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Blob names content by its SHA-256.
type Blob struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

func (b Blob) valid() bool {
	raw, err := hex.DecodeString(b.Digest)
	return err == nil && len(raw) == sha256.Size && b.Digest == hex.EncodeToString(raw) && b.Size >= 0
}

func (c *Cache) blobPath(digest string) string { return c.path(blobsDir, digest[:2], digest) }

// putBlob stores what write writes. The blob stays until unpin is called, even if
// no entry names it. Without sync it may be lost when the machine stops.
func (c *Cache) putBlob(ctx context.Context, write func(io.Writer) error, sync bool) (b Blob, unpin func(), err error) {
	t, err := c.newTemp()
	if err != nil {
		return b, nil, err
	}
	defer t.discard()
	sum := sha256.New()
	w := &bounded{ctx: ctx, w: io.MultiWriter(t.file, sum), left: c.config.Max}
	if err := write(w); err != nil {
		return b, nil, err
	}
	b = Blob{hex.EncodeToString(sum.Sum(nil)), c.config.Max - w.left}
	unpin = c.pin(b.Digest)
	if c.hasBlob(b) {
		return b, unpin, nil
	}
	if err := t.publish(c.blobPath(b.Digest), sync); err != nil {
		unpin()
		return b, nil, err
	}
	c.grew(onDisk(b.Size))
	return b, unpin, nil
}

// hasBlob reports whether the blob is stored with its size, and marks it as new: a
// sweep that has listed the blobs already leaves it.
func (c *Cache) hasBlob(b Blob) bool {
	path := c.blobPath(b.Digest)
	info, err := os.Stat(path)
	now := time.Now()
	return err == nil && info.Size() == b.Size && os.Chtimes(path, now, now) == nil
}

// pin keeps sweeps from removing the blob.
func (c *Cache) pin(digest string) (unpin func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pinned[digest]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.pinned[digest]--; c.pinned[digest] == 0 {
			delete(c.pinned, digest)
		}
	}
}

// removeBlob removes the blob, unless an entry is about to name it, or may have
// begun to since: hasBlob has marked it then.
func (c *Cache) removeBlob(digest string, since time.Time) (removed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := c.blobPath(digest)
	info, err := os.Stat(path)
	if err != nil || c.pinned[digest] > 0 || info.ModTime().After(since) {
		return false, err
	}
	return true, os.Remove(path)
}

// errCorrupt is the error for content that is not what was stored.
var errCorrupt = errors.New("the content is not what was stored")

// openBlob returns the blob's content after it has hashed all of it.
func (c *Cache) openBlob(ctx context.Context, b Blob) (*os.File, error) {
	f, err := os.Open(c.blobPath(b.Digest))
	if err != nil {
		return nil, err
	}
	if err := verify(ctx, f, b); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func verify(ctx context.Context, f *os.File, b Blob) error {
	sum := sha256.New()
	n, err := io.Copy(&bounded{ctx: ctx, w: sum, left: b.Size}, f)
	switch {
	case errors.Is(err, ErrTooLarge):
		return errCorrupt
	case err != nil:
		return err
	case n != b.Size || hex.EncodeToString(sum.Sum(nil)) != b.Digest:
		return errCorrupt
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// bounded fails when it has passed on as many bytes as are left, or ctx has ended.
type bounded struct {
	ctx  context.Context //nolint:containedctx // it lives as long as one call
	w    io.Writer
	left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, ErrTooLarge
	}
	return b.w.Write(p)
}

// temp is a file that is being written.
type temp struct {
	cache *Cache
	name  string
	file  *os.File
}

func (c *Cache) newTemp() (*temp, error) {
	t := &temp{cache: c, name: rand.Text()}
	c.mu.Lock()
	c.writing[t.name] = true
	c.mu.Unlock()
	f, err := os.OpenFile(t.path(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.discard()
		return nil, err
	}
	t.file = f
	return t, nil
}

func (t *temp) path() string { return t.cache.path(tempDir, t.name) }

// publish gives the file its final name; with sync, durably.
func (t *temp) publish(path string, sync bool) error {
	if sync {
		if err := t.file.Sync(); err != nil {
			return err
		}
	}
	dir := filepath.Dir(path)
	if err := makeDir(dir); err != nil {
		return err
	}
	if err := os.Rename(t.path(), path); err != nil || !sync {
		return err
	}
	return syncDir(dir)
}

// discard removes the file unless it is published.
func (t *temp) discard() {
	if t.file != nil {
		t.file.Close()
	}
	if err := os.Remove(t.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.cache.log.Warn("a temporary file of the cache is not removed yet", "error", err)
	}
	t.cache.mu.Lock()
	defer t.cache.mu.Unlock()
	delete(t.cache.writing, t.name)
}

// makeDir makes the directory and those above it, durably.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if err := makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		return makeDir(dir)
	case err != nil:
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", filepath.Base(dir), err)
	}
	return nil
}

// onDisk returns what a file of this size takes, in blocks of 4 KiB.
func onDisk(size int64) int64 { return (size + 4095) &^ 4095 }
