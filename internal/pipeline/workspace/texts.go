package workspace

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"
)

// Bounds of Texts.
const (
	maxListed = 2000     // files
	maxWalked = 20_000   // entries of directories
	maxText   = 16 << 10 // bytes of one file's content
	maxTexts  = 96 << 10 // bytes of all contents
)

// Text is a file of the workspace. Content is nil if the file is too large, is not
// text, or may hold a secret.
type Text struct {
	Path    string
	Size    int64
	Content *string
}

// unlisted are directories that are made from the rest.
var unlisted = []string{"node_modules", ".git", ".cache", ".turbo"}

var errEnough = errors.New("enough")

// Texts lists the regular files and the contents of small texts, in the order of their
// paths. What commands have left in the workspace is not trusted: no link is followed,
// nothing but regular files is opened, and all is bounded.
func (w *Workspace) Texts(ctx context.Context) ([]Text, error) {
	texts := []Text{}
	walked, room := 0, maxTexts
	err := fs.WalkDir(w.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if walked++; ctx.Err() != nil || walked > maxWalked || len(texts) >= maxListed {
			return errEnough
		}
		switch {
		case err != nil:
			return nil //nolint:nilerr // a directory that cannot be read is left out
		case d.IsDir() && slices.Contains(unlisted, d.Name()):
			return fs.SkipDir
		case !d.Type().IsRegular() || !utf8.ValidString(name):
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // it was removed meanwhile
		}
		t := Text{Path: name, Size: info.Size()}
		if t.Size <= maxText && t.Size <= int64(room) && !mayBeSecret(name) {
			t.Content = w.text(name)
		}
		if t.Content != nil {
			room -= len(*t.Content)
		}
		texts = append(texts, t)
		return nil
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return texts, nil
}

// mayBeSecret reports whether files of this name often hold secrets.
func mayBeSecret(name string) bool {
	base := strings.ToLower(path.Base(name))
	return strings.HasPrefix(base, ".env") || slices.Contains([]string{".npmrc", ".netrc", ".yarnrc.yml", "id_rsa", "id_ed25519"}, base) ||
		slices.Contains([]string{".pem", ".key", ".p12", ".pfx"}, path.Ext(base))
}

// text returns the file's content, or nil if it is not a small text. It does not wait
// for a FIFO that has taken the file's place.
func (w *Workspace) text(name string) *string {
	f, err := w.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil || len(b) > maxText || !utf8.Valid(b) || slices.Contains(b, 0) {
		return nil
	}
	s := string(b)
	return &s
}
