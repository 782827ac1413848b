package workspace

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
)

var owner = Owner{BuildID: "b1", Created: buildcast.TimeOf(time.Unix(1_800_000_000, 0))}

func open(t *testing.T, base string, o Owner) *Workspace {
	t.Helper()
	w, err := Open(base, o.BuildID, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func files(pairs ...string) map[string]buildcast.File {
	m := map[string]buildcast.File{}
	for p := range slices.Chunk(pairs, 2) {
		m[p[0]] = buildcast.File{Content: []byte(p[1])}
	}
	return m
}

// names lists all files below dir.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, p)
			all = append(all, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code buildcast.Code) {
	t.Helper()
	if buildcast.CodeOf(err) != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestWriteFiles(t *testing.T) {
	w := open(t, t.TempDir(), owner)
	big := strings.Repeat("x", 1<<20)
	want := files("a.txt", "1", "deep/er/b.bin", "\x00\xff", "deep/c", big, ".dot", "")
	for range 2 { // twice: a repeated task overwrites its files
		if err := w.WriteFiles(t.Context(), 1, want); err != nil {
			t.Fatal(err)
		}
	}
	for name, f := range want {
		b, err := os.ReadFile(filepath.Join(w.Path(), name))
		if err != nil || !bytes.Equal(b, f.Content) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	if all := names(t, w.Path()); len(all) != len(want) {
		t.Errorf("left over: %q", all)
	}
}

// A run was killed between writing and renaming: the next run overwrites the
// leftover temporary file.
func TestHalfWrittenFileIsReplaced(t *testing.T) {
	w := open(t, t.TempDir(), owner)
	write(t, filepath.Join(w.Path(), ".buildcast-task-7"), "half of a longer file")
	if err := w.WriteFiles(t.Context(), 7, files("a", "whole")); err != nil {
		t.Fatal(err)
	}
	if all := names(t, w.Path()); !slices.Equal(all, []string{"a"}) {
		t.Errorf("%q", all)
	}
}

func TestWriteFilesStops(t *testing.T) {
	w := open(t, t.TempDir(), owner)
	why := errors.New("cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := w.WriteFiles(ctx, 1, files("a", "1")); !errors.Is(err, why) {
		t.Error(err)
	}
}

// Attacks: in a workspace in which commands have planted links, each name must be
// refused, and files outside must not change.

func TestNamesThatLeadOutside(t *testing.T) {
	base := t.TempDir()
	w := open(t, base, owner)
	for _, name := range []string{"../evil", "../../evil", "a/../../evil", "/etc/evil", filepath.Join(base, "evil"), "..", "", "."} {
		wantCode(t, w.WriteFiles(t.Context(), 1, files(name, "evil")), buildcast.InvalidArgument)
	}
	for _, name := range names(t, base) {
		if strings.Contains(name, "evil") {
			t.Errorf("written: %s", name)
		}
	}
}

func TestLinkedDirectoryLeadsOutside(t *testing.T) {
	base, outside := t.TempDir(), t.TempDir()
	w := open(t, base, owner)
	for link, to := range map[string]string{"absolute": outside, "relative": "../../..", "home": "../home", "chain": "absolute"} {
		if err := os.Symlink(to, filepath.Join(w.Path(), link)); err != nil {
			t.Fatal(err)
		}
		err := w.WriteFiles(t.Context(), 1, files(link+"/evil", "evil"))
		wantCode(t, err, buildcast.InvalidArgument)
		if e, ok := errors.AsType[*buildcast.Error](err); ok && strings.Contains(e.Message, base) {
			t.Errorf("the error contains the server's paths: %v", err)
		}
	}
	if all := names(t, outside); len(all) != 0 {
		t.Errorf("written outside: %q", all)
	}
}

// A link in the file's own place is replaced, not followed.
func TestLinkedFileIsReplaced(t *testing.T) {
	base, outside := t.TempDir(), t.TempDir()
	w := open(t, base, owner)
	victim := filepath.Join(outside, "victim")
	write(t, victim, "as it was")
	for _, name := range []string{"page", ".buildcast-task-1"} { // the temporary name too
		if err := os.Symlink(victim, filepath.Join(w.Path(), name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteFiles(t.Context(), 1, files("page", "new")); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(victim); string(b) != "as it was" {
		t.Errorf("the link was followed: %q", b)
	}
	if info, err := os.Lstat(filepath.Join(w.Path(), "page")); err != nil || !info.Mode().IsRegular() {
		t.Error(info, err)
	}
}

func TestOutputLeadsOutside(t *testing.T) {
	base, outside := t.TempDir(), t.TempDir()
	w := open(t, base, owner)
	for link, to := range map[string]string{"dist": outside, "up": "..", "sibling": "../home"} {
		if err := os.Symlink(to, filepath.Join(w.Path(), link)); err != nil {
			t.Fatal(err)
		}
		_, err := w.Output(link)
		wantCode(t, err, buildcast.InvalidArgument)
	}
	_, err := w.Output("not/there")
	wantCode(t, err, buildcast.InvalidArgument)
}

// A command replaces the whole workspace with a link. The next run does not write
// through it.
func TestWorkspaceReplacedByLink(t *testing.T) {
	base, outside := t.TempDir(), t.TempDir()
	w := open(t, base, owner)
	if err := os.Remove(w.Path()); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, w.Path()); err != nil {
		t.Fatal(err)
	}
	again := open(t, base, owner)
	if again.Kept {
		t.Error("it was kept")
	}
	if err := again.WriteFiles(t.Context(), 1, files("a", "1")); err != nil {
		t.Fatal(err)
	}
	if all := names(t, outside); len(all) != 0 {
		t.Errorf("written outside: %q", all)
	}
}

func TestOutputFollowsLinksInside(t *testing.T) {
	w := open(t, t.TempDir(), owner)
	if err := w.WriteFiles(t.Context(), 1, files("out/real/index.html", "")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("out/real", filepath.Join(w.Path(), "dist")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"": ".", ".": ".", "out": "out", "dist": "out/real"} {
		if got, err := w.Output(name); err != nil || got != filepath.Join(w.Path(), want) {
			t.Errorf("%q: %s, %v", name, got, err)
		}
	}
}

func TestKeptForItsBuildOnly(t *testing.T) {
	base := t.TempDir()
	fill := func(w *Workspace) {
		if err := w.WriteFiles(t.Context(), 1, files("a", "1")); err != nil {
			t.Fatal(err)
		}
	}
	w := open(t, base, owner)
	if w.Kept {
		t.Error("a new workspace is reported as kept")
	}
	fill(w)
	if w = open(t, base, owner); !w.Kept || len(names(t, w.Path())) != 1 {
		t.Error("it was not kept")
	}
	later := owner
	later.Created = buildcast.TimeOf(owner.Created.Std().Add(time.Second))
	if w = open(t, base, later); w.Kept || len(names(t, w.Path())) != 0 {
		t.Error("the workspace of a build that was deleted was taken over")
	}
	fill(w)
	meta := filepath.Join(base, owner.BuildID, metaFile)
	b, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	write(t, meta, strings.Replace(string(b), bootID(), "another-boot", 1))
	if w = open(t, base, later); w.Kept || len(names(t, w.Path())) != 0 {
		t.Error("it was kept over a restart of the machine")
	}
	fill(w)
	if err := os.Remove(meta); err != nil { // as a crash while it was made leaves it
		t.Fatal(err)
	}
	if w = open(t, base, later); w.Kept || len(names(t, w.Path())) != 0 {
		t.Error("an unfinished workspace was kept")
	}
}

// The path marks the build's processes, so it must be the same however the base is
// written.
func TestPathHoldsEverywhere(t *testing.T) {
	base := t.TempDir()
	link := filepath.Join(t.TempDir(), "data")
	if err := os.Symlink(base, link); err != nil {
		t.Fatal(err)
	}
	a, b := open(t, base, owner), open(t, link, owner)
	t.Chdir(base)
	c := open(t, ".", owner)
	if a.Path() != b.Path() || a.Path() != c.Path() || !b.Kept || !c.Kept {
		t.Error(a.Path(), b.Path(), c.Path())
	}
}

func TestDiscard(t *testing.T) {
	base := t.TempDir()
	w := open(t, base, owner)
	// Read-only directories, as Go's module cache has them.
	deep := filepath.Join(w.Home(), "mod", "pkg")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(deep, "file"), "")
	for _, dir := range []string{deep, filepath.Dir(deep)} {
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
	}
	remove, err := Discard(base, owner.BuildID)
	if err != nil {
		t.Fatal(err)
	}
	// It is out of use before it is removed; after a crash now, List returns it.
	if open(t, base, owner).Kept {
		t.Error("it is still in use")
	}
	if entries, err := List(base); err != nil || len(entries) != 2 {
		t.Errorf("%+v, %v", entries, err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	entries, err := List(base)
	if err != nil || len(entries) != 1 || entries[0].Owner.BuildID != owner.BuildID || !entries[0].Owner.Created.Equal(owner.Created) {
		t.Errorf("%+v, %v", entries, err)
	}
	if remove, err := Discard(base, "never-there"); err != nil || remove() != nil {
		t.Error(err)
	}
}

func TestListOfNothing(t *testing.T) {
	entries, err := List(filepath.Join(t.TempDir(), "none"))
	if err != nil || len(entries) != 0 {
		t.Error(entries, err)
	}
}
