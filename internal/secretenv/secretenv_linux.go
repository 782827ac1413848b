package secretenv

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// startAgain does not return if it succeeds.
func startAgain(args, public, secret []string) error {
	fd, err := unix.MemfdCreate("secrets", 0) // no close-on-exec: the next program reads it
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "secrets")
	defer file.Close()
	if err := json.NewEncoder(file).Encode(secret); err != nil {
		return err
	}
	if _, err := file.Seek(0, 0); err != nil {
		return err
	}
	return unix.Exec("/proc/self/exe", args, append(public, handedOver+"="+strconv.Itoa(fd)))
}

func takeOver() error {
	fd, err := strconv.Atoi(os.Getenv(handedOver))
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "secrets")
	defer file.Close()
	var secret []string
	if err := json.NewDecoder(file).Decode(&secret); err != nil {
		return err
	}
	for _, entry := range secret {
		name, value, _ := strings.Cut(entry, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return os.Unsetenv(handedOver)
}

// closeMemory keeps processes of the same user from reading this one's memory and
// environment, and from tracing it. It also prevents core dumps.
func closeMemory() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
