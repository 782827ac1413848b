package secretdir

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/buildcast/buildcast"
)

func put(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T) (*Dir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secrets")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return d, path
}

func TestValues(t *testing.T) {
	d, path := open(t)
	put(t, path+"/TOKEN", "for all\n", 0o600)
	put(t, path+"/shop/TOKEN", "for the shop\r\n", 0o640)
	put(t, path+"/KEY", "two\nlines\n\n", 0o400)
	put(t, path+"/..data/LINKED", "by a link", 0o600)
	if err := os.Symlink("..data/LINKED", path+"/LINKED"); err != nil { // as Kubernetes does
		t.Fatal(err)
	}
	for _, c := range []struct{ project, name, want string }{
		{"shop", "TOKEN", "for the shop"},
		{"other", "TOKEN", "for all"},
		{"", "TOKEN", "for all"},
		{"../shop", "TOKEN", "for all"},
		{"..", "TOKEN", "for all"},
		{"TOKEN", "TOKEN", "for all"}, // TOKEN is a file, and not the project's folder
		{"shop", "KEY", "two\nlines\n"},
		{"shop", "LINKED", "by a link"},
	} {
		if got, err := d.Secret(c.project, c.name); err != nil || got != c.want {
			t.Errorf("%s of %q is %q, %v, want %q", c.name, c.project, got, err, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	d, path := open(t)
	outside := filepath.Join(t.TempDir(), "outside")
	put(t, outside, "not a secret of builds", 0o600)
	put(t, path+"/OPEN", "anybody's", 0o644)
	put(t, path+"/SHORT", "abc\n", 0o600)
	put(t, path+"/LONG", strings.Repeat("x", MaxSize+2), 0o600)
	put(t, path+"/ZERO", "abcd\x00ef", 0o600)
	for name, make := range map[string]func(string) error{
		"ESCAPE": func(at string) error { return os.Symlink(outside, at) },
		"PIPE":   func(at string) error { return syscall.Mkfifo(at, 0o600) },
		"FOLDER": func(at string) error { return os.Mkdir(at, 0o700) },
	} {
		if err := make(filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"NONE":   "secret NONE does not exist on this server: put its value into the file shop/NONE or NONE of the directory of --secrets-dir",
		"OPEN":   "chmod o= OPEN",
		"SHORT":  "less than 4",
		"LONG":   "larger than 8192 bytes",
		"ZERO":   "zero byte",
		"ESCAPE": "cannot be read",
		"PIPE":   "not a regular file",
		"FOLDER": "not a regular file",
	} {
		value, err := d.Secret("shop", name)
		if err == nil || value != "" || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "anybody") {
			t.Errorf("%s: %q, %v", name, value, err)
		}
	}
	if _, err := d.Secret("shop", "NONE"); buildcast.CodeOf(err) != buildcast.NotFound {
		t.Errorf("the code is %v", buildcast.CodeOf(err))
	}
}

func TestOpenRefusesDirectoriesOfOthers(t *testing.T) {
	_, path := open(t)
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("error %v", err)
	}
	if _, err := Open(path + "/none"); err == nil {
		t.Error("a missing directory is fine")
	}
}
