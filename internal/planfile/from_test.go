package planfile

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
)

// planDir makes a directory with a plan of one task with the files, and other files
// beside it. It returns the plan's path.
func planDir(t *testing.T, files string, beside map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "plans")
	for name, content := range beside {
		put(t, filepath.Join(dir, name), []byte(content))
	}
	path := filepath.Join(dir, "plan.yaml")
	put(t, path, []byte(task("files:\n  "+strings.ReplaceAll(files, "\n", "\n  "))))
	return path
}

// contents are the files of the plan's one task.
func contents(p *buildcast.Plan) map[string]string {
	all := make(map[string]string)
	for name, f := range p.Tasks[0].Files {
		all[name] = string(f.Content)
	}
	return all
}

func TestFrom(t *testing.T) {
	beside := map[string]string{
		"a.txt": "a", "site/index.html": "index", "site/css/a.css": "css", "site/.well-known/x": "x",
		"site/.git/HEAD": "x", "site/node_modules/m.js": "x",
	}
	tests := []struct {
		name, files string
		want        map[string]string
	}{
		{"a file", "b.txt: {from: a.txt}", map[string]string{"b.txt": "a"}},
		{"not in shortest form", "b.txt: {from: ./site/../a.txt}", map[string]string{"b.txt": "a"}},
		{"a directory", "public: {from: site}", map[string]string{"public/index.html": "index", "public/css/a.css": "css", "public/.well-known/x": "x"}},
		{"a directory with its slash", "public: {from: site/css/}", map[string]string{"public/a.css": "css"}},
		{"a directory to the top", ".: {from: site/css}\nb: c", map[string]string{"a.css": "css", "b": "c"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Read(planDir(t, tt.files, beside))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, contents(p)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFromFollowsLinksThatStayInside(t *testing.T) {
	path := planDir(t, "b.txt: {from: link.txt}", map[string]string{"sub/a.txt": "a"})
	if err := os.Symlink("sub/a.txt", filepath.Join(filepath.Dir(path), "link.txt")); err != nil {
		t.Fatal(err)
	}
	p, err := Read(path)
	if err != nil || contents(p)["b.txt"] != "a" {
		t.Errorf("plan %v, %v", p, err)
	}
}

func TestFromErrors(t *testing.T) {
	tests := []struct{ name, files, want string }{
		{"not there", "b: {from: nowhere.txt}", `cannot read "nowhere.txt": no such file or directory`},
		{"a parent directory", "b: {from: ../secret.txt}", `path "../secret.txt" is not allowed`},
		{"a parent in the middle", "b: {from: site/../../secret.txt}", "is not allowed"},
		{"an absolute path", "b: {from: /etc/passwd}", `path "/etc/passwd" is not allowed`},
		{"a zero byte", `b: {from: "a\0"}`, "is not allowed"},
		{"nothing", `b: {from: ""}`, "is not allowed"},
		{"a link that leads out", "b: {from: out.txt}", `cannot read "out.txt": path escapes from parent`},
		{"a directory that leads out", "b: {from: up/secret.txt}", `cannot read "up/secret.txt": path escapes from parent`},
		{"a link that leads out, in a directory", "b: {from: site}", `cannot read "site/out.txt": path escapes from parent`},
		{"a named pipe", "b: {from: pipe}", `cannot read "pipe": it is not a regular file`},
		{"an empty directory", "b: {from: empty}", `directory "empty" has no files`},
		{"a file twice", "site2: {from: ok}\nsite2/a.txt: x", `file "site2/a.txt" is in this task twice`},
		{"to outside the workspace", "../b: {from: ok}", `path "../b/a.txt" is not allowed`},
		{"not text", "b: {from: [a]}", "from: want text, got a list"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := planDir(t, tt.files, map[string]string{"../secret.txt": "secret", "site/x.txt": "x", "ok/a.txt": "a"})
			dir := filepath.Dir(path)
			for at, to := range map[string]string{"out.txt": "../secret.txt", "up": "..", "site/out.txt": "/etc/passwd"} {
				if err := os.Symlink(to, filepath.Join(dir, at)); err != nil {
					t.Fatal(err)
				}
			}
			if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
				t.Fatal(err)
			}
			_, err := Read(path)
			if err == nil || !strings.HasPrefix(err.Error(), path+":5:") && !strings.HasPrefix(err.Error(), path+":6:") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestFromTooLarge(t *testing.T) {
	half := strings.Repeat("x", MaxFromSize/2)
	files := "a: {from: half}\nb: {from: half}"
	if _, err := Read(planDir(t, files, map[string]string{"half": half})); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	_, err := Read(planDir(t, files+"\nc: {from: one}\nd: {from: one}", map[string]string{"half": half, "one": "x"}))
	if buildcast.CodeOf(err) != buildcast.TooLarge || !strings.Contains(err.Error(), `with "one"`) || !strings.Contains(err.Error(), "4194304") {
		t.Errorf("error %v", err)
	}
}

func TestReadErrors(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "none.yaml: cannot read the plan file: no such file or directory",
		dir:                             dir + ": cannot read the plan file: is a directory",
	} {
		_, err := Read(path)
		if err == nil || !strings.HasSuffix(err.Error(), want) || buildcast.CodeOf(err) != buildcast.InvalidArgument {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	large := filepath.Join(dir, "large.yaml")
	put(t, large, []byte("name: p\nbuild: x\n#"+strings.Repeat("x", MaxSize)))
	if _, err := Read(large); buildcast.CodeOf(err) != buildcast.TooLarge {
		t.Errorf("error %v", err)
	}
}
