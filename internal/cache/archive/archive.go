// Package archive packs a workspace's outputs into a tar.zst, and puts them back.
//
// An archive has regular files (mode 0644 or 0755), directories (0755) and relative
// links that stay inside the workspace. Times and owners are constant, and the order
// is that of the names: the same outputs make the same bytes.
//
// Unpack trusts no archive. It refuses everything else, names outside the outputs,
// names that are not in order (so there are no duplicates), files below links, and
// more than the limits allow. All files are opened through os.Root and never through
// a link of the archive, so nothing is written outside the workspace.
package archive

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Limits bound an archive. 0 means the default.
type Limits struct {
	Entries int   // files, directories and links; default 200,000
	Bytes   int64 // of all files together; default 4 GiB
}

func (l Limits) withDefaults() Limits {
	if l.Entries == 0 {
		l.Entries = 200_000
	}
	if l.Bytes == 0 {
		l.Bytes = 4 << 30
	}
	return l
}

const (
	maxPath   = 4096 // bytes of a name, or of a link's target
	maxDepth  = 100  // directories above a file
	window    = 4 << 20
	filePerm  = 0o644
	progPerm  = 0o755
	dirPerm   = 0o755
	execBits  = 0o111
	outOfPack = "it is neither a file, a directory nor a link"
)

// constant is the time of all files.
var constant = time.Unix(1_000_000_000, 0)

// Stats is what was packed or unpacked.
type Stats struct {
	Entries int
	Bytes   int64 // of all files together
}

func (s *Stats) count(name string, size int64, l Limits) error {
	s.Entries++
	s.Bytes += size
	switch {
	case s.Entries > l.Entries:
		return fmt.Errorf("there are more than %d files", l.Entries)
	case size < 0 || s.Bytes > l.Bytes || s.Bytes < 0:
		return fmt.Errorf("%q: the files have more than %d bytes together", name, l.Bytes)
	}
	return nil
}

// errNoOutput is the error for a declared output that does not exist.
var errNoOutput = errors.New("it does not exist")

// Missing reports whether Pack failed because a declared output does not exist.
func Missing(err error) bool { return errors.Is(err, errNoOutput) }

// roots returns the outputs without those below others, in the order of compare.
func roots(outputs []string) []string {
	sorted := make([]string, 0, len(outputs))
	for _, o := range outputs {
		sorted = append(sorted, path.Clean(o))
	}
	slices.SortFunc(sorted, compare)
	var tops []string
	for _, o := range sorted {
		if n := len(tops); n == 0 || !under(o, tops[n-1]) {
			tops = append(tops, o)
		}
	}
	return tops
}

// under reports whether name is dir or below it.
func under(name, dir string) bool {
	return dir == "." || name == dir || strings.HasPrefix(name, dir) && name[len(dir)] == '/'
}

// compare compares names as a walk visits them: a directory before what is in it,
// and that before the directory's next sibling.
func compare(a, b string) int {
	for i := range min(len(a), len(b)) {
		switch {
		case a[i] == b[i]:
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		default:
			return int(a[i]) - int(b[i])
		}
	}
	return len(a) - len(b)
}

// validName reports whether the name is a clean path below the workspace.
func validName(name string) bool {
	return name != "" && name != "." && len(name) <= maxPath && path.Clean(name) == name && name[0] != '/' &&
		name != ".." && !strings.HasPrefix(name, "../") && !strings.ContainsAny(name, "\x00\\") && strings.Count(name, "/") < maxDepth
}

// inside reports whether a link at name may have the target. It must be relative, and
// have .. at its start only, never so many that it leaves the workspace: then no
// chain of such links leaves it.
func inside(name, target string) bool {
	if target == "" || len(target) > maxPath || target[0] == '/' || strings.ContainsAny(target, "\x00\\") {
		return false
	}
	depth := strings.Count(name, "/")
	begun := false
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; begun || depth < 0 {
				return false
			}
		default:
			begun = true
		}
	}
	return true
}
