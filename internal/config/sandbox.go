package config

import (
	"os"
	"path/filepath"
	"time"
)

// Limits bound each command of a build together with all processes that it starts. 0
// means no limit.
type Limits struct {
	Memory    Size          `default:"4GiB" placeholder:"SIZE" help:"Memory of one command with all its processes, such as 4GiB; 0: no limit."`
	Processes int           `default:"2048" placeholder:"N" help:"Processes and threads of one command at once; 0: no limit."`
	FileSize  Size          `default:"4GiB" placeholder:"SIZE" help:"Largest file that a command may write, such as 4GiB; 0: no limit."`
	Disk      Size          `default:"20GiB" placeholder:"SIZE" help:"What a build's workspace, home and temporary directory may take on the disk, such as 20GiB; 0: no limit."`
	CPU       time.Duration `name:"cpu" default:"4h" placeholder:"DURATION" help:"Time on processors that one process of a command may use, such as 4h; 0: no limit."`
}

// The least that the limits may be: with less, no shell starts.
const (
	minMemory    = 32 << 20
	minProcesses = 50
	minBytes     = 1 << 20
)

func (l *Limits) check() error {
	switch {
	case l.Memory != 0 && l.Memory < minMemory:
		return invalid("--limit-memory", "it is %v: use at least %v, or 0 for no limit", l.Memory, Size(minMemory))
	case l.Processes != 0 && l.Processes < minProcesses:
		return invalid("--limit-processes", "it is %d: use at least %d, or 0 for no limit", l.Processes, minProcesses)
	case l.FileSize != 0 && l.FileSize < minBytes:
		return invalid("--limit-file-size", "it is %v: use at least %v, or 0 for no limit", l.FileSize, Size(minBytes))
	case l.Disk != 0 && l.Disk < minBytes:
		return invalid("--limit-disk", "it is %v: use at least %v, or 0 for no limit", l.Disk, Size(minBytes))
	case l.CPU < 0 || l.CPU > 0 && l.CPU < time.Second:
		return invalid("--limit-cpu", "it is %v: use at least 1s, or 0 for no limit", l.CPU)
	}
	return nil
}

func (c *Config) checkSandbox() error {
	for _, dir := range c.SandboxRead {
		if !filepath.IsAbs(dir) {
			return invalid("--sandbox-read", "%s is not an absolute path", dir)
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return invalid("--sandbox-read", "%s is not a directory", dir)
		}
	}
	return c.Limits.check()
}

// Exposed reports whether others than this machine's users may start builds.
func (c *Config) Exposed() bool {
	return !Loopback(c.Listen) || len(c.APIKeys) > 0 || c.Insecure
}
