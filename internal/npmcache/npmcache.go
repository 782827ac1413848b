// Package npmcache hands on the packages that npm has downloaded from build to build.
//
// Each build has npm's cache to itself, below its HOME. Before npm installs, Fill copies
// the packages into it that the workspace's lock file names and that the store has.
// When npm has installed, Give stores those that it has downloaded.
//
// The packages of one build run commands of their own while they are installed, and may
// write whatever that build's user may. So the rules are:
//
//   - Only content is shared, under its SHA-512, which the lock file has too. Nothing is
//     shared that says what a name or an address stands for: npm's index and what the
//     registry says of a package stay within the build. A build that names the content
//     by its hash cannot be given other content.
//   - Give hashes what it stores. It reads npm's cache as hostile: what it opens is a
//     regular file of bounded size within the build's HOME, or it is left out.
//   - Fill makes copies. A hard link would share the file with the commands of a build,
//     which could change it for all others. Where the file system can share blocks, a
//     copy shares them.
//   - npm hashes what it reads from its cache, and downloads what does not match.
//
// What a build needs of this is that its lock file has addresses ("resolved"): without
// them, npm asks the registry first, and downloads what it has in its cache.
package npmcache

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"syscall"
)

// Store keeps packages by the SHA-512 of their content, in hexadecimal digits.
type Store interface {
	// Open returns the content, or fs.ErrNotExist.
	Open(ctx context.Context, digest string) (io.ReadCloser, error)
	Has(digest string) bool
	// Keep stores what write writes, unless write fails.
	Keep(ctx context.Context, digest string, write func(io.Writer) error) error
}

// Limits of one build. What is beyond them is downloaded.
const (
	maxLock     = 32 << 20 // bytes of a lock file
	maxPackages = 20_000
	maxPackage  = 256 << 20 // bytes
	maxBytes    = 4 << 30   // of all packages together
)

// lockFiles in the order in which npm looks for them.
var lockFiles = []string{"npm-shrinkwrap.json", "package-lock.json"}

// integrity is how a lock file names content.
var integrity = regexp.MustCompile(`sha512-([A-Za-z0-9+/]{86}==)`)

// Fill copies the packages that the workspace's lock file names into npm's cache below
// home. It returns how many it has copied.
func Fill(ctx context.Context, workspace, home *os.Root, store Store) (filled int, err error) {
	return each(ctx, workspace, func(digest string) (int64, error) {
		n, err := fill(ctx, home, store, digest)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
			return 0, nil
		}
		return n, err
	})
}

// Give stores the packages that the workspace's lock file names and that npm has
// downloaded into its cache below home. It returns how many it has stored. Commands of
// the build have ended.
func Give(ctx context.Context, workspace, home *os.Root, store Store) (given int, err error) {
	return each(ctx, workspace, func(digest string) (int64, error) {
		n, err := give(ctx, home, store, digest)
		if errors.Is(err, errOther) {
			return 0, nil
		}
		return n, err
	})
}

// each calls hand for the packages that the workspace's lock file names, until the bytes
// that hand returns are too many. It returns for how many hand returned some.
func each(ctx context.Context, workspace *os.Root, hand func(digest string) (int64, error)) (count int, err error) {
	named, err := digests(workspace)
	if err != nil {
		return 0, err
	}
	left := int64(maxBytes)
	for _, digest := range named {
		if ctx.Err() != nil {
			return count, context.Cause(ctx)
		}
		n, err := hand(digest)
		if err != nil {
			return count, err
		}
		if n > 0 {
			count++
		}
		if left -= n; left <= 0 {
			break
		}
	}
	return count, nil
}

func fill(ctx context.Context, home *os.Root, store Store, digest string) (n int64, err error) {
	from, err := store.Open(ctx, digest)
	if err != nil {
		return 0, err
	}
	defer from.Close()
	name := contentPath(digest)
	if err := home.MkdirAll(path.Dir(name), 0o700); err != nil {
		return 0, err
	}
	to, err := home.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(to, from)
	if err = errors.Join(err, to.Close()); err != nil {
		return n, errors.Join(err, home.Remove(name)) // npm would find that it does not match
	}
	return n, nil
}

// errOther is the error for content that has another hash than its name says.
var errOther = errors.New("the content is another's")

// give returns how many bytes it has stored.
func give(ctx context.Context, home *os.Root, store Store, digest string) (n int64, err error) {
	if store.Has(digest) {
		return 0, nil
	}
	from, size := open(home, contentPath(digest))
	if from == nil {
		return 0, nil
	}
	defer from.Close()
	if size > maxPackage {
		return 0, nil
	}
	err = store.Keep(ctx, digest, func(w io.Writer) error {
		sum := sha512.New()
		// The file may be longer by now.
		if n, err = io.Copy(io.MultiWriter(w, sum), io.LimitReader(from, maxPackage)); err != nil {
			return err
		}
		if hex.EncodeToString(sum.Sum(nil)) != digest {
			return errOther
		}
		return nil
	})
	return n, err
}

// contentPath is where npm's cache has content, below HOME.
func contentPath(digest string) string {
	return path.Join(".npm/_cacache/content-v2/sha512", digest[:2], digest[2:4], digest[4:])
}

// digests returns the SHA-512 of all packages that the workspace's lock file names.
func digests(workspace *os.Root) ([]string, error) {
	for _, name := range lockFiles {
		f, size := open(workspace, name)
		if f == nil {
			continue
		}
		defer f.Close()
		if size > maxLock {
			return nil, nil
		}
		b, err := io.ReadAll(io.LimitReader(f, maxLock))
		return digestsOf(b), err
	}
	return nil, nil
}

func digestsOf(lock []byte) (all []string) {
	known := map[string]bool{}
	for _, m := range integrity.FindAllSubmatch(lock, maxPackages) {
		raw, err := base64.StdEncoding.DecodeString(string(m[1]))
		if digest := hex.EncodeToString(raw); err == nil && !known[digest] {
			known[digest] = true
			all = append(all, digest)
		}
	}
	return all
}

// open opens a regular file; nil if it is none. O_NONBLOCK keeps the open from waiting
// for the writer of a named pipe.
func open(root *os.Root, name string) (*os.File, int64) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, 0
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, 0
	}
	return f, info.Size()
}
