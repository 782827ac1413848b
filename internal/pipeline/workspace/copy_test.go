package workspace

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
)

var heir = Owner{BuildID: "b2", Created: buildcast.TimeOf(time.Unix(1_800_000_100, 0))}

// A copy has the files with their modes and times, and the links as links. It leaves
// out what must not be opened, and shares no file with the old workspace.
func TestCopyOfAHostileWorkspace(t *testing.T) {
	base := t.TempDir()
	old, err := Open(base, "b1", owner, nil)
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(old.Path(), name) }
	then := time.Unix(1_700_000_000, 0)
	for _, err := range []error{
		os.MkdirAll(in("sub/deep"), 0o750), os.WriteFile(in("sub/deep/run.sh"), []byte("x"), 0o700),
		os.Chtimes(in("sub/deep/run.sh"), then, then), os.Chmod(in("sub/deep"), 0o550),
		os.Symlink("/etc/passwd", in("outside")), os.Symlink("..", in("sub/up")), os.Symlink("sub", in("dir")),
		syscall.Mkfifo(in("fifo"), 0o600), os.Link(in("sub/deep/run.sh"), in("hard")),
		os.WriteFile(filepath.Join(old.Home(), ".npmrc"), []byte("h"), 0o600), os.WriteFile(filepath.Join(old.Temp(), "t"), nil, 0o600),
		old.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w, err := Open(base, "b2", heir, func(n *New) (Contents, error) { return Contents{After: 7}, n.Copy(t.Context(), "b1", owner) })
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	out := func(name string) string { return filepath.Join(w.Path(), name) }
	info, err := os.Stat(out("sub/deep/run.sh"))
	if err != nil || info.Mode() != 0o700 || !info.ModTime().Equal(then) {
		t.Errorf("%v, %v", info, err)
	}
	if info, err := os.Stat(out("sub/deep")); err != nil || info.Mode().Perm() != 0o550 {
		t.Errorf("%v, %v", info, err)
	}
	for name, target := range map[string]string{"outside": "/etc/passwd", "sub/up": "..", "dir": "sub"} {
		if got, err := os.Readlink(out(name)); err != nil || got != target {
			t.Errorf("%s leads to %q, %v", name, got, err)
		}
	}
	if _, err := os.Lstat(out("fifo")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the FIFO: %v", err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Nlink != 1 {
		t.Errorf("a file of the copy has other names")
	}
	if b, err := os.ReadFile(filepath.Join(w.Home(), ".npmrc")); err != nil || string(b) != "h" {
		t.Errorf("HOME: %q, %v", b, err)
	}
	if e, err := os.ReadDir(w.Temp()); err != nil || len(e) != 0 {
		t.Errorf("TMPDIR has %v, %v", e, err)
	}
}

// Attack: files of holes take no space, so no limit of a command ends it. A retry would
// fill the disk with their copies.
func TestCopyKeepsHoles(t *testing.T) {
	base := t.TempDir()
	from, to := filepath.Join(base, "from"), filepath.Join(base, "to")
	if err := errors.Join(os.Mkdir(from, 0o700), os.Mkdir(to, 0o700), os.WriteFile(filepath.Join(from, "f"), []byte("begin"), 0o600)); err != nil {
		t.Fatal(err)
	}
	const size, middle = 64<<20 + 7, 20<<20 + 3
	f, err := os.OpenFile(filepath.Join(from, "f"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("middle"), middle)
	if err := errors.Join(err, f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(from)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	c := copier{ctx: t.Context()}
	if err := c.copyInto(root, to); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(from, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(to, "f")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy differs: %d bytes, %v", len(got), err)
	}
	info, err := os.Stat(filepath.Join(to, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Blocks*512 > 1<<20 {
		t.Errorf("the copy takes %d bytes", s.Blocks*512)
	}
}

// A copy that is cut off leaves nothing: neither files, nor a workspace that counts.
func TestCopyIsAllOrNothing(t *testing.T) {
	base := t.TempDir()
	old, err := Open(base, "b1", owner, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(old.Path(), "f"), []byte("x"), 0o600), old.Close()); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	for name, o := range map[string]Owner{"b1": owner, "gone": owner} {
		_, err := Open(base, "b2", heir, func(n *New) (Contents, error) {
			err := n.Copy(ended, name, o)
			if e, _ := os.ReadDir(filepath.Join(n.dir, workDir)); len(e) != 0 {
				t.Errorf("%s: the copy has left %v", name, e)
			}
			return Contents{}, err
		})
		if err == nil || errors.Is(err, ErrGone) != (name == "gone") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Look(base, "b2", heir); !errors.Is(err, ErrGone) {
			t.Errorf("%s: an incomplete workspace counts: %v", name, err)
		}
	}
}
