package workspace

import (
	"os"
	"strings"
)

// bootID changes each time the machine starts.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
