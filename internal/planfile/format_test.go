package planfile

import (
	"bytes"
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"github.com/buildcast/buildcast"
)

func TestFormat(t *testing.T) {
	p := &buildcast.Plan{
		Name: "bakery", Install: "npm ci", Build: "npm run build\nnpm test", Output: "dist", Env: map[string]string{"MODE": "true", "N": "07"},
		Tasks: []buildcast.Task{
			{Name: "Page", Files: map[string]buildcast.File{
				"index.html": {Content: []byte("<!doctype html>\n<h1>Bread & more</h1>\n")},
				"bread.png":  {Content: []byte{0xff, 0}},
			}},
			{Name: "Check: all", Needs: []string{"Page"}, Run: "test -s index.html", Outputs: []string{"report"}},
		},
	}
	got, err := Format(p)
	if err != nil {
		t.Fatal(err)
	}
	const want = `name: bakery
tasks:
- name: Page
  files:
    bread.png:
      base64: /wA=
    index.html: |
      <!doctype html>
      <h1>Bread & more</h1>
- name: 'Check: all'
  needs:
  - Page
  run: test -s index.html
  outputs:
  - report
install: npm ci
build: |-
  npm run build
  npm test
env:
  MODE: 'true'
  N: '07'
output: dist
`
	if string(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// Whatever a plan's texts hold, what is written is read as the same plan.
func TestFormatIsReadAsTheSamePlan(t *testing.T) {
	text := rapid.OneOf(
		rapid.String(),
		rapid.SampledFrom([]string{"", "true", "~", "- a", "a: b", "07", " a\n b", "\n", "\na\n\n", "a \nb", "\ta\n", "# x", "\u2028\nx", "\x7f\n", "\u0085\n", "a\r\nb", "'\"", "|", "\ufeffa\nb"}),
	)
	rapid.Check(t, func(t *rapid.T) {
		p := &buildcast.Plan{Name: text.Draw(t, "name"), Build: text.Draw(t, "build"), Tasks: []buildcast.Task{{
			Name: text.Draw(t, "task"), Run: text.Draw(t, "run"), Needs: []string{text.Draw(t, "need")},
			Files: map[string]buildcast.File{"a" + text.Draw(t, "path"): {Content: []byte(text.Draw(t, "content"))}},
			Env:   map[string]string{"A": text.Draw(t, "value")},
		}}}
		file, err := Format(p)
		if err != nil {
			t.Fatal(err)
		}
		r := &reader{file: "plan.yaml", budget: MaxFromSize, at: make(map[string]position)}
		root := r.parse(file)
		if root == nil {
			t.Fatalf("%v:\n%s", r.err(), file)
		}
		read := r.plan(root)
		if err := r.err(); err != nil {
			t.Fatalf("%v:\n%s", err, file)
		}
		was, _ := json.Marshal(p)
		is, _ := json.Marshal(read)
		if !bytes.Equal(was, is) {
			t.Fatalf("%s\nis read as\n%s\nfile:\n%s", was, is, file)
		}
	})
}
