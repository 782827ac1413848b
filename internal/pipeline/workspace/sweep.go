package workspace

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// removed marks a directory that is being removed. After a crash, the next List
// returns it.
const removed = ".removed-"

// Entry is a directory below the base.
type Entry struct {
	Name string
	// Owner is the zero value if the owner is unknown.
	Owner Owner
	// Changed is when a run last closed or created it, by this machine's clock.
	Changed time.Time
}

// List returns the directories below base; none if base does not exist.
func List(base string) ([]Entry, error) {
	dirs, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, d := range dirs {
		e := Entry{Name: d.Name()}
		if info, err := d.Info(); err == nil {
			e.Changed = info.ModTime()
		}
		e.Owner = OwnerOf(base, e.Name)
		entries = append(entries, e)
	}
	return entries, nil
}

// OwnerOf returns the owner of base/name; the zero value if it is unknown.
func OwnerOf(base, name string) Owner {
	m, err := readMeta(filepath.Join(base, name))
	if err != nil {
		return Owner{}
	}
	return m.Owner
}

// Discard takes the directory out of use at once, and returns a function that
// removes it, which may take long. If it does not exist, remove does nothing.
func Discard(base, name string) (remove func() error, err error) {
	if strings.HasPrefix(name, removed) {
		return func() error { return removeAll(filepath.Join(base, name)) }, nil
	}
	to := filepath.Join(base, removed+rand.Text())
	err = os.Rename(filepath.Join(base, name), to)
	if errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	return func() error { return removeAll(to) }, err
}

// removeAll removes the directory even if commands have made directories
// read-only, as Go's module cache is.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o700) //nolint:gosec // a directory needs x; it is about to be removed
		}
		return nil
	})
	return os.RemoveAll(dir)
}
