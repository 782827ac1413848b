package limit

import (
	"math"

	"golang.org/x/sys/unix"
)

// Descriptors returns how many descriptors (files, connections, pipes) this
// process may have open. Go's runtime has raised the soft limit to the hard one
// at start, and gives commands the limit that was there before.
func Descriptors() int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return 1024 // what systems allow that allow little
	}
	return int(min(files.Cur, math.MaxInt32))
}
