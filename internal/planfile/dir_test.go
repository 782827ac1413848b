package planfile

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/buildcast/buildcast"
)

// directoryOf makes a directory called my-site with these files.
func directoryOf(t testing.TB, files map[string]string) string {
	dir := filepath.Join(t.TempDir(), "my-site")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		put(t, filepath.Join(dir, name), []byte(content))
	}
	return dir
}

func TestFindMakesAPlanOfADirectory(t *testing.T) {
	dir := directoryOf(t, map[string]string{
		"index.html": "<h1>", "src/main.js": "x", "assets/logo.png": "\xff\x00",
		".gitignore": "# made\ndist/\n*.log\n!keep.log\n/only-top\nsrc/made.js\n",
		"dist/a":     "", "src/dist/b": "", "debug.log": "", "src/keep.log": "", "only-top": "", "src/only-top": "", "src/made.js": "", "made.js": "",
		".git/config": "", "node_modules/react/index.js": "", "packages/a/node_modules/b": "", ".buildcast/buildcast.db": "",
	})
	if err := os.Symlink("main.js", filepath.Join(dir, "src/link.js")); err != nil {
		t.Fatal(err)
	}
	p, err := Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "my-site" || !p.Detect || len(p.Tasks) != 1 || p.Output != "" {
		t.Errorf("the plan is %+v", p)
	}
	want := []string{".gitignore", "assets/logo.png", "index.html", "made.js", "src/keep.log", "src/link.js", "src/main.js", "src/only-top"}
	if got := slices.Sorted(maps.Keys(p.Tasks[0].Files)); !slices.Equal(got, want) {
		t.Errorf("it brings %q, want %q", got, want)
	}
	if got := string(p.Tasks[0].Files["assets/logo.png"].Content); got != "\xff\x00" {
		t.Errorf("the picture is %q", got)
	}
}

func TestFindTakesThePlanOfADirectory(t *testing.T) {
	for _, name := range planNames {
		dir := directoryOf(t, map[string]string{name: `{"name": "own", "tasks": [{"name": "t", "run": "true"}]}`, "x": ""})
		if p, err := Find(dir); err != nil || p.Name != "own" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

func TestFindSaysWhatIsWrong(t *testing.T) {
	big := strings.Repeat("x", MaxFromSize/2)
	large := directoryOf(t, map[string]string{"film.mp4": big + "xx", "photo.jpg": big + "x", "index.html": ""})
	pipe := directoryOf(t, map[string]string{"index.html": ""})
	if err := syscall.Mkfifo(filepath.Join(pipe, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	outside := directoryOf(t, map[string]string{"index.html": ""})
	if err := os.Symlink("/etc/passwd", filepath.Join(outside, "users")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		code buildcast.Code
		want string
	}{
		"missing":      {filepath.Join(large, "nowhere"), buildcast.InvalidArgument, "nowhere does not exist: name a plan file, or a directory with a site"},
		"empty":        {directoryOf(t, map[string]string{".git/config": ""}), buildcast.InvalidArgument, "the directory has no files"},
		"too large":    {large, buildcast.TooLarge, "the files are 4.0 MiB in all, the limit is 4.0 MiB: the largest are film.mp4 (2.0 MiB), photo.jpg (2.0 MiB), index.html (0.0 MiB); list in .gitignore"},
		"named pipe":   {pipe, buildcast.InvalidArgument, `cannot read "pipe": it is neither a file nor a directory`},
		"link outside": {outside, buildcast.InvalidArgument, `cannot read "users": path escapes`},
		"bad name":     {directoryOf(t, map[string]string{`a\b`: ""}), buildcast.InvalidArgument, "is not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Find(c.path)
			if err == nil || buildcast.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func FuzzIgnore(f *testing.F) {
	f.Add("dist/\n!a\n**/b\n/c/d\n[a-", "a/dist", true)
	f.Fuzz(func(t *testing.T, text, name string, dir bool) {
		all := append(parseIgnore(text), always...)
		all.match(name, dir)
		if !all.match("a/node_modules", true) || !all.match(".git", true) {
			t.Error("node_modules or .git is brought")
		}
	})
}
