package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/buildcast/buildcast"
)

// output makes an output directory with the files.
func output(t *testing.T, files ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "dist")
	for _, name := range files {
		write(t, filepath.Join(dir, name), name)
	}
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks that err is for users, and that its message holds the text.
func refused(t *testing.T, err error, code buildcast.Code, text string) {
	t.Helper()
	if buildcast.CodeOf(err) != code || err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want %s with %q", err, code, text)
	}
}

// secret makes a directory outside the output with a file in it.
func secret(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret.txt"), "secret")
	return dir
}

func open(t *testing.T, dir string) (*Output, error) {
	t.Helper()
	o, err := Open(t.Context(), dir, Public())
	if err == nil {
		t.Cleanup(o.Close)
	}
	return o, err
}

func TestCopyTakesFilesAndLinksInside(t *testing.T) {
	dir := output(t, "index.html", "a/b.txt", ".env", ".well-known/x", "node_modules/m.js", "a/.git/config")
	must(t, os.Symlink("a", filepath.Join(dir, "link")))
	must(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
	o, err := open(t, dir)
	must(t, err)
	to := filepath.Join(t.TempDir(), "copy")
	var last Progress
	must(t, o.Copy(t.Context(), Copy{To: to, Doing: "Copying", Done: "Copied"}, func(p Progress) { last = p }))
	if last.Message != "Copying 4 files (37 bytes)" {
		t.Errorf("progress %+v", last)
	}
	var got []string
	must(t, filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(to, path); err == nil {
			if !d.IsDir() && !d.Type().IsRegular() {
				t.Errorf("%s is a %v", name, d.Type())
			}
			got = append(got, name)
		}
		return err
	}))
	if want := []string{".", ".well-known", ".well-known/x", "a", "a/b.txt", "empty", "index.html", "link", "link/b.txt"}; !slices.Equal(got, want) {
		t.Errorf("copied %q, want %q", got, want)
	}
}

func TestHostileLinkToAFileOutside(t *testing.T) {
	dir := output(t, "index.html")
	must(t, os.Symlink(filepath.Join(secret(t), "secret.txt"), filepath.Join(dir, "page.html")))
	_, err := open(t, dir)
	refused(t, err, buildcast.InvalidArgument, `"page.html" in the output is a symbolic link`)
}

func TestHostileLinkToADirectoryOutside(t *testing.T) {
	dir := output(t, "index.html")
	must(t, os.Symlink(secret(t), filepath.Join(dir, "assets")))
	_, err := open(t, dir)
	refused(t, err, buildcast.InvalidArgument, `"assets" in the output is a symbolic link`)
}

func TestHostileLinkForTheOutput(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dist")
	must(t, os.Symlink(secret(t), dir))
	_, err := open(t, dir)
	refused(t, err, buildcast.InvalidArgument, "symbolic link")
}

func TestHostileNamedPipe(t *testing.T) {
	dir := output(t, "index.html")
	must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644))
	_, err := open(t, dir)
	refused(t, err, buildcast.InvalidArgument, `"pipe" in the output is a named pipe`)
}

func TestHostileDevice(t *testing.T) {
	dir := output(t, "index.html")
	err := syscall.Mknod(filepath.Join(dir, "zero"), syscall.S_IFCHR|0o666, 1<<8|5)
	if errors.Is(err, syscall.EPERM) { // only root makes devices; anybody makes links to them
		err = os.Symlink("/dev/zero", filepath.Join(dir, "zero"))
	}
	must(t, err)
	_, err = open(t, dir)
	refused(t, err, buildcast.InvalidArgument, `"zero" in the output`)
}

func TestHostileHugeFile(t *testing.T) {
	dir := output(t, "index.html", "huge")
	must(t, os.Truncate(filepath.Join(dir, "huge"), 10<<30)) // sparse: it takes no space
	_, err := open(t, dir)
	refused(t, err, buildcast.TooLarge, "larger than 1024 MiB")
}

// A directory with a million entries is not read to its end: nothing is kept of more
// than a piece beyond the limit.
func TestHostileDirectoryWithManyFiles(t *testing.T) {
	dir := output(t, "index.html")
	for i := range 4000 {
		must(t, os.Mkdir(filepath.Join(dir, fmt.Sprint(i)), 0o755))
	}
	seen := 0
	_, err := Open(t.Context(), dir, Rules{MaxFiles: 1500, Skip: func(string) bool { seen++; return false }})
	refused(t, err, buildcast.TooLarge, "more than 1500 files")
	if seen > 3000 {
		t.Errorf("%d entries were read for a limit of 1500", seen)
	}
}

func TestHostileTreeWithManyFiles(t *testing.T) {
	dir := output(t, "index.html")
	for i := range 40 {
		for j := range 40 {
			must(t, os.MkdirAll(filepath.Join(dir, fmt.Sprint(i), fmt.Sprint(j)), 0o755))
		}
	}
	_, err := Open(t.Context(), dir, Rules{MaxFiles: 1500, Skip: func(string) bool { return false }})
	refused(t, err, buildcast.TooLarge, "more than 1500 files")
}

// A process that outlived its command changes the output after it was listed.
func TestHostileChangesAfterTheListing(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T, file string)
		code   buildcast.Code
		want   string
	}{
		"a named pipe": {func(t *testing.T, file string) {
			must(t, os.Remove(file))
			must(t, syscall.Mkfifo(file, 0o644))
		}, buildcast.InvalidArgument, `"index.html"`},
		"a link outside": {func(t *testing.T, file string) {
			must(t, os.Remove(file))
			must(t, os.Symlink(filepath.Join(secret(t), "secret.txt"), file))
		}, buildcast.InvalidArgument, `"index.html"`},
		"a file that grew": {func(t *testing.T, file string) { must(t, os.Truncate(file, 11)) }, buildcast.TooLarge, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := output(t, "index.html")
			rules := Public()
			rules.MaxBytes = 10
			o, err := Open(t.Context(), dir, rules)
			must(t, err)
			defer o.Close()
			tt.change(t, filepath.Join(dir, "index.html"))
			to := filepath.Join(t.TempDir(), "copy")
			err = o.Copy(t.Context(), Copy{To: to, Doing: "Copying", Done: "Copied"}, func(Progress) {})
			refused(t, err, tt.code, tt.want)
			if b, _ := os.ReadFile(filepath.Join(to, "index.html")); strings.Contains(string(b), "secret") {
				t.Error("a file outside the output was copied")
			}
		})
	}
}
