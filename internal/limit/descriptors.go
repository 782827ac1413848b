package limit

import (
	"math"

	"golang.org/x/sys/unix"
)

// Descriptors returns how many descriptors (files, connections, pipes) this
// process may have open. Go's runtime raises the soft limit to the hard one at
// start, and starts commands with the original limit.
func Descriptors() int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return 1024 // the default soft limit of many systems
	}
	return int(min(files.Cur, math.MaxInt32))
}
