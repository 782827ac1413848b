package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// The kinds of entries.
const (
	KindTask     = "task"
	KindStage    = "stage"
	KindMemo     = "memo"     // what a planner answered
	KindArtifact = "artifact" // Turborepo's
	KindPackage  = "package"  // which npm has downloaded
)

// Entry is what is kept under a key.
type Entry struct {
	Key   string `json:"key"` // of the scope
	Scope Scope  `json:"scope"`
	Kind  string `json:"kind"`
	// Name is the task's or the stage's.
	Name    string    `json:"name,omitempty"`
	BuildID string    `json:"buildId,omitempty"` // which made it
	Created time.Time `json:"created"`
	// DurationMS is how long it took to make.
	DurationMS int64 `json:"durationMs,omitempty"`
	// Meta is the caller's.
	Meta map[string]string `json:"meta,omitempty"`
	// Blobs have the content, by the caller's names.
	Blobs map[string]Blob `json:"blobs,omitempty"`

	// Used is when it was last read or written, give or take an hour.
	Used time.Time `json:"used,omitzero"`
}

// Size returns the bytes of its blobs.
func (e *Entry) Size() (n int64) {
	for _, b := range e.Blobs {
		n += b.Size
	}
	return n
}

// Source writes the content of a blob.
type Source func(io.Writer) error

// Bytes is the content b.
func Bytes(b []byte) Source {
	return func(w io.Writer) error { _, err := w.Write(b); return err }
}

// Reader is the content that r returns.
func Reader(r io.Reader) Source {
	return func(w io.Writer) error { _, err := io.Copy(struct{ io.Writer }{w}, r); return err }
}

// touchEvery is how often the time of an entry's last use is written.
const touchEvery = time.Hour

// Get returns what is kept under the key for builds of the scope, or nil. For a
// planned scope, this is what the trusted one has, if it has something.
func (c *Cache) Get(s Scope, k *Key) *Entry {
	for _, from := range s.readable() {
		if e := c.get(from, k.In(from)); e != nil {
			return e
		}
	}
	return nil
}

func (c *Cache) get(s Scope, id ID) *Entry {
	path := c.entryPath(s, id)
	e, info, err := readChecked[Entry](path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !e.valid(s, id) || !c.complete(e) {
		c.forget(path, err)
		return nil
	}
	e.Used = info.ModTime()
	if now := time.Now(); now.Sub(e.Used) > touchEvery {
		_ = os.Chtimes(path, now, now) // else it seems older than it is
	}
	return e
}

func (e *Entry) valid(s Scope, id ID) bool {
	for _, b := range e.Blobs {
		if !b.valid() {
			return false
		}
	}
	return e.Key == id.String() && e.Scope == s
}

// complete reports whether the entry's blobs exist with their sizes.
func (c *Cache) complete(e *Entry) bool {
	for _, b := range e.Blobs {
		info, err := os.Stat(c.blobPath(b.Digest))
		if err != nil || info.Size() != b.Size {
			return false
		}
	}
	return true
}

// forget removes an entry that cannot be used.
func (c *Cache) forget(path string, cause error) {
	c.log.Warn("an entry of the cache is damaged or incomplete: it is removed", "cause", cause)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("it could not be removed", "error", err)
	}
}

// Content returns the content of the entry's blob. All of it is verified before the
// first byte is returned. If it is damaged, blob and entry are removed.
func (c *Cache) Content(ctx context.Context, e *Entry, name string) (io.ReadSeekCloser, error) {
	b, ok := e.Blobs[name]
	if !ok {
		return nil, fmt.Errorf("the entry has no %s", name)
	}
	f, err := c.openBlob(ctx, b)
	if err == nil {
		return f, nil
	}
	if ctx.Err() == nil {
		c.drop(e)
		if errors.Is(err, errCorrupt) {
			_ = os.Remove(c.blobPath(b.Digest)) // also if it is pinned: it is stored anew
		}
	}
	return nil, err
}

// drop removes the entry.
func (c *Cache) drop(e *Entry) {
	if raw, err := hex.DecodeString(e.Key); err == nil && len(raw) == len(ID{}) {
		c.forget(c.entryPath(e.Scope, ID(raw)), errCorrupt)
	}
}

// Drop removes the entry: what it has turned out to be of no use.
func (c *Cache) Drop(e *Entry) { c.drop(e) }

// Put keeps the content of the sources under the key. Kind, Name, BuildID, DurationMS
// and Meta are taken from e. What is there already stays, unless replace is set. An
// error never leaves half of an entry behind; see Full. Put returns when the entry is
// durable, except for packages, which can be downloaded again.
func (c *Cache) Put(ctx context.Context, s Scope, k *Key, e Entry, content map[string]Source, replace bool) error {
	id := k.In(s)
	if !replace && c.get(s, id) != nil {
		return nil
	}
	e.Key, e.Scope, e.Created, e.Blobs = id.String(), s, time.Now().UTC(), map[string]Blob{}
	durable := e.Kind != KindPackage
	for name, source := range content {
		b, unpin, err := c.putBlob(ctx, source, durable)
		if err != nil {
			return c.noted(err)
		}
		defer unpin()
		e.Blobs[name] = b
	}
	return c.noted(c.writeChecked(c.entryPath(s, id), e, durable))
}

// noted has a sweep make room if there is none.
func (c *Cache) noted(err error) error {
	if Full(err) {
		c.Sweep()
	}
	return err
}

func (c *Cache) entryPath(s Scope, id ID) string {
	key := id.String()
	return c.path(append(append([]string{entriesDir}, s.dir()...), key[:2], key)...)
}

// dataBlob is the name of the blob of GetBytes and PutBytes.
const dataBlob = "data"

// GetBytes returns what PutBytes has kept under the key, max bytes at most.
func (c *Cache) GetBytes(ctx context.Context, s Scope, k *Key, most int64) ([]byte, bool) {
	e := c.Get(s, k)
	if e == nil || e.Blobs[dataBlob].Size > most {
		return nil, false
	}
	f, err := c.Content(ctx, e, dataBlob)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most))
	return b, err == nil
}

// PutBytes keeps the bytes under the key.
func (c *Cache) PutBytes(ctx context.Context, s Scope, k *Key, e Entry, b []byte) error {
	return c.Put(ctx, s, k, e, map[string]Source{dataBlob: Bytes(b)}, false)
}

// maxChecked bounds the small files, in bytes.
const maxChecked = 64 << 10

// writeChecked writes v as JSON behind its checksum; with sync, durably.
func (c *Cache) writeChecked(path string, v any, sync bool) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	b = append(append([]byte(hex.EncodeToString(sum[:])), '\n'), b...)
	if len(b) > maxChecked {
		return fmt.Errorf("an entry has %d bytes, the limit is %d: %w", len(b), maxChecked, ErrTooLarge)
	}
	t, err := c.newTemp()
	if err != nil {
		return err
	}
	defer t.discard()
	if _, err := t.file.Write(b); err != nil {
		return err
	}
	if err := t.publish(path, sync); err != nil {
		return err
	}
	c.grew(onDisk(int64(len(b))))
	return nil
}

// readChecked reads what writeChecked wrote.
func readChecked[T any](path string) (*T, fs.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxChecked+1))
	if err != nil {
		return nil, nil, err
	}
	v, err := decodeChecked[T](b)
	return v, info, err
}

func decodeChecked[T any](b []byte) (*T, error) {
	said, b, ok := bytes.Cut(b, []byte("\n"))
	sum := sha256.Sum256(b)
	if !ok || len(b) > maxChecked || string(said) != hex.EncodeToString(sum[:]) {
		return nil, errCorrupt
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return v, nil
}
