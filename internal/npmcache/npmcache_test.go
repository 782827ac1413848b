package npmcache

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// memory is a store that believes whatever it is given.
type memory map[string][]byte

func (m memory) Open(_ context.Context, digest string) (io.ReadCloser, error) {
	b, ok := m[digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (m memory) Has(digest string) bool { return m[digest] != nil }

func (m memory) Keep(_ context.Context, digest string, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	m[digest] = b.Bytes()
	return nil
}

func digestOf(content string) string {
	sum := sha512.Sum512([]byte(content))
	return hex.EncodeToString(sum[:])
}

func root(t *testing.T) *os.Root {
	t.Helper()
	r, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// site returns a workspace whose lock file names the contents.
func site(t *testing.T, contents ...string) *os.Root {
	t.Helper()
	var lock strings.Builder
	for _, c := range contents {
		sum := sha512.Sum512([]byte(c))
		fmt.Fprintf(&lock, "\"integrity\": \"sha512-%s\",\n", base64.StdEncoding.EncodeToString(sum[:]))
	}
	r := root(t)
	if err := r.WriteFile("package-lock.json", []byte(lock.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// put puts content where npm would put it, under the hash of named.
func put(t *testing.T, home *os.Root, named, content string) string {
	t.Helper()
	name := contentPath(digestOf(named))
	if err := home.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := home.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestOnlyWhatIsNamedIsHandedOn(t *testing.T) {
	store, home := memory{}, root(t)
	put(t, home, "left", "left")
	put(t, home, "secret", "secret") // npm has it, but this site does not name it
	n, err := Give(t.Context(), site(t, "left", "absent"), home, store)
	if n != 1 || err != nil || string(store[digestOf("left")]) != "left" || len(store) != 1 {
		t.Fatalf("%d packages were given, %v: %q", n, err, store)
	}
	store[digestOf("other")] = []byte("other")
	home = root(t)
	if n, err = Fill(t.Context(), site(t, "left", "left", "absent"), home, store); n != 1 || err != nil {
		t.Fatalf("%d packages were filled in, %v", n, err)
	}
	if b, err := home.ReadFile(contentPath(digestOf("left"))); string(b) != "left" {
		t.Errorf("npm's cache has %q, %v", b, err)
	}
	if _, err := home.Stat(contentPath(digestOf("other"))); err == nil {
		t.Error("npm's cache has a package of another site")
	}
	if n, err = Fill(t.Context(), site(t, "left"), home, store); n != 0 || err != nil {
		t.Errorf("what was there was replaced: %d, %v", n, err)
	}
}

// TestPoisonIsNotStored has commands put all kinds of things where npm keeps a package.
func TestPoisonIsNotStored(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("left"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, poison := range map[string]func(home *os.Root, name string) error{
		"other content": func(home *os.Root, name string) error { return home.WriteFile(name, []byte("evil"), 0o600) },
		"longer":        func(home *os.Root, name string) error { return home.WriteFile(name, []byte("left and evil"), 0o600) },
		"empty":         func(home *os.Root, name string) error { return home.WriteFile(name, nil, 0o600) },
		"a link out of home": func(home *os.Root, name string) error {
			return os.Symlink(outside, filepath.Join(home.Name(), name))
		},
		"a FIFO":      func(home *os.Root, name string) error { return syscall.Mkfifo(filepath.Join(home.Name(), name), 0o600) },
		"a directory": func(home *os.Root, name string) error { return home.Mkdir(name, 0o700) },
		"a huge file": func(home *os.Root, name string) error {
			return os.Truncate(filepath.Join(home.Name(), put(t, home, "left", "left")), 1<<40)
		},
	} {
		t.Run(name, func(t *testing.T) {
			store, home := memory{}, root(t)
			file := put(t, home, "left", "left")
			if err := home.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := poison(home, file); err != nil {
				t.Fatal(err)
			}
			if n, err := Give(t.Context(), site(t, "left"), home, store); n != 0 || err != nil || len(store) != 0 {
				t.Errorf("%d were given, %v: %q", n, err, store)
			}
		})
	}
}

// TestFillStaysInHome has a task replace npm's cache before npm is called.
func TestFillStaysInHome(t *testing.T) {
	store, home, outside := memory{digestOf("left"): []byte("left")}, root(t), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(home.Name(), ".npm")); err != nil {
		t.Fatal(err)
	}
	if _, err := Fill(t.Context(), site(t, "left"), home, store); err == nil {
		t.Error("a link out of HOME was followed")
	}
	if entries, err := os.ReadDir(outside); len(entries) != 0 || err != nil {
		t.Errorf("outside of HOME there is %v, %v", entries, err)
	}
}

func FuzzDigests(f *testing.F) {
	sum := sha512.Sum512([]byte("left"))
	f.Add([]byte(`"integrity": "sha512-` + base64.StdEncoding.EncodeToString(sum[:]) + `"`))
	f.Add([]byte(`sha512-==`))
	f.Fuzz(func(t *testing.T, lock []byte) {
		for _, d := range digestsOf(lock) {
			if raw, err := hex.DecodeString(d); err != nil || len(raw) != sha512.Size || !filepath.IsLocal(contentPath(d)) {
				t.Errorf("%q is no digest", d)
			}
		}
	})
}
