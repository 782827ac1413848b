package secretenv

import (
	"slices"
	"strings"
	"testing"
)

func TestVerb(t *testing.T) {
	for line, want := range map[string]string{
		"buildcast":                                  "",
		"buildcast serve --listen :1":                "serve",
		"buildcast --config serve build p.yaml":      "build",
		"buildcast --config=x serve":                 "serve",
		"buildcast --help serve":                     "serve",
		"buildcast exec -- make build":               "exec",
		"buildcast emit --type build --data serve x": "emit",
	} {
		if got := verbOf(strings.Fields(line)); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestSplit(t *testing.T) {
	public, secret := split([]string{"PATH=/bin", "KEY=a=b", "EMPTY=", "KEYS=c", "odd"}, []string{"KEY", "EMPTY"})
	if !slices.Equal(public, []string{"PATH=/bin", "EMPTY=", "KEYS=c", "odd"}) || !slices.Equal(secret, []string{"KEY=a=b"}) {
		t.Errorf("%q, %q", public, secret)
	}
}
