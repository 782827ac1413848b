package planner

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/buildcast/buildcast/internal/cache"
)

// Memo keeps answers. PutBytes returns when the entry is durable.
type Memo interface {
	// GetBytes returns the entry; ok is false if there is none.
	GetBytes(ctx context.Context, key string) (value []byte, ok bool, err error)
	PutBytes(ctx context.Context, key string, value []byte) error
}

// entry is what the memo keeps of one request: an answer, or why there was none
// although it was paid.
type entry struct {
	Build   string          `json:"build"` // that paid
	Body    json.RawMessage `json:"body,omitempty"`
	Usage   Usage           `json:"usage"`
	Failure string          `json:"failure,omitempty"`
}

// keyOf is the SHA-256 of the parts, each after its length: no two lists of parts have
// the same key.
func keyOf(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// keys are the names under which the answer to a request is kept.
type keys struct {
	// own is that of the build and the step. It does not depend on the workspace's
	// files: a task that was cut off while it wrote files has the same key again.
	own string
	// failed is as own, but of this attempt: a failure does not count for the next one.
	failed string
	// shared is that of the request's content. Other builds find the answer under it.
	shared string
}

func (b *Build) keys(kind Kind, req *Request) (keys, error) {
	content, err := json.Marshal(req)
	if err != nil {
		return keys{}, fmt.Errorf("encode the request: %w", err)
	}
	task, round := "", "0"
	if req.Task != nil {
		task = keyOf(req.Task.Name, req.Task.Prompt)
	}
	if req.Problem != "" {
		round = keyOf(req.Problem)
	}
	step := []string{"planner own", b.ID, b.Created.String(), kind.Identity, string(req.Purpose), task, round}
	return keys{
		own:    keyOf(step...),
		failed: keyOf(append(step, strconv.Itoa(b.attemptOf(req)))...),
		shared: keyOf("planner shared", kind.Identity, string(content)),
	}, nil
}

func (s *Service) get(ctx context.Context, key string) (entry, bool) {
	b, ok, err := s.config.Memo.GetBytes(ctx, key)
	if err != nil && ctx.Err() == nil {
		s.config.Logger.Warn("a kept answer of a planner cannot be read: it is asked again", "error", err)
	}
	var e entry
	if err != nil || !ok || json.Unmarshal(b, &e) != nil {
		return e, false
	}
	return e, true
}

// put keeps an answer. If that fails, the build goes on: the answer is there, and only
// a crash would pay for it again.
func (s *Service) put(ctx context.Context, key string, e entry) {
	b, err := json.Marshal(e)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putTimeout)
		defer cancel()
		err = s.config.Memo.PutBytes(ctx, key, b)
	}
	if err != nil {
		s.config.Logger.Warn("an answer of a planner cannot be kept: after a crash it would be paid again", "error", err)
	}
}

const putTimeout = 10 * time.Second

// Kept is a Memo in the server's cache. Without a cache it keeps nothing.
type Kept struct{ Cache *cache.Cache }

// keptScope is of no project: a request's project is in its key.
var keptScope = cache.Scope{Org: "default", Planned: true}

// maxKept bounds an answer with its usage, in bytes.
const maxKept = MaxAnswer + 1<<20

func (m Kept) key(key string) *cache.Key {
	k := new(cache.Key)
	k.Add(cache.PartOther, "answer", key)
	return k
}

// GetBytes reads an entry.
func (m Kept) GetBytes(ctx context.Context, key string) ([]byte, bool, error) {
	if m.Cache == nil {
		return nil, false, nil
	}
	b, ok := m.Cache.GetBytes(ctx, keptScope, m.key(key), maxKept)
	return b, ok, nil
}

// PutBytes writes an entry.
func (m Kept) PutBytes(ctx context.Context, key string, value []byte) error {
	if m.Cache == nil {
		return errors.New("the cache cannot be used")
	}
	return m.Cache.PutBytes(ctx, keptScope, m.key(key), cache.Entry{Kind: cache.KindMemo, Name: "planner"}, value)
}

// unfinished begins the names of files that are being written.
const unfinished = ".new-"

// Clean removes the files in dir that a killed process was writing. No other process
// may be writing there.
func Clean(dir string) error {
	left, err := fs.Glob(os.DirFS(dir), unfinished+"*")
	for _, name := range left {
		err = errors.Join(err, os.Remove(filepath.Join(dir, name)))
	}
	return err
}

// writeFile replaces the file, and returns when it is on the disk.
func writeFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, unfinished+"*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
