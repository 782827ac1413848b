package detect

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// workspace returns a directory with these files. A name that ends in / is a directory.
func workspace(t testing.TB, files map[string]string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

const vite = `{"scripts": {"build": "vite build"}, "devDependencies": {"vite": "7.0.0"}}`

func TestCommandsByLockFile(t *testing.T) {
	for name, c := range map[string]struct {
		files          map[string]string
		install, build string
	}{
		"npm":           {map[string]string{"package.json": vite, "package-lock.json": "{}"}, "npm ci", "npm run build"},
		"shrinkwrap":    {map[string]string{"package.json": vite, "npm-shrinkwrap.json": "{}"}, "npm ci", "npm run build"},
		"pnpm":          {map[string]string{"package.json": vite, "pnpm-lock.yaml": "lockfileVersion: '9.0'"}, "pnpm install --frozen-lockfile", "pnpm run build"},
		"yarn 1":        {map[string]string{"package.json": vite, "yarn.lock": "# yarn lockfile v1\n\n\n"}, "yarn install --frozen-lockfile", "yarn run build"},
		"yarn 4":        {map[string]string{"package.json": vite, "yarn.lock": "# by yarn\n\n__metadata:\n  version: 8\n"}, "yarn install --immutable", "yarn run build"},
		"bun":           {map[string]string{"package.json": vite, "bun.lock": "{}"}, "bun install --frozen-lockfile", "bun run build"},
		"bun, binary":   {map[string]string{"package.json": vite, "bun.lockb": "\x00"}, "bun install --frozen-lockfile", "bun run build"},
		"no lock file":  {map[string]string{"package.json": vite}, "npm install", "npm run build"},
		"named manager": {map[string]string{"package.json": `{"packageManager": "pnpm@9.1.0", "dependencies": {"a": "1"}, "scripts": {"build": "x"}}`}, "pnpm install", "pnpm run build"},
		"two lock files, one named": {
			map[string]string{"package.json": `{"packageManager": "npm@10.0.0", "scripts": {"build": "x"}}`, "package-lock.json": "{}", "yarn.lock": ""},
			"npm ci", "npm run build",
		},
		"two lock files":   {map[string]string{"package.json": vite, "package-lock.json": "{}", "pnpm-lock.yaml": ""}, "pnpm install --frozen-lockfile", "pnpm run build"},
		"no packages":      {map[string]string{"package.json": `{"scripts": {"build": "sh make.sh"}}`}, "", "npm run build"},
		"no build script":  {map[string]string{"package.json": `{"dependencies": {"a": "1"}, "scripts": {"test": "x"}}`}, "npm install", ""},
		"an empty script":  {map[string]string{"package.json": `{"scripts": {"build": " "}}`}, "", ""},
		"script no text":   {map[string]string{"package.json": `{"scripts": {"build": 7}}`}, "", ""},
		"lock file alone":  {map[string]string{"package-lock.json": "{}"}, "", ""},
		"lock is a folder": {map[string]string{"package.json": vite, "yarn.lock/": ""}, "npm install", "npm run build"},
		"nothing":          {map[string]string{"index.html": "<h1>"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := workspace(t, c.files)
			install, err := Install(root)
			if err != nil || install.Script != c.install {
				t.Errorf("install is %q, %v, want %q", install.Script, err, c.install)
			}
			build, err := Build(root)
			if err != nil || build.Script != c.build {
				t.Errorf("build is %q, %v, want %q", build.Script, err, c.build)
			}
			for _, found := range []Command{install, build} {
				if known, ok := Known(found.Script); ok != (found.Script != "") || known.Tool != found.Tool {
					t.Errorf("%q is known as %+v, %v", found.Script, known, ok)
				}
			}
		})
	}
}

func TestOutput(t *testing.T) {
	page := "<!doctype html>"
	for name, c := range map[string]struct {
		files map[string]string
		built bool
		want  string
	}{
		"vite":                      {map[string]string{"index.html": page, "public/icon.svg": "", "dist/index.html": page}, true, "dist"},
		"vite, outDir":              {map[string]string{"vite.config.ts": "export default {\n  build: { outDir: 'site' },\n}", "dist/index.html": page, "site/index.html": page}, true, "site"},
		"vite, root and outDir":     {map[string]string{"vite.config.js": "export default {\n  root: 'src',\n  build: {\n    outDir: '../www',\n  },\n}", "www/index.html": page}, true, "www"},
		"outDir that was not made":  {map[string]string{"vite.config.ts": "outDir: 'site'", "dist/index.html": page}, true, "dist"},
		"outDir in a comment":       {map[string]string{"vite.config.ts": "// outDir: 'site'", "site/index.html": page, "dist/index.html": page}, true, "dist"},
		"outDir outside":            {map[string]string{"vite.config.ts": "outDir: '../../etc'", "dist/index.html": page}, true, "dist"},
		"create-react-app":          {map[string]string{"public/index.html": page, "build/index.html": page}, true, "build"},
		"next export":               {map[string]string{"public/logo.svg": "", "out/index.html": page, ".next/x": ""}, true, "out"},
		"eleventy":                  {map[string]string{"_site/index.html": page, "public/a.css": ""}, true, "_site"},
		"nuxt":                      {map[string]string{".output/public/index.html": page, "public/a.css": ""}, true, ".output/public"},
		"scripts in build/":         {map[string]string{"build/tool.js": "", "public/index.html": page}, true, "public"},
		"no index.html":             {map[string]string{"dist/app.js": "x"}, true, "dist"},
		"static, public":            {map[string]string{"public/index.html": page}, false, "public"},
		"static, itself":            {map[string]string{"index.html": page, "style.css": ""}, false, "."},
		"built in place":            {map[string]string{"index.html": page}, true, "."},
		"an empty directory":        {map[string]string{"dist/": "", "index.html": page}, false, "."},
		"nothing":                   {map[string]string{"README.md": "x"}, false, ""},
		"a file called like it is":  {map[string]string{"dist": "x"}, true, ""},
		"page that is a directory?": {map[string]string{"public/index.html/": "", "_site/a": ""}, false, "_site"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Output(workspace(t, c.files), c.built)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("output is %q, %v, want %q", got, err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), "name the directory with output") {
				t.Errorf("the error does not say what to do: %v", err)
			}
		})
	}
}

// TestHostileFiles has files with which commands may try to hold up or mislead the server.
func TestHostileFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "package.json")
	if err := os.WriteFile(secret, []byte(vite), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		make func(path string) error
		want string // of the error
	}{
		"named pipe":   {func(path string) error { return syscall.Mkfifo(path, 0o644) }, "not a regular file"},
		"link outside": {func(path string) error { return os.Symlink(secret, path) }, "escapes"},
		"link to pipe": {func(path string) error {
			if err := syscall.Mkfifo(path+".fifo", 0o644); err != nil {
				return err
			}
			return os.Symlink("package.json.fifo", path)
		}, "not a regular file"},
		"directory": {func(path string) error { return os.Mkdir(path, 0o755) }, "not a regular file"},
		"too large": {func(path string) error {
			return os.WriteFile(path, []byte(`{"a": "`+strings.Repeat("x", maxFile)+`"}`), 0o644)
		}, "larger than 1048576 bytes"},
		"no JSON": {func(path string) error { return os.WriteFile(path, []byte("{"), 0o644) }, "repair it"},
		"nested":  {func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("[", 500_000)), 0o644) }, "repair it"},
		"a list":  {func(path string) error { return os.WriteFile(path, []byte("[]"), 0o644) }, "repair it"},
	} {
		t.Run(name, func(t *testing.T) {
			root := workspace(t, nil)
			if err := c.make(filepath.Join(root.Name(), "package.json")); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				_, err := Install(root)
				done <- err
			}()
			select {
			case err := <-done:
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want %q", err, c.want)
				}
				if err != nil && strings.Contains(err.Error(), root.Name()) {
					t.Errorf("the error names the server's path: %v", err)
				}
			case <-time.After(time.Minute):
				t.Fatal("it waits for ever")
			}
		})
	}
}

func TestMissingTool(t *testing.T) {
	pnpm := Command{Script: "pnpm install", Tool: "pnpm", Found: "pnpm-lock.yaml"}
	fix, ok := pnpm.Missing(127, "sh: 1: pnpm: not found")
	if !ok || !strings.Contains(fix, "npm install --global pnpm") || !strings.Contains(fix, "pnpm-lock.yaml") {
		t.Errorf("%q, %v", fix, ok)
	}
	for _, other := range []string{"sh: 1: vite: not found", ""} {
		if fix, ok := pnpm.Missing(127, other); ok {
			t.Errorf("%q gives %q", other, fix)
		}
	}
	if _, ok := (Command{}).Missing(127, "sh: 1: : not found"); ok {
		t.Error("a plan's own command has no fix")
	}
}

// FuzzDetect has files of any content: nothing panics, and the commands are the fixed ones.
func FuzzDetect(f *testing.F) {
	f.Add([]byte(vite), []byte("__metadata:"), []byte("outDir: 'x'"))
	f.Add([]byte(`{"scripts":null,"packageManager":{}}`), []byte(""), []byte("root: '..'\noutDir: '../x'"))
	f.Fuzz(func(t *testing.T, manifest, lock, config []byte) {
		root := workspace(t, map[string]string{"package.json": string(manifest), "yarn.lock": string(lock), "vite.config.js": string(config)})
		install, _ := Install(root)
		build, _ := Build(root)
		for _, c := range []Command{install, build} {
			if _, ok := Known(c.Script); !ok && c.Script != "" {
				t.Errorf("it makes up %q", c.Script)
			}
		}
		if dir, err := Output(root, true); err == nil && !filepath.IsLocal(dir) {
			t.Errorf("the output %q is outside", dir)
		}
	})
}

func TestFindPackages(t *testing.T) {
	root := workspace(t, map[string]string{
		"package.json": "{}", "package-lock.json": "{}", "node_modules/react/package.json": "{}", "node_modules/a/node_modules/b/x": "",
		"packages/ui/package.json": "{}", "packages/ui/node_modules/c/x": "", "packages/ui/src/a.js": "", ".git/package.json": "",
		"deep/1/2/3/4/5/6/7/8/9/package.json": "{}",
	})
	if err := os.Symlink("packages", filepath.Join(root.Name(), "link")); err != nil {
		t.Fatal(err)
	}
	p, err := FindPackages(root)
	want := "[package-lock.json package.json packages/ui/package.json] [node_modules packages/ui/node_modules] true true"
	if got := fmt.Sprint(p.Decisive, p.Modules, p.Locked, p.Truncated); err != nil || got != want {
		t.Errorf("packages are %s, %v, want %s", got, err, want)
	}
}
