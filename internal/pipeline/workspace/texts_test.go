package workspace

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Of what commands may have left, only the contents of small texts are read.
func TestTexts(t *testing.T) {
	w := open(t, t.TempDir(), owner)
	secret := filepath.Join(t.TempDir(), "outside")
	write(t, secret, "outside")
	if err := w.WriteFiles(t.Context(), 1, files("a/b.txt", "text", "big.txt", strings.Repeat("x", maxText+1), "bin", "\x00\xff",
		".env", "TOKEN=1", "sub/.npmrc", "token", "key.pem", "key", "node_modules/x.js", "no", ".git/config", "no")); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": secret, "dir": filepath.Dir(secret)} {
		if err := os.Symlink(to, filepath.Join(w.Path(), link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(w.Path(), "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	texts, err := w.Texts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, f := range texts {
		names = append(names, f.Path)
		if (f.Content != nil) != (f.Path == "a/b.txt") {
			t.Errorf("%s: content %v", f.Path, f.Content)
		}
	}
	if want := []string{".env", "a/b.txt", "big.txt", "bin", "key.pem", "sub/.npmrc"}; !slices.Equal(names, want) {
		t.Errorf("%v", names)
	}
}

// The contents of all files together are bounded.
func TestTextsAreBounded(t *testing.T) {
	w := open(t, t.TempDir(), owner)
	many := []string{}
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		many = append(many, name, strings.Repeat(name, maxText))
	}
	if err := w.WriteFiles(t.Context(), 1, files(many...)); err != nil {
		t.Fatal(err)
	}
	texts, err := w.Texts(t.Context())
	sum := 0
	for _, f := range texts {
		if f.Content != nil {
			sum += len(*f.Content)
		}
	}
	if err != nil || len(texts) != 8 || sum != maxTexts {
		t.Errorf("%d files, %d bytes, %v", len(texts), sum, err)
	}
}
