package sandbox

import (
	"slices"
	"strings"
	"testing"
)

// A server's directory below one that is always shown is covered, and the directories
// that the command can write to come last.
func TestArgumentsHideAndOrder(t *testing.T) {
	binds, hide := Binds("", nil, []string{"/usr/local/buildcast-data"})
	if !slices.Equal(hide, []string{"/usr/local/buildcast-data"}) {
		t.Fatal(hide)
	}
	raw, err := Arguments(Layout{Dir: "/a", Home: "/b", Temp: "/c", Program: "/p", Binds: binds, Hidden: hide, Env: []string{"X=1"}})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.ReplaceAll(string(raw), "\x00", " ")
	if !strings.Contains(all, "--tmpfs /usr/local/buildcast-data") || strings.Index(all, "--tmpfs /usr/local") < strings.Index(all, "--ro-bind /usr /usr") {
		t.Error(all)
	}
	if !strings.HasSuffix(all, "--remount-ro / --bind /c /tmp --bind /b /home/build --bind /a /ws --chdir /ws --clearenv --setenv X 1 ") {
		t.Error(all)
	}
	if _, err := Arguments(Layout{Env: []string{"X=a\x00b"}}); err == nil {
		t.Error("a NUL byte ends an argument")
	}
}
