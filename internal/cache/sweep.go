package cache

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcast/buildcast"
)

const (
	// sweepEvery is how often Run sweeps without being asked.
	sweepEvery = time.Hour
	// grace is how long a blob that no entry names is kept.
	grace = time.Hour
	// recordAge is how long the parts of a build's keys are kept.
	recordAge = 30 * 24 * time.Hour
	// maxEntries bounds the small files that a sweep leaves.
	maxEntries = 100_000
	// slack is the share of its size that a cache that is too large loses at once, so
	// that not each write has a sweep run.
	slack = 10
)

// Run removes what is too much, damaged or left by a crash: at the start, each hour,
// and soon after the cache has become too large. It returns nil when ctx ends.
func (c *Cache) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if _, err := c.sweep(ctx, c.room); err != nil && ctx.Err() == nil {
			c.log.Warn("the cache cannot be swept", "error", err)
		}
		select {
		case <-c.kick:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// Prune removes everything that was last used before the time, and what a sweep
// removes.
func (c *Cache) Prune(ctx context.Context, before time.Time) (buildcast.CachePruned, error) {
	return c.sweep(ctx, func(total int64, all []small) (int64, int) {
		n := 0
		for _, s := range all {
			if s.used.Before(before) {
				n++
			}
		}
		keep, _ := c.room(total, all)
		return keep, n
	})
}

// small is an entry or a record: a small file that names blobs.
type small struct {
	path  string
	used  time.Time
	size  int64
	blobs []Blob
}

// stock is all that the cache has.
type stock struct {
	began  time.Time
	small  []small // the one that was not used for longest first
	blobs  map[string]*stored
	total  int64
	result buildcast.CachePruned
}

// stored is a blob on disk.
type stored struct {
	size  int64
	made  time.Time
	names int // entries that name it
}

// room returns how many bytes the cache may keep.
func (c *Cache) room(total int64, _ []small) (keep int64, least int) {
	keep = c.config.Max
	var disk unix.Statfs_t
	if err := unix.Statfs(c.config.Dir, &disk); err == nil {
		free := int64(disk.Bavail) * int64(disk.Bsize)
		if lack := c.config.MinFree - free; lack > 0 {
			keep = min(keep, total-lack)
		}
	}
	return max(keep, min(c.config.Reserved, c.config.Max)), 0
}

// sweep removes what is damaged or left over; then, the one that was not used for
// longest first, at least as many entries as allowed says, and more until the rest
// fits. Entries are removed before their blobs: after a crash in between, no entry
// names a blob that does not exist.
func (c *Cache) sweep(ctx context.Context, allowed func(total int64, all []small) (keep int64, least int)) (buildcast.CachePruned, error) {
	s := &stock{began: time.Now(), blobs: map[string]*stored{}}
	for _, step := range []func(context.Context, *stock) error{c.clearTemp, c.listBlobs, c.listSmall} {
		if err := step(ctx, s); err != nil {
			return s.result, err
		}
	}
	for digest, b := range s.blobs {
		if b.names == 0 && s.began.Sub(b.made) > grace {
			c.evictBlob(s, digest)
		}
	}
	keep, least := allowed(s.total, s.small)
	if s.total > keep {
		keep -= min(keep/slack, max(0, keep-c.config.Reserved))
	}
	for i, e := range s.small {
		if ctx.Err() != nil {
			return s.result, ctx.Err()
		}
		if i >= least && s.total <= keep && len(s.small)-i <= maxEntries {
			break
		}
		c.evict(s, e)
	}
	s.result.Bytes = s.total
	c.mu.Lock()
	c.used = s.total // what was written during the sweep is counted by the next one
	c.mu.Unlock()
	return s.result, nil
}

// clearTemp removes the files of writers that no longer exist.
func (c *Cache) clearTemp(_ context.Context, _ *stock) error {
	files, err := os.ReadDir(c.path(tempDir))
	for _, f := range files {
		c.mu.Lock()
		live := c.writing[f.Name()]
		c.mu.Unlock()
		if !live {
			err = errors.Join(err, os.Remove(c.path(tempDir, f.Name())))
		}
	}
	return err
}

func (c *Cache) listBlobs(ctx context.Context, s *stock) error {
	return walk(ctx, c.path(blobsDir), func(path string, info fs.FileInfo) {
		digest := filepath.Base(path)
		if b := (Blob{digest, info.Size()}); !b.valid() || path != c.blobPath(digest) {
			_ = os.Remove(path)
			return
		}
		s.blobs[digest] = &stored{size: info.Size(), made: info.ModTime()}
		s.total += onDisk(info.Size())
	})
}

// listSmall lists entries and records. It removes those that cannot be read, and old
// records.
func (c *Cache) listSmall(ctx context.Context, s *stock) error {
	for _, dir := range []string{entriesDir, buildsDir, lastDir} {
		err := walk(ctx, c.path(dir), func(path string, info fs.FileInfo) {
			named, _, err := readChecked[struct {
				Blobs map[string]Blob `json:"blobs"`
			}](path)
			if errors.Is(err, fs.ErrNotExist) {
				return
			}
			if err != nil || dir != entriesDir && s.began.Sub(info.ModTime()) > recordAge {
				_ = os.Remove(path)
				return
			}
			e := small{path: path, used: info.ModTime(), size: onDisk(info.Size())}
			s.total += e.size
			for _, b := range named.Blobs {
				if known := s.blobs[b.Digest]; known != nil {
					known.names++
					e.blobs = append(e.blobs, b)
				}
			}
			s.small = append(s.small, e)
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(s.small, func(a, b small) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.path, b.path)) })
	return nil
}

// evict removes the entry, and then the blobs that nothing else names.
func (c *Cache) evict(s *stock, e small) {
	if err := os.Remove(e.path); err != nil {
		return
	}
	s.total -= e.size
	s.result.RemovedBytes += e.size
	s.result.Entries++
	for _, b := range e.blobs {
		if known := s.blobs[b.Digest]; known != nil {
			if known.names--; known.names == 0 {
				c.evictBlob(s, b.Digest)
			}
		}
	}
}

func (c *Cache) evictBlob(s *stock, digest string) {
	if removed, err := c.removeBlob(digest, s.began); err != nil || !removed {
		return
	}
	size := onDisk(s.blobs[digest].size)
	s.total -= size
	s.result.RemovedBytes += size
	delete(s.blobs, digest)
}

// walk calls visit with each file below dir, and removes empty directories that are
// old.
func walk(ctx context.Context, dir string, visit func(path string, info fs.FileInfo)) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir():
			return nil
		}
		if info, err := d.Info(); err == nil {
			visit(path, info)
		}
		return nil
	})
}
