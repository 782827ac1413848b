package cloudflare

import (
	"strings"
	"testing"
)

// The vectors were read from wrangler's requests.
func TestHashAsset(t *testing.T) {
	for _, v := range []struct{ name, content, hash string }{
		{"app.js", "console.log(\"hello\");\n", "fa7817b8787bf6785850122187a858c4"},
		{"style.css", "body{font-family:sans-serif}\n", "1213e4440beeb8fe03dcb36eaa2695eb"},
		{"assets/LICENSE", "no extension\n", "156977954e7441519da96d8dd9f46d71"},
		{"assets/data.json", "{\"nested\":true}\n", "a1482cc7294cc73390061ba5bb122d06"},
		{"assets/empty.txt", "", "f9bc91770fa5e997cbd47fba833629fc"},
		{"assets/na me é.txt", "café €\n", "5a053eb41d8fe0e8b779b0221c94d21d"},
		{"logo.png", "foobar", "2082190357cfd3617ccfe04f340c6247"},
		{"noext", "x", "c89c27f28e24f706b72c408fe1d6537a"},
		{"dir.d/.gitignore", "x", "c89c27f28e24f706b72c408fe1d6537a"},
		{"a.", "x", "c89c27f28e24f706b72c408fe1d6537a"},
		{"a.tar.gz", "x", "5ff97cea8ec5a5f41c0d36ee3bed6eea"},
	} {
		if got, err := hashAsset(strings.NewReader(v.content), v.name); err != nil || got != v.hash {
			t.Errorf("%s: %s, %v, want %s", v.name, got, err, v.hash)
		}
	}
}
