// Package inputs says what a command can read in its workspace: for the cache's keys.
//
// Commands of the build have made the files, so they are not trusted: all are opened
// through os.Root, and links are never followed. A link counts as the text of its
// target.
package inputs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcast/buildcast/internal/cache"
)

// maxFiles bounds a snapshot.
const maxFiles = 500_000

// Interest is what a snapshot has of a file or directory.
type Interest int

// The interests, from the least to the most.
const (
	Skip  Interest = iota // nothing; of a directory, nothing that is below it either
	Watch                 // whether it changes
	Hash                  // its content, too
)

// Snapshot is what a workspace has at one time.
type Snapshot struct {
	files []file // in the order of a walk
}

// file is what a snapshot has of a file, a link or a directory.
type file struct {
	name   string
	kind   string // file, program, link or dir
	digest string // of the content, or a link's target; empty if it is only watched
	hashed bool
	stat   stat
}

// stat tells whether a file has changed. Of directories it is zero: that a file is
// made in one is no change of the directory.
type stat struct {
	size              int64
	inode             uint64
	modified, changed time.Time // changed: by more than its content, too
}

// Taker takes snapshots of one workspace. It hashes no file twice that has not
// changed. It may be used from many goroutines.
type Taker struct {
	root *os.Root

	mu    sync.Mutex
	known map[string]known
}

type known struct {
	stat   stat
	digest string
}

// New returns a Taker for the workspace.
func New(root *os.Root) *Taker { return &Taker{root: root, known: map[string]known{}} }

// Take returns a snapshot of what of returns an interest for. It fails if it is to
// hash something that is neither a file, a directory nor a link.
func (t *Taker) Take(ctx context.Context, of func(name string, dir bool) Interest) (*Snapshot, error) {
	w := &walk{taker: t, ctx: ctx, of: of, buffer: make([]byte, 64<<10), snapshot: &Snapshot{}}
	if err := w.directory(t.root, ""); err != nil {
		return nil, err
	}
	return w.snapshot, nil
}

type walk struct {
	taker    *Taker
	ctx      context.Context //nolint:containedctx // it lives as long as one call
	of       func(name string, dir bool) Interest
	buffer   []byte
	snapshot *Snapshot
}

func (w *walk) directory(dir *os.Root, name string) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	f.Close()
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		at := path.Join(name, e.Name())
		if want := w.of(at, e.IsDir()); want != Skip {
			if err := w.entry(dir, e.Name(), at, want); err != nil && !errors.Is(err, fs.ErrNotExist) { // a sibling may have removed it
				return fmt.Errorf("%q: %w", at, err)
			}
		}
	}
	return nil
}

func (w *walk) entry(dir *os.Root, base, name string, want Interest) error {
	info, err := dir.Lstat(base)
	if err != nil {
		return err
	}
	if len(w.snapshot.files) >= maxFiles {
		return fmt.Errorf("the workspace has more than %d files", maxFiles)
	}
	f := file{name: name, hashed: want == Hash}
	switch mode := info.Mode(); {
	case mode.IsDir():
		f.kind = "dir"
		w.snapshot.files = append(w.snapshot.files, f)
		sub, err := dir.OpenRoot(base)
		if err != nil {
			return err
		}
		defer sub.Close()
		return w.directory(sub, name)
	case mode&fs.ModeSymlink != 0:
		f.kind, f.stat = "link", statOf(info)
		if f.digest, err = dir.Readlink(base); err != nil {
			return err
		}
	case mode.IsRegular():
		f.kind, f.stat = "file", statOf(info)
		if mode&0o111 != 0 {
			f.kind = "program"
		}
		if want == Hash {
			if f.digest, err = w.hash(dir, base, name, f.stat); err != nil {
				return err
			}
		}
	case want == Hash:
		return errors.New("it is neither a file, a directory nor a link")
	}
	w.snapshot.files = append(w.snapshot.files, f)
	return nil
}

// settled is how much older than its hash a file's last change must be: a clock of
// the file system may not tell a change soon after it from that one.
const settled = time.Second

func (w *walk) hash(dir *os.Root, base, name string, seen stat) (string, error) {
	began := time.Now()
	w.taker.mu.Lock()
	before := w.taker.known[name]
	w.taker.mu.Unlock()
	if before.digest != "" && before.stat == seen {
		return before.digest, nil
	}
	// A FIFO in the file's place must not block.
	f, err := dir.OpenFile(base, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if base == ".npmrc" {
		err = hashWithoutTokens(sum, f)
	} else {
		_, err = io.CopyBuffer(sum, struct{ io.Reader }{f}, w.buffer)
	}
	if err != nil {
		return "", err
	}
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if statOf(info) != seen {
		return "", errors.New("it changed while it was read")
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	if began.Sub(seen.changed) > settled && began.Sub(seen.modified) > settled {
		w.taker.mu.Lock()
		w.taker.known[name] = known{seen, digest}
		w.taker.mu.Unlock()
	}
	return digest, nil
}

// credentials are settings of an .npmrc that are secrets. They do not change what is
// installed, and must not be in keys.
var credentials = []string{"_auth", "_password", "_cert", "_key", "username", "email"}

// maxSettings bounds an .npmrc, in bytes.
const maxSettings = 1 << 20

func hashWithoutTokens(w io.Writer, r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, maxSettings+1))
	if err == nil && len(b) > maxSettings {
		err = fmt.Errorf("it has more than %d bytes", maxSettings)
	}
	for line := range strings.Lines(string(b)) {
		name, _, _ := strings.Cut(strings.ToLower(line), "=")
		if !slices.ContainsFunc(credentials, func(c string) bool { return strings.Contains(name, c) }) {
			_, _ = io.WriteString(w, line) // a hash
		}
	}
	return err
}

// AddTo adds a part to the key for each file that was hashed and is of interest.
func (s *Snapshot) AddTo(k *cache.Key, of func(name string) bool) {
	for _, f := range s.files {
		if f.hashed && of(f.name) {
			k.AddHidden(cache.PartFile, f.name, f.kind+" "+f.digest)
		}
	}
}

// Has reports whether the snapshot has something that is called name.
func (s *Snapshot) Has(name string) bool {
	return slices.ContainsFunc(s.files, func(f file) bool { return f.name == name })
}

// Names returns the names of the files, links and directories.
func (s *Snapshot) Names() []string {
	names := make([]string, len(s.files))
	for i, f := range s.files {
		names[i] = f.name
	}
	return names
}

// Changed returns the name of a file that is not in after as it was here, except where
// except says so; "" if there is none. New files count too if added is set; new
// directories alone do not.
func (s *Snapshot) Changed(after *Snapshot, added bool, except func(name string) bool) string {
	now := make(map[string]file, len(after.files))
	for _, f := range after.files {
		now[f.name] = f
	}
	for _, f := range s.files {
		g, ok := now[f.name]
		if !except(f.name) && (!ok || f.kind != g.kind || f.stat != g.stat) {
			return f.name
		}
		delete(now, f.name)
	}
	for _, f := range after.files {
		if _, isNew := now[f.name]; added && isNew && f.kind != "dir" && !except(f.name) {
			return f.name
		}
	}
	return ""
}
