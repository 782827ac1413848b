// Package cache keeps what builds made, so that the same work is not done twice:
// outputs of tasks and stages, answers of planners, Turborepo's artifacts, and the
// packages that npm downloads.
//
// Below its directory it has
//
//	entries/{scope}/{trust}/{aa}/{key}   a small JSON file: what is kept under a key, and in which blobs
//	blobs/{aa}/{sha-256}                 content, named by its hash
//	builds/{build}/{name}                the parts of a build's keys, for Why
//	last/{scope}/{trust}/{name}          the parts of the key that a task had last
//	temp/                                files that are being written
//
// A file is written below temp, synced, renamed, and its directory is synced; an
// entry is written after its blobs. So a crash leaves files that nothing names, and
// the next sweep removes them. Entries have a checksum, and a blob is hashed before
// its first byte is returned: what does not match is removed, and counts as absent.
//
// The cache never fails a build. Whoever cannot store something goes on without it.
//
// One process at a time may write. Its methods may be called from many goroutines.
package cache

import (
	"cmp"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// Config configures a Cache.
type Config struct {
	// Dir holds the cache. It is created if it does not exist.
	Dir string
	// Reserved is how many bytes the cache keeps even if the disk has less than MinFree.
	Reserved int64
	// Max is how many bytes the cache may use. 0: DefaultMax.
	Max int64
	// MinFree is how many bytes of the disk the cache leaves free, by removing what it
	// has beyond Reserved.
	MinFree int64
	// Logger receives the messages of Run. Nil: slog's default.
	Logger *slog.Logger
}

// The defaults of the flags, in bytes.
const (
	DefaultReserved = 1 << 30
	DefaultMax      = 10 << 30
	DefaultMinFree  = 2 << 30
)

// Cache is a cache in one directory.
type Cache struct {
	config Config
	log    *slog.Logger
	kick   chan struct{} // capacity 1: a sweep is due
	turns  turns

	mu      sync.Mutex
	used    int64           // bytes, as far as is known: the last sweep's sum and what was written since
	pinned  map[string]int  // blobs that an entry is about to name, by digest
	writing map[string]bool // names below temp
}

// The directories below the cache's own.
const (
	entriesDir = "entries"
	blobsDir   = "blobs"
	buildsDir  = "builds"
	lastDir    = "last"
	tempDir    = "temp"
)

// Open opens the cache. It reads nothing of what the cache has.
func Open(cfg Config) (*Cache, error) {
	cfg.Max = cmp.Or(cfg.Max, DefaultMax)
	c := &Cache{
		config: cfg, log: cmp.Or(cfg.Logger, slog.Default()), kick: make(chan struct{}, 1),
		turns: turns{held: map[ID]*turn{}}, pinned: map[string]int{}, writing: map[string]bool{},
	}
	for _, dir := range []string{entriesDir, blobsDir, buildsDir, lastDir, tempDir} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, dir), 0o700); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Cache) path(parts ...string) string {
	return filepath.Join(append([]string{c.config.Dir}, parts...)...)
}

// ErrTooLarge is the error for what is larger than the cache may be.
var ErrTooLarge = errors.New("it is larger than the cache may be")

// Full reports whether something was not stored because there is no room for it.
func Full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) || errors.Is(err, ErrTooLarge)
}

// grew counts bytes that were written, and has a sweep run if there are too many.
func (c *Cache) grew(bytes int64) {
	c.mu.Lock()
	c.used += bytes
	over := c.used > c.config.Max
	c.mu.Unlock()
	if over {
		c.Sweep()
	}
}

// Sweep has Run remove what is too much, soon.
func (c *Cache) Sweep() {
	select {
	case c.kick <- struct{}{}:
	default: // a sweep is due already
	}
}
