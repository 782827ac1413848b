package sqlite

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// crashed makes a database as a process leaves it that was killed after the last
// commit: the write-ahead log is not copied into the database file.
func crashed(t *testing.T, events int) string {
	t.Helper()
	live := filepath.Join(t.TempDir(), "b.db")
	s := open(t, live)
	for range events {
		if _, err := appendOne(t, s, "b"); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "b.db")
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(live + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// frames returns the offsets of the log's frames, and of those that commit.
func frames(t *testing.T, wal []byte) (all, commits []int) {
	t.Helper()
	size := frameHeaderSize + int(binary.BigEndian.Uint32(wal[8:]))
	for at := walHeaderSize; at+size <= len(wal); at += size {
		all = append(all, at)
		if binary.BigEndian.Uint32(wal[at+4:]) != 0 {
			commits = append(commits, at)
		}
	}
	return all, commits
}

// change writes over bytes of the log.
func change(t *testing.T, path string, at int, b ...byte) {
	t.Helper()
	f, err := os.OpenFile(path+"-wal", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, int64(at)); err != nil {
		t.Fatal(err)
	}
}

func readWAL(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGarbageInTheWALIsReported(t *testing.T) {
	path := crashed(t, 10)
	wal := readWAL(t, path)
	all, commits := frames(t, wal)
	hit := commits[len(commits)-4] // a page of the fourth-last commit
	change(t, path, hit+100, 'g', 'a', 'r', 'b', 'a', 'g', 'e')
	behind := 0
	for _, at := range all {
		if at >= hit {
			behind++
		}
	}

	s := open(t, path)
	if s.damage.frames != behind || s.damage.commits != 4 {
		t.Errorf("damage %+v, want %d frames with 4 commits", s.damage, behind)
	}
	if w := s.Warning(); !strings.Contains(w, "4 commits") || !strings.Contains(w, "b.db-wal.damaged") {
		t.Errorf("warning %q", w)
	}
	kept, err := os.ReadFile(path + "-wal.damaged")
	if err != nil || len(kept) != len(wal) {
		t.Errorf("%d of %d bytes are kept, %v", len(kept), len(wal), err)
	}
	wantLog(t, s, "b", 6) // SQLite drops the rest
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if w := open(t, path).Warning(); w != "" {
		t.Errorf("reported again at the next start: %s", w)
	}
}

// Frames that a kill, or a log that begins anew, leaves behind are not damage.
func TestAnUndamagedWALIsNotReported(t *testing.T) {
	uncommitted := func(t *testing.T, path string) { // a transaction was cut off before its commit
		wal := readWAL(t, path)
		_, commits := frames(t, wal)
		last := commits[len(commits)-1]
		change(t, path, last+4, 0, 0, 0, 0)
	}
	older := func(t *testing.T, path string) { // frames of another round behind the end
		wal := readWAL(t, path)
		all, _ := frames(t, wal)
		for _, at := range all[len(all)-3:] {
			change(t, path, at+8, 1, 2, 3, 4)
		}
	}
	half := func(t *testing.T, path string) {
		if err := os.Truncate(path+"-wal", int64(len(readWAL(t, path))-100)); err != nil {
			t.Fatal(err)
		}
	}
	for name, do := range map[string]func(*testing.T, string){
		"as it is":                 func(*testing.T, string) {},
		"an uncommitted end":       uncommitted,
		"frames of an older round": older,
		"half a frame":             half,
		"empty":                    func(t *testing.T, path string) { _ = os.Truncate(path+"-wal", 0) },
		"no log": func(t *testing.T, path string) {
			change(t, path, 0, 0, 0, 0, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := crashed(t, 5)
			do(t, path)
			if d, err := inspectWAL(path + "-wal"); err != nil || d.commits != 0 {
				t.Errorf("damage %+v, %v", d, err)
			}
		})
	}
	if d, err := inspectWAL(filepath.Join(t.TempDir(), "none")); err != nil || d.commits != 0 {
		t.Errorf("no file: %+v, %v", d, err)
	}
}

// A killed process may leave uncommitted frames. After a later process has overwritten
// the first of them, the rest must not be taken for damage.
func TestOpeningEmptiesTheWAL(t *testing.T) {
	path := crashed(t, 5)
	open(t, path)
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() != 0 {
		t.Errorf("the log has %d bytes, %v", info.Size(), err)
	}
}

func FuzzInspectWAL(f *testing.F) {
	f.Add([]byte{}, 0)
	f.Add(make([]byte, 100), 3)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		path := filepath.Join(t.TempDir(), "wal")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := inspectWAL(path); errors.Is(err, io.EOF) {
			t.Error("the end of the file is reported as an error")
		}
	})
}
