package sqlite

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// modes returns the modes of the database's files that allow anything to others
// than their owner, and how many files there are.
func modes(t *testing.T, path string) (files int, open []fs.FileMode) {
	t.Helper()
	names, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if m := info.Mode().Perm(); m&0o077 != 0 {
			open = append(open, m)
		}
	}
	return len(names), open
}

// Attack: another user of the machine reads the database, in a data directory that
// is open to all.
func TestDatabaseIsReadByItsOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "b.db")
	s := open(t, path)
	if _, err := s.AppendEvents(t.Context(), []store.Append{{BuildID: "b", Events: []buildcast.NewEvent{{Type: "step"}}}}); err != nil {
		t.Fatal(err)
	}
	if n, others := modes(t, path); n != 4 || len(others) > 0 { // the file, its lock, -wal and -shm
		t.Errorf("%d files, of which others may use %v", n, others)
	}
}

// Open corrects the modes of files that an earlier version has left readable.
func TestOpenCorrectsTheModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.db")
	first, out := child(t, path)
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := first.Process.Kill(); err != nil { // -wal and -shm stay
		t.Fatal(err)
	}
	_ = first.Wait()
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if err := os.Chmod(name, 0o644); err != nil { // as an earlier version made it
			t.Fatal(err)
		}
	}
	open(t, path)
	if n, others := modes(t, path); n != 4 || len(others) > 0 {
		t.Errorf("%d files, of which others may use %v", n, others)
	}
}
