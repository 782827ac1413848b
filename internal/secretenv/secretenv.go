// Package secretenv keeps the server's secrets from the commands that it runs.
//
// Every process of the same user can read in /proc the environment with which a
// process was started, whatever the process changes in it later. So a server that is
// started with secrets in its environment starts itself again without them, by exec,
// which keeps the process id, the arguments and the parent. An anonymous file hands
// the secrets over. The server's memory is closed to other processes too.
package secretenv

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// handedOver holds the number of the descriptor with the secrets after the exec.
const handedOver = "BUILDCAST_SECRETS_FD"

// Hide is called at the beginning of main, with the program's arguments and the names
// of the variables that hold secrets. It does nothing unless the verb, the first
// argument that is not a flag, is one of verbs: those that run builds' commands.
// os.Getenv still returns the variables after it.
func Hide(args, verbs, variables []string) error {
	if os.Getenv(handedOver) != "" {
		if err := takeOver(); err != nil {
			return fmt.Errorf("cannot read the secrets of the environment after the restart without them: %w", err)
		}
	} else if !slices.Contains(verbs, verbOf(args)) {
		return nil
	} else if public, secret := split(os.Environ(), variables); len(secret) > 0 {
		if err := startAgain(args, public, secret); err != nil {
			return fmt.Errorf("the secrets of the environment cannot be hidden from commands: %w; keep them in files (@FILE)", err)
		}
	}
	return closeMemory()
}

// verbOf returns the first argument that is neither a flag nor the value of one.
func verbOf(args []string) string {
	for i := 1; i < len(args); i++ {
		switch {
		case args[i] == "--config": // the one flag with a value that may come before the verb
			i++
		case !strings.HasPrefix(args[i], "-"):
			return args[i]
		}
	}
	return ""
}

// split separates the variables that are set from the rest of the environment.
func split(environ, variables []string) (public, secret []string) {
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if slices.Contains(variables, name) && value != "" {
			secret = append(secret, entry)
		} else {
			public = append(public, entry)
		}
	}
	return public, secret
}
