package proxytest

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Docs returns docs/proxies.md. The tests that use it run two directories below
// the repository's root.
func Docs(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/proxies.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Documented returns the configuration under the proxy's heading, or under the one
// for a path of another site.
func (k Kind) Documented(t *testing.T, belowPath bool) string {
	t.Helper()
	heading := "\n## " + k.Name + "\n"
	if belowPath {
		heading = "\n### " + k.Name + ", below a path\n"
	}
	_, section, ok := strings.Cut(Docs(t), heading)
	if !ok {
		t.Fatalf("docs/proxies.md has no heading %q", strings.TrimSpace(heading))
	}
	section, _, _ = strings.Cut(section, "\n#")
	block := regexp.MustCompile("(?s)```" + k.Language + "\n(.*?)```").FindStringSubmatch(section)
	if block == nil {
		t.Fatalf("docs/proxies.md shows no configuration below %q", strings.TrimSpace(heading))
	}
	return block[1]
}
