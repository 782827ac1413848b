package config

import (
	"strings"
	"testing"

	"github.com/buildcast/buildcast"
)

func TestNPMRegistry(t *testing.T) {
	for _, good := range []string{"", "https://npm.example.com/", "http://10.0.0.5:4873"} {
		c := defaults(t)
		c.NPMRegistry = good
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"npm.example.com", "ftp://npm.example.com", "https://", "https://me:secret@npm.example.com/", "https://npm.example.com/?token=secret"} {
		c := defaults(t)
		c.NPMRegistry = bad
		err := c.Check()
		if buildcast.CodeOf(err) != buildcast.InvalidArgument || !strings.HasPrefix(err.Error(), "--npm-registry: ") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestEgress(t *testing.T) {
	c, err := parse(t, "egress-allow: [registry.example.com, '*.example.com']\n", "--egress-allow-private=10.1.2.3/32,fd00::/8")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.Egress.Allow, " "); got != "registry.example.com *.example.com" {
		t.Errorf("%q", got)
	}
	if len(c.Egress.AllowPrivate) != 2 || c.Egress.AllowPrivate[0].String() != "10.1.2.3/32" {
		t.Errorf("%v", c.Egress.AllowPrivate)
	}
}
