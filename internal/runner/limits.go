package runner

import (
	"fmt"
	"time"
)

// Limits bound each command together with all processes that it starts. Zero means
// no limit.
type Limits struct {
	Memory    int64         // bytes
	Processes int           // processes and threads
	FileSize  int64         // bytes of one file
	Disk      int64         // bytes of workspace, home and temporary directory
	CPU       time.Duration // time on processors, of one process
}

// openFiles is how many descriptors a process may have.
const openFiles = 4096

// The limits by name, as in the flags that set them.
const (
	limitMemory    = "memory"
	limitProcesses = "processes"
	limitFileSize  = "file-size"
	limitDisk      = "disk"
	limitCPU       = "cpu"
)

// exceeded says which limit ended a command, and the fix.
func (l Limits) exceeded(name string) string {
	var what string
	switch name {
	case limitMemory:
		what = fmt.Sprintf("used more than %s of memory", size(l.Memory))
	case limitProcesses:
		what = fmt.Sprintf("had more than %d processes and threads", l.Processes)
	case limitFileSize:
		what = fmt.Sprintf("wrote a file of more than %s", size(l.FileSize))
	case limitDisk:
		what = fmt.Sprintf("and those before it filled the build's directories with more than %s", size(l.Disk))
	case limitCPU:
		what = fmt.Sprintf("used a processor for more than %v", l.CPU)
	}
	return fmt.Sprintf("the command %s and was stopped: let it need less, or start the server with a higher --limit-%s", what, name)
}

// size writes bytes for people.
func size(n int64) string {
	for _, u := range []struct {
		bytes int64
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.bytes {
			return fmt.Sprintf("%.4g %s", float64(n)/float64(u.bytes), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
