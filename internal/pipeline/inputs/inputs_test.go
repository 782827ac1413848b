package inputs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/buildcast/buildcast/internal/cache"
)

func everything(string, bool) Interest { return Hash }

func none(string) bool { return false }

type space struct {
	t   testing.TB
	dir string
	*Taker
}

func newSpace(t testing.TB) *space {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return &space{t, dir, New(root)}
}

func (s *space) write(name, content string) {
	s.t.Helper()
	at := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *space) snapshot() *Snapshot {
	s.t.Helper()
	snap, err := s.Take(s.t.Context(), everything)
	if err != nil {
		s.t.Fatal(err)
	}
	return snap
}

func (s *space) key() cache.ID {
	s.t.Helper()
	var k cache.Key
	s.snapshot().AddTo(&k, func(string) bool { return true })
	return k.In(cache.Scope{})
}

// TestTheKeyKnowsEachChange: each step changes the key, and undoing it brings it back.
func TestTheKeyKnowsEachChange(t *testing.T) {
	s := newSpace(t)
	s.write("src/a", "1")
	s.write("src/b", "2")
	at := func(name string) string { return filepath.Join(s.dir, name) }
	first := s.key()
	for name, change := range map[string]struct{ do, undo func() error }{
		"content":   {func() error { s.write("src/a", "x"); return nil }, func() error { s.write("src/a", "1"); return nil }},
		"mode":      {func() error { return os.Chmod(at("src/a"), 0o700) }, func() error { return os.Chmod(at("src/a"), 0o600) }},
		"name":      {func() error { return os.Rename(at("src/a"), at("src/c")) }, func() error { return os.Rename(at("src/c"), at("src/a")) }},
		"link":      {func() error { return os.Symlink("a", at("src/l")) }, func() error { return os.Remove(at("src/l")) }},
		"directory": {func() error { return os.Mkdir(at("empty"), 0o700) }, func() error { return os.Remove(at("empty")) }},
	} {
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		if s.key() == first {
			t.Errorf("%s: the key is the same", name)
		}
		if err := change.undo(); err != nil {
			t.Fatal(err)
		}
		if s.key() != first {
			t.Errorf("%s: undone, the key is another", name)
		}
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(at("src/a"), later, later); err != nil || s.key() != first {
		t.Errorf("the key depends on times (%v)", err)
	}
}

func TestAChangeIsSeenAlsoIfTheContentIsTheSame(t *testing.T) {
	s := newSpace(t)
	s.write("a", "1")
	before := s.snapshot()
	if got := before.Changed(s.snapshot(), true, none); got != "" {
		t.Errorf("%s seems to have changed", got)
	}
	if err := os.Remove(filepath.Join(s.dir, "a")); err != nil {
		t.Fatal(err)
	}
	s.write("b", "")
	if got := before.Changed(s.snapshot(), false, none); got != "a" {
		t.Errorf("got %q, want a", got)
	}
	s.write("a", "1")
	if got := before.Changed(s.snapshot(), false, none); got != "a" {
		t.Errorf("replaced: got %q, want a", got)
	}
	if got := before.Changed(s.snapshot(), true, func(n string) bool { return n == "a" }); got != "b" {
		t.Errorf("added: got %q, want b", got)
	}
}

func TestCredentialsAreNotInTheKey(t *testing.T) {
	s := newSpace(t)
	s.write(".npmrc", "registry=https://r.example\n//r.example/:_authToken=one\n")
	first := s.key()
	s.write(".npmrc", "registry=https://r.example\n//r.example/:_authToken=two\n")
	if s.key() != first {
		t.Error("a token changes the key")
	}
	s.write(".npmrc", "registry=https://other.example\n//r.example/:_authToken=two\n")
	if s.key() == first {
		t.Error("another registry does not change the key")
	}
}

func TestPlatformSaysWhatRuns(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "node")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho v99.1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	of := func() map[string]string {
		var k cache.Key
		NewPlatform(dir).AddTo(t.Context(), &k)
		found := map[string]string{}
		for _, p := range k.Parts() {
			found[p.Name] = p.Value
		}
		return found
	}
	first := of()
	if first["node"] != "v99.1" || first["npm"] != "none" {
		t.Errorf("%v", first)
	}
	if err := os.WriteFile(filepath.Join(dir, "tool"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if second := of(); second["programs"] == first["programs"] {
		t.Error("a new program does not change it")
	}
}

// BenchmarkHash takes snapshots of 10,000 files of 5 kB: new, and known from before.
func BenchmarkHash(b *testing.B) {
	s := newSpace(b)
	content := string(make([]byte, 5000))
	then := time.Now().Add(-time.Hour)
	for i := range 10_000 {
		name := fmt.Sprintf("%d/%d", i/100, i)
		s.write(name, content)
		_ = os.Chtimes(filepath.Join(s.dir, name), then, then)
	}
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			s.known = map[string]known{}
			s.snapshot()
		}
	})
	b.Run("known", func(b *testing.B) {
		for b.Loop() {
			s.snapshot()
		}
	})
}
