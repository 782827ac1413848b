package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

// node is a file, a directory or a link, as far as archives keep it.
type node struct {
	Kind    string // file, program, dir or link
	Content string // of a file; a link's target
}

func write(t testing.TB, dir string, tree map[string]node) {
	t.Helper()
	for _, name := range slices.SortedFunc(keys(tree), compare) {
		at, n := filepath.Join(dir, name), tree[name]
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		var err error
		switch n.Kind {
		case "dir":
			err = os.MkdirAll(at, 0o700)
		case "link":
			err = os.Symlink(n.Content, at)
		case "program":
			err = os.WriteFile(at, []byte(n.Content), 0o700)
		default:
			err = os.WriteFile(at, []byte(n.Content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func keys(tree map[string]node) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range tree {
			if !yield(k) {
				return
			}
		}
	}
}

func read(t testing.TB, dir string) map[string]node {
	t.Helper()
	tree := map[string]node{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			tree[name] = node{Kind: "dir"}
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			tree[name] = node{"link", target}
		default:
			kind := "file"
			if info.Mode()&0o111 != 0 {
				kind = "program"
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			tree[name] = node{kind, string(b)}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func open(t testing.TB, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func pack(t testing.TB, dir string, outputs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := Pack(t.Context(), &b, open(t, dir), outputs, Limits{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unpack(t testing.TB, b []byte, dir string, outputs ...string) error {
	t.Helper()
	_, err := Unpack(t.Context(), bytes.NewReader(b), open(t, dir), outputs, Limits{})
	return err
}

// TestUnpackRestoresWhatPackTook packs random trees.
func TestUnpackRestoresWhatPackTook(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		from, _ := os.MkdirTemp(base, "from")
		to, _ := os.MkdirTemp(base, "to")
		names := rapid.SampledFrom([]string{"a", "a.b", "a-b", "b", "c d", "é", "zz", ".x", "long" + strings.Repeat("n", 150)})
		tree := map[string]node{"out": {Kind: "dir"}}
		dirs := []string{"out"}
		for range rapid.IntRange(0, 30).Draw(rt, "count") {
			name := rapid.SampledFrom(dirs).Draw(rt, "dir") + "/" + names.Draw(rt, "name")
			if _, ok := tree[name]; ok {
				continue
			}
			n := node{Kind: rapid.SampledFrom([]string{"file", "program", "dir", "link"}).Draw(rt, "kind")}
			switch n.Kind {
			case "dir":
				dirs = append(dirs, name)
			case "link":
				n.Content = strings.Repeat("../", rapid.IntRange(0, strings.Count(name, "/")).Draw(rt, "up")) + names.Draw(rt, "target")
			default:
				n.Content = string(rapid.SliceOf(rapid.Byte()).Draw(rt, "content"))
			}
			tree[name] = n
		}
		write(t, from, tree)
		write(t, to, map[string]node{"out/stale/file": {"file", "x"}, "out/a": {"link", "/etc"}, "kept": {"file", "k"}})
		packed := pack(t, from, "out")
		if err := unpack(t, packed, to, "out"); err != nil {
			rt.Fatal(err)
		}
		want := read(t, from)
		want["kept"] = node{"file", "k"}
		if d := cmp.Diff(want, read(t, to)); d != "" {
			rt.Fatalf("restored (+) is not what was packed (-):\n%s", d)
		}
		if again := pack(t, to, "out"); !bytes.Equal(packed, again) {
			rt.Fatal("the same outputs make other bytes")
		}
	})
}

func TestSeveralOutputsAndThoseWithinOthers(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, from, map[string]node{
		"dist/app.js": {"file", "1"}, "dist/sub/x": {"file", "2"}, "dist.txt": {"program", "3"},
		"packages/ui/out/a": {"file", "4"}, "other": {"file", "5"},
	})
	outputs := []string{"packages/ui/out", "dist.txt", "dist/sub", "dist"}
	if err := unpack(t, pack(t, from, outputs...), to, outputs...); err != nil {
		t.Fatal(err)
	}
	want := read(t, from)
	delete(want, "other")
	if d := cmp.Diff(want, read(t, to)); d != "" {
		t.Error(d)
	}
}

func TestModesAndTimesAreConstant(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, from, map[string]node{"out/f": {"file", "1"}, "out/p": {"program", "2"}})
	if err := unpack(t, pack(t, from, "out"), to, "out"); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{"out": 0o755 | fs.ModeDir, "out/f": 0o644, "out/p": 0o755} {
		info, err := os.Stat(filepath.Join(to, name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v (%v)", name, info.Mode(), mode, err)
		}
		if !info.IsDir() && !info.ModTime().Equal(constant) {
			t.Errorf("%s has time %v", name, info.ModTime())
		}
	}
}

func TestReadOnlyLeftoversAreRemoved(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, from, map[string]node{"out/f": {"file", "1"}})
	write(t, to, map[string]node{"out/locked/deep/f": {"file", "old"}})
	for _, d := range []string{"out/locked/deep", "out/locked"} {
		if err := os.Chmod(filepath.Join(to, d), 0o500); err != nil {
			t.Fatal(err)
		}
	}
	if err := unpack(t, pack(t, from, "out"), to, "out"); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(read(t, from), read(t, to)); d != "" {
		t.Error(d)
	}
}

func TestPackRefusesWhatItCannotKeep(t *testing.T) {
	for name, make := range map[string]func(at string) error{
		"a FIFO":                     func(at string) error { return syscall.Mkfifo(at, 0o600) },
		"an absolute link":           func(at string) error { return os.Symlink("/etc/passwd", at) },
		"a link out":                 func(at string) error { return os.Symlink("../../x", at) },
		"a link out by another link": func(at string) error { return os.Symlink("a/../../x", at) },
		"a setuid program": func(at string) error {
			return errors.Join(os.WriteFile(at, nil, 0o700), os.Chmod(at, 0o755|fs.ModeSetuid))
		},
		"a name with a backslash": func(at string) error { return os.WriteFile(at+`\`, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]node{"out": {Kind: "dir"}})
			if err := make(filepath.Join(dir, "out/x")); err != nil {
				t.Fatal(err)
			}
			if _, err := Pack(t.Context(), &bytes.Buffer{}, open(t, dir), []string{"out"}, Limits{}); err == nil {
				t.Error("it was packed")
			}
		})
	}
}

func TestPackTellsWhichOutputIsMissing(t *testing.T) {
	for _, name := range []string{"dist", "no/such/dir"} {
		_, err := Pack(t.Context(), &bytes.Buffer{}, open(t, t.TempDir()), []string{name}, Limits{})
		if !Missing(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLimitsHoldForBothWays(t *testing.T) {
	from := t.TempDir()
	write(t, from, map[string]node{"out/a": {"file", strings.Repeat("x", 1000)}, "out/b": {"file", "y"}})
	packed := pack(t, from, "out")
	for _, l := range []Limits{{Entries: 2}, {Bytes: 1000}} {
		if _, err := Pack(t.Context(), &bytes.Buffer{}, open(t, from), []string{"out"}, l); err == nil {
			t.Errorf("packed beyond %+v", l)
		}
		to := t.TempDir()
		if _, err := Unpack(t.Context(), bytes.NewReader(packed), open(t, to), []string{"out"}, l); err == nil {
			t.Errorf("unpacked beyond %+v", l)
		}
		if left := read(t, to); len(left) > 0 {
			t.Errorf("a refused archive leaves %v", left)
		}
	}
}

// crafted makes an archive as no Pack would.
func crafted(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z, _ := zstd.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, h := range headers {
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		content := "hostile"
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var (
	outDir = tar.Header{Name: "out/", Typeflag: tar.TypeDir, Mode: 0o755}
	within = func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	linked = func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777}
	}
)

// attacks are archives that Unpack must refuse.
func attacks() map[string][]tar.Header {
	return map[string][]tar.Header{
		"a name with ..":                {outDir, within("out/../../evil")},
		"a name with .. at its start":   {within("../evil")},
		"an absolute name":              {within("/tmp/buildcast-evil")},
		"a name that is not clean":      {outDir, within("out//f")},
		"a file outside the outputs":    {outDir, within("out/f"), within("package.json")},
		"a file without its directory":  {outDir, within("out/a/f")},
		"a directory that is a file":    {outDir, within("out/a"), within("out/a/f")},
		"a file through a link":         {outDir, linked("out/a", "../victim"), within("out/a/f")},
		"a file over a link":            {outDir, linked("out/a", "../victim/f"), within("out/a")},
		"an output that is a link":      {linked("out", "victim"), within("out/f")},
		"an absolute link":              {outDir, linked("out/a", "/etc/passwd")},
		"a link out":                    {outDir, linked("out/a", "../../etc/passwd")},
		"a link out through a link":     {outDir, linked("out/a", ".."), linked("out/b", "a/../../etc")},
		"a hard link":                   {outDir, {Name: "out/a", Typeflag: tar.TypeLink, Linkname: "victim/f"}},
		"a device":                      {outDir, {Name: "out/a", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
		"a FIFO":                        {outDir, {Name: "out/a", Typeflag: tar.TypeFifo}},
		"a setuid program":              {outDir, {Name: "out/a", Typeflag: tar.TypeReg, Mode: 0o4755}},
		"a name twice":                  {outDir, within("out/a"), within("out/a")},
		"a directory twice":             {outDir, outDir},
		"names out of order":            {outDir, within("out/b"), within("out/a")},
		"an output that is missing":     {},
		"an extended attribute":         {outDir, {Name: "out/a", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "x"}}},
		"a name with a backslash":       {outDir, within(`out/..\..\evil`)},
		"a name deeper than the bound":  {outDir, within("out/" + strings.Repeat("d/", maxDepth) + "f")},
		"a name longer than the bound":  {outDir, within("out/" + strings.Repeat("n", maxPath))},
		"the workspace itself":          {{Name: "./", Typeflag: tar.TypeDir}},
		"a link longer than the bound":  {outDir, linked("out/a", strings.Repeat("n", maxPath+1))},
		"the other output's stale file": {outDir, within("out/f"), outDir},
	}
}

// TestUnpackRefuses has one named attack per case. None leaves a trace.
func TestUnpackRefuses(t *testing.T) {
	for name, headers := range attacks() {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			ws := filepath.Join(base, "ws")
			write(t, ws, map[string]node{"victim/f": {"file", "mine"}, "package.json": {"file", "{}"}, "out/old": {"file", "stale"}})
			before := read(t, base)
			for n := range before {
				if strings.HasPrefix(n, "ws/out") {
					delete(before, n)
				}
			}
			if err := unpack(t, crafted(t, headers...), ws, "out"); err == nil {
				t.Error("it was unpacked")
			}
			if d := cmp.Diff(before, read(t, base)); d != "" {
				t.Errorf("it left something, or took something away:\n%s", d)
			}
		})
	}
}

func TestABombIsRefusedEarly(t *testing.T) {
	var b bytes.Buffer
	z, _ := zstd.NewWriter(&b)
	w := tar.NewWriter(z)
	_ = w.WriteHeader(&outDir)
	const size = 300 << 20
	_ = w.WriteHeader(&tar.Header{Name: "out/zeros", Typeflag: tar.TypeReg, Size: size, Mode: 0o644})
	zeros := make([]byte, 1<<20)
	for range size / len(zeros) {
		_, _ = w.Write(zeros)
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	_, err := Unpack(t.Context(), &b, open(t, dir), []string{"out"}, Limits{Bytes: 1 << 20})
	if err == nil {
		t.Fatal("it was unpacked")
	}
	if left := read(t, dir); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

// FuzzUnpack gives any bytes to Unpack. Nothing may appear outside the outputs.
func FuzzUnpack(f *testing.F) {
	for _, headers := range attacks() {
		f.Add(crafted(f, headers...))
	}
	dir := f.TempDir()
	write(f, dir, map[string]node{"out/a": {"file", "1"}, "out/d/l": {"link", "../a"}})
	good := pack(f, dir, "out")
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		base := t.TempDir()
		ws := filepath.Join(base, "ws")
		write(t, ws, map[string]node{"victim/f": {"file", "mine"}})
		_, err := Unpack(t.Context(), bytes.NewReader(b), open(t, ws), []string{"out"}, Limits{Entries: 100, Bytes: 1 << 20})
		for name, n := range read(t, base) {
			ours := name == "ws" || name == "ws/victim" || name == "ws/victim/f" && n.Content == "mine"
			if !ours && (err != nil || !under(name, "ws/out")) {
				t.Errorf("%s %v is there (%v)", name, n, err)
			}
			if n.Kind == "link" && !inside(strings.TrimPrefix(name, "ws/"), n.Content) {
				t.Errorf("%s leads to %s", name, n.Content)
			}
		}
	})
}

// BenchmarkArchive packs and unpacks 100 MB in 10,000 files, as tar does in the same
// run: the ratio counts.
func BenchmarkArchive(b *testing.B) {
	dir := b.TempDir()
	content := make([]byte, 10_000)
	for i := range content {
		content[i] = byte(i * i >> 3)
	}
	for i := range 10_000 {
		at := filepath.Join(dir, "out", fmt.Sprint(i/100))
		_ = os.MkdirAll(at, 0o755)
		_ = os.WriteFile(filepath.Join(at, fmt.Sprint(i)), append(content, byte(i), byte(i>>8)), 0o600)
	}
	tarred := filepath.Join(dir, "out.tar")
	run := func(args ...string) {
		b.Helper()
		if out, err := exec.Command("tar", args...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	run("-C", dir, "-cf", tarred, "out")
	packed := pack(b, dir, "out")
	for name, once := range map[string]func(){
		"pack":   func() { pack(b, dir, "out") },
		"tar-cf": func() { run("-C", dir, "-cf", filepath.Join(dir, "again.tar"), "out") },
		"unpack": func() {
			if err := unpack(b, packed, b.TempDir(), "out"); err != nil {
				b.Fatal(err)
			}
		},
		"tar-xf": func() { run("-C", b.TempDir(), "-xf", tarred) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(100_000_000)
			for b.Loop() {
				once()
			}
		})
	}
}
